"""Table, picture, page, README and history all tell the same run."""

import base64
import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from bench import history, page, plot, readme, table
from bench.compare import compare
from bench.results import EngineRow, dumps
from bench.units import digits, duration, hash_rate, settings
from tests.bench_samples import ABSENT, BROKEN, MACHINE, results, row


def printed(show, *arguments, width=120):
    out = StringIO()
    show(*arguments, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.5, "0.50 H/s"),
        (999.4, "999 H/s"),
        (999.6, "1.00 kH/s"),
        (71.23e6, "71.2 MH/s"),
        (13.1e9, "13.1 GH/s"),
    ],
)
def test_rates_have_three_digits(rate, text):
    assert hash_rate(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0042, "4.20 ms"), (0.33, "0.33 s"), (60, "1 min 0 s"), (4740, "1 h 19 min"), (200_000, "2 d 7 h")],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


def test_digits_never_turn_to_exponents():
    assert [digits(v) for v in (1.234, 9.996, 99.96, 14443.2)] == ["1.23", "10.0", "100", "14,443"]


def test_the_table_shows_every_device_slowest_first_and_why_some_have_no_rate():
    text = printed(table.show, results(refused=[ABSENT, BROKEN]))
    places = [text.index(name) for name in ("python ", "multiprocess ", "numpy ", "numba ")]
    assert places == sorted(places)
    assert "4,130/4,130 hits, 0 missing, 0 extra" in text
    assert "cuda          not available: no CUDA driver on this machine" in text
    assert "opencl:0      FAILED, no rate: 3 of 4,130 hits are missing" in text
    assert "One hash is one SHA-256d of an 80-byte header." in text
    assert "energy n/a    no counter" in text


@pytest.mark.parametrize("width", [72, 80, 100, 120, 200])
def test_no_cell_of_the_table_is_cut_at_usual_widths(width):
    text = printed(table.show, results(), width=width)
    assert "…" not in text
    assert "MH/s" in text


def test_sweeps_and_engine_runs_have_tables_of_their_own():
    swept = [row("numba", threads=n, rate=n * 30e6, sweep="threads") for n in (1, 2)]
    engine = EngineRow("numba", 30.0, 1_770_000_000, 60e6, 1180, 1200.0, 58, 0.026, 0.055)
    text = printed(table.show, replace(results(*swept), engine=(engine,)))
    assert "by threads" in text
    assert "2.00 x" in text or "1.99 x" in text or "2.01 x" in text
    assert "98.3%" in text
    assert "26 ms" in text


def test_no_cell_of_the_engines_table_is_cut_at_80_columns():
    engine = EngineRow("multiprocess", 30.0, 1_770_000_000, 60e6, 1180, 1200.0, 58, 0.026, 0.105)
    text = printed(table.show, replace(results(), engine=(engine,)), width=80)
    assert "…" not in text
    assert "105 ms" in text


def test_a_backend_with_brackets_in_its_reason_is_printed_as_it_is():
    odd = replace(ABSENT, reason="pip install 'nonceforge[cuda12]'")
    assert "nonceforge[cuda12]" in printed(table.show, results(refused=[odd]))


def test_the_picture_is_a_png_with_every_backend_and_factor():
    run = results(*[row(n) for n in ("python", "numba")], row("numba", threads=2, sweep="threads"))
    assert plot.png(run).startswith(b"\x89PNG")
    axes = plot.draw(run).axes
    texts = " ".join(text.get_text() for text in axes[0].texts)
    assert "× python" in texts
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["python", "numba"]
    assert axes[0].get_xscale() == "log"


def test_a_run_without_rates_has_no_picture():
    with pytest.raises(ValueError, match="no device has a rate"):
        plot.png(replace(results(), rows=()))


def test_the_page_is_alone_in_the_world_and_holds_the_picture():
    text = page.page(results(refused=[ABSENT, BROKEN]))
    assert not re.search(r'(src|href)="(?!data:)', text)
    picture = re.search(r'src="data:image/png;base64,([^"]+)"', text)
    assert base64.b64decode(picture[1]).startswith(b"\x89PNG")
    assert "3 of 4,130 hits are missing" in text


def test_what_a_driver_says_cannot_break_the_page():
    text = page.page(results(refused=[replace(ABSENT, reason="<script>alert(1)</script>")]))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


README = f"# Title\n\nbefore\n\n{readme.BEGIN}\nold\n{readme.END}\n\nafter\n"


def test_the_readme_table_is_replaced_and_nothing_else(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(README)
    assert readme.update(path, results(), "bench/results/x.json")
    text = path.read_text()
    assert text.startswith("# Title\n\nbefore\n\n")
    assert text.endswith("\n\nafter\n")
    assert "old" not in text
    assert text.index("`numba`") < text.index("`python`")  # fastest first
    assert "[bench/results/x.json](bench/results/x.json)" in text
    assert not readme.update(path, results(), "bench/results/x.json")  # the second time nothing changes


def test_a_readme_without_a_place_for_the_table_is_left_alone(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("# Title\n")
    with pytest.raises(ValueError, match="no <!-- bench:begin -->"):
        readme.update(path, results(), "x.json")
    assert path.read_text() == "# Title\n"


def test_history_judges_each_run_against_the_one_before():
    calm = [row(name, noise=0.002) for name in ("python", "numba")]
    slower = [calm[0], row("numba", 60e6, noise=0.002)]
    runs = [
        results(*calm, created="2026-11-20T12:00:00Z"),
        results(*calm, created="2026-11-21T12:00:00Z"),
        results(*slower, created="2026-11-22T12:00:00Z"),
        results(*calm, created="2026-11-22T13:00:00Z", machine=replace(MACHINE, cores=64)),
    ]
    text = printed(history.show, runs)
    assert text.count("same") == 3
    assert text.count("slower") == 1
    assert "2 x AMD EPYC" in text
    assert "64 x AMD EPYC" in text


def test_runs_are_found_by_date_whatever_their_files_are_called(tmp_path):
    (tmp_path / "a.json").write_text(dumps(results(created="2026-11-22T12:00:00Z")))
    (tmp_path / "b.json").write_text(dumps(results(created="2026-11-20T12:00:00Z")))
    assert history.newest(tmp_path).name == "a.json"
    assert [run.created[:10] for run in history.load_all(tmp_path)] == ["2026-11-20", "2026-11-22"]


def test_a_folder_or_file_that_holds_no_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no results"):
        history.load_all(tmp_path)
    with pytest.raises(ValueError, match=r"gone.json cannot be read: No such file"):
        history.load(tmp_path / "gone.json")
    (tmp_path / "x.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"x.json cannot be read"):
        history.load(tmp_path / "x.json")


def test_the_comparison_shows_change_and_interval():
    before, after = results(row("numba", noise=0.002)), results(row("numba", 60e6, noise=0.002))
    text = printed(table.show_comparison, compare(before, after))
    assert "SLOWER" in text
    assert "-15." in text


def test_a_file_name_tells_date_and_machine():
    assert history.name_of(results()) == "2026-11-22T1200-amd-epyc-2-default"


def test_settings_are_said_in_words():
    assert settings(row("numba", threads=2, versions=8)) == "2 threads, 8 versions"
    assert settings(row("opencl:0", versions=4)) == "4 versions"
