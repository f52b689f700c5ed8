"""The command line: what it prints, what it writes, how it ends."""

import json
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import calibrate, campaign, measure, session
from bench.campaign import Setting, candidate_for
from bench.ground import Ground
from bench.measure import Measurement, Plan
from bench.results import dumps, loads
from miner.backends.python import PythonBackend
from tests import mutants
from tests.bench_samples import results, row

TINY = Plan(
    rounds=4,
    round_seconds=0.02,
    batch_seconds=0.005,
    warmup_seconds=0.05,
    yardstick_seconds=0.0002,
    windows=2,
)


@pytest.fixture
def tiny(monkeypatch):
    """The plans of real runs, at a hundredth of their length."""
    monkeypatch.setattr(session, "QUICK", TINY)
    monkeypatch.setattr(session, "DEFAULT", TINY)


@pytest.fixture
def files(tmp_path):
    """Two runs, the second with a numba that is 15 % slower."""
    calm = [row(name, noise=0.002) for name in ("python", "numba")]
    before = results(*calm, created="2026-11-21T12:00:00Z")
    after = results(calm[0], row("numba", 60e6, noise=0.002))
    paths = tmp_path / "before.json", tmp_path / "after.json"
    for path, run in zip(paths, (before, after), strict=True):
        path.write_text(dumps(run))
    return [str(path) for path in paths]


def test_a_run_prints_the_table_and_writes_all_three_files(tiny, tmp_path, capsys):
    status = command.main(["--backend", "python", "--seed", "7", "--save", str(tmp_path / "new")])
    assert status == 0
    out = capsys.readouterr().out
    assert "python" in out
    assert "0 missing, 0 extra" in out
    kinds = {path.suffix: path for path in (tmp_path / "new").iterdir()}
    assert set(kinds) == {".json", ".html", ".png"}
    run = loads(kinds[".json"].read_text())
    assert run.seed == 7
    assert [row.backend for row in run.rows] == ["python"]
    assert len(run.rows[0].rounds) == TINY.rounds


def test_a_device_that_fails_its_proof_ends_with_status_3_and_no_rate(tiny, monkeypatch, capsys):
    broken = mutants.SkipsEveryThousandth()
    monkeypatch.setattr(campaign, "open_backend", lambda name, threads: broken)
    assert command.main(["--backend", "python"]) == 3
    out = capsys.readouterr().out
    assert "FAILED, no rate" in out
    assert "H/s" not in out.replace("hash rate", "")


def test_a_backend_that_is_not_there_is_named_and_leaves_nothing_to_measure(tiny, capsys):
    assert command.main(["--backend", "cuda:63"]) == 1
    assert "cuda:63  not available: " in capsys.readouterr().out


def test_a_backend_that_nobody_knows_is_a_mistake(tiny, capsys):
    assert command.main(["--backend", "abacus"]) == 2
    assert capsys.readouterr().err.startswith("bench: no backend is called 'abacus'")


@pytest.mark.parametrize(
    "words",
    [
        ["--threads", "0"],
        ["--threads", "1e3"],
        ["--stress", "0"],
        ["--quick", "--stress", "1"],
        ["--seed", "-1"],
        ["--backend", "python,,numba"],
        ["--sweep", "colours"],
        ["--nonsense"],
    ],
)
def test_bad_options_are_refused_with_one_line(words, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(words)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_stress_measures_and_proves_again_and_again_and_tells_the_drift(tiny, capsys):
    candidate = candidate_for(PythonBackend(), Setting("python"))
    run = campaign.run([candidate], TINY, mode="stress", seed=1, repeats=2)
    assert len(run.rows[0].rounds) == 2 * TINY.rounds
    assert run.rows[0].proof.blocks == 4
    assert "the last tenth of the rounds was" in run.notes[0]


def test_a_device_that_fails_in_the_second_minute_has_no_rate():
    class Tired(PythonBackend):
        """Loses hits once it has answered enough."""

        left = 400

        def scan(self, work, nonces):
            self.left -= 1
            return super().scan(work, nonces) if self.left > 0 else []

    candidate = candidate_for(Tired(), Setting("python"))
    run = campaign.run([candidate], TINY, mode="stress", seed=1, repeats=8)
    assert run.rows == ()
    assert run.failed


def test_sweeps_add_rows_of_their_own(tiny, tmp_path):
    path = tmp_path / "sweep.json"
    assert command.main(["--backend", "python", "--sweep", "versions", "--json", str(path)]) == 0
    run = loads(path.read_text())
    assert [row.label for row in run.rows] == ["python", *(f"python versions={n}" for n in (1, 2, 4, 8, 16))]


def test_compare_ends_with_status_1_if_anything_is_slower(files, capsys):
    assert command.main(["compare", *files]) == 1
    assert "SLOWER" in capsys.readouterr().out
    assert command.main(["compare", *reversed(files)]) == 0
    assert "FASTER" in capsys.readouterr().out
    assert command.main(["compare", *files, "--effect", "30"]) == 0


def test_compare_refuses_other_machines(files, tmp_path, capsys):
    raw = json.loads(Path(files[1]).read_text())
    raw["machine"]["cores"] = 64
    other = tmp_path / "other.json"
    other.write_text(json.dumps(raw))
    assert command.main(["compare", files[0], str(other)]) == 2
    assert "--force" in capsys.readouterr().err
    assert command.main(["compare", files[0], str(other), "--force"]) == 1


def test_a_file_that_is_no_run_is_named_in_one_line(tmp_path, capsys):
    path = tmp_path / "x.json"
    path.write_text("{}")
    assert command.main(["show", str(path)]) == 2
    err = capsys.readouterr().err
    assert err == f"bench: {path} is no results file: the file lacks 'created'\n"


def test_show_draws_a_run_again(files, tmp_path, capsys):
    picture = tmp_path / "again.png"
    assert command.main(["show", files[0], "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_one_line(files, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert command.main(["show", files[0], "--plot", str(tmp_path / "file" / "x.png")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_readme_is_written_from_the_latest_run(files, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- bench:begin -->\n<!-- bench:end -->\n")
    assert command.main(["readme", files[0], "--readme", str(readme)]) == 0
    assert "| `numba`" in readme.read_text()
    assert command.main(["readme", files[0], "--readme", str(tmp_path / "none.md")]) == 2
    assert "cannot be rewritten" in capsys.readouterr().err


def test_history_of_a_folder(files, tmp_path, capsys):
    assert command.main(["history", str(tmp_path)]) == 0
    assert "slower" in capsys.readouterr().out


def test_ctrl_c_ends_with_130_and_no_traceback(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "session", interrupted)
    assert command.main([]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_device_slowed_on_purpose_still_answers_right():
    slowed = calibrate.Slowed(PythonBackend())
    span = next(Ground(1).spans(1, 1, 1 << 250, 2000))
    assert slowed.scan(*span) == PythonBackend().scan(*span) != []


def test_calibration_counts_what_became_of_each_comparison(monkeypatch, capsys):
    runs = iter([(row(noise=0.002), row(rate=64e6, noise=0.002))] * 3)
    monkeypatch.setattr(calibrate, "_run", lambda backend: next(runs))
    assert command.main(["calibrate", "--tries", "2"]) == 0
    assert capsys.readouterr().out == "the same device: SAME 2\n10 % slower: SLOWER 2\n"


def test_every_command_is_in_the_help(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    out = capsys.readouterr().out
    for name in command._COMMANDS:
        assert name in out


def test_the_engine_counts_what_the_device_hashes():
    from bench.endtoend import end_to_end

    candidate = candidate_for(PythonBackend(), Setting("python"))
    measurement = Measurement(measure.QUICK, Ground(1))
    measurement.plan = TINY
    measurement.warm_up(candidate)
    row = end_to_end(candidate, measurement, lambda text: None, seconds=1.2)
    assert row.hashes > 0
    # Shares are a second count of the same hashes: Poisson, so within five sigma.
    assert abs(row.shares - row.expected_shares) < 5 * (row.expected_shares**0.5 + 2)
    assert row.stops >= 1
    assert row.stop_worst < 2
    assert candidate.device.scan(*next(Ground(1).spans(0, 1, 0, 10))) == []  # still open: it was only lent
