"""The results in a terminal, dark or light, wide or narrow."""

from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.compare import Change, Compared
from bench.results import EngineRow, Machine, Results, Row
from bench.sweep_table import SweepTable, sweep_tables
from bench.units import DIFFICULTY_1, duration, energy, hash_rate, percent, settings, spread, times

HEALTH_STYLE = {"clean": "green", "noisy": "yellow", "shared": "yellow", "throttled": "red"}
CHANGE_STYLE = {Change.FASTER: "green", Change.SLOWER: "red", Change.SAME: "default", Change.UNSURE: "yellow"}


def show(results: Results, console: Console) -> None:
    """Print a run: the table, what is behind its words, who got no rate, and where it was measured."""
    rows = results.main_rows
    if rows:
        console.print(_rates(rows, console.width))
        console.print(ONE_HASH, style="dim", highlight=False)
    for sweep in sweep_tables(results):
        console.print(_sweep(sweep))
    if results.engine:
        console.print(_engine(results.engine))
    console.print(_remarks(results))
    for line in identity(results):
        console.print(escape(line), style="dim", highlight=False)


ONE_HASH = "One hash is one SHA-256d of an 80-byte header. ± is the median's 95 % interval."


def _rates(rows: tuple[Row, ...], width: int) -> Table:
    reference = next((row.rate.value for row in rows if row.backend == "python"), None)
    columns: list[tuple[str, Callable[[Row], str], int]] = [
        # heading, cell, from which width of the terminal on
        ("hash rate", lambda row: f"[bold]{hash_rate(row.rate.value)}[/]", 0),
        ("±", lambda row: spread(row.rate), 0),
        ("vs python", lambda row: times(row.rate.value / reference) if reference else "", 0),
        ("per thread", lambda row: hash_rate(row.rate.value / row.threads) if row.threaded else "", 104),
        ("of limit", lambda row: percent(row.share) if row.share is not None else "n/a", 0),
        ("J/GH", energy, 80),
        ("difficulty 1", lambda row: duration(DIFFICULTY_1 / row.rate.value), 118),
        ("state", lambda row: f"[{HEALTH_STYLE[row.health]}]{row.health}[/]", 0),
        ("verified", lambda row: f"{row.proof.expected:,}/{row.proof.expected:,}", 92),
    ]
    shown = [(heading, cell) for heading, cell, least in columns if width >= least]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("backend", no_wrap=True, style="bold")
    for heading, _ in shown:
        table.add_column(heading, justify="left" if heading == "state" else "right", no_wrap=True)
    for row in rows:
        table.add_row(escape(row.backend), *(cell(row) for _, cell in shown))
    return table


def _remarks(results: Results) -> Table:
    """What the cells of the table cannot hold, and why some of them are empty."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    rows = results.main_rows
    for row in rows:
        grid.add_row(escape(row.backend), escape("\n".join(_about(row))))
    for what, reasons in (
        ("limit", [row.limit_reason for row in rows]),
        ("energy", [row.energy_reason for row in rows]),
    ):
        for reason in dict.fromkeys(filter(None, reasons)):
            whose = ", ".join(row.backend for row, its in zip(rows, reasons, strict=True) if its == reason)
            grid.add_row(f"{what} n/a", escape(f"{reason} ({whose})"))
    for refused in results.refused:
        word = "[red]FAILED, no rate[/]" if refused.failed else "not available"
        grid.add_row(escape(refused.backend), f"{word}: {escape(refused.reason)}")
    for note in results.notes:
        grid.add_row("note", escape(note))
    return grid


def _about(row: Row) -> list[str]:
    proof = row.proof
    how_much = "all" if proof.checked >= 1 else percent(proof.checked)
    lines = [
        ", ".join(part for part in (row.form, settings(row)) if part)
        + f"; ready after {duration(row.open_seconds)}, first scan {duration(row.first_seconds)}; "
        f"{len(row.rounds)} rounds, CV {row.variation:.1%}, outliers: {row.outliers}",
        f"verified: {proof}; {how_much} of the timed hashes, by {proof.reference}",
        f"and {proof.dense_expected:,} of {proof.dense_expected:,} hits in dense windows, by hashlib; "
        f"{proof.blocks_found} of {proof.blocks} real blocks; count {proof.score:+.1f} sigma",
    ]
    lines += [f"{row.health}: {row.health_reason}"] if row.health_reason else []
    lines += [f"limit {hash_rate(row.limit.rate)}: {row.limit.model}"] if row.limit else []
    return lines


def _engine(rows: tuple[EngineRow, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="under the engine", title_justify="left")
    table.add_column("backend", no_wrap=True, style="bold")
    for heading in ("hash rate", "alone", "duty", "shares", "due", "stop", "worst"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            escape(row.backend),
            f"[bold]{hash_rate(row.rate)}[/]",
            hash_rate(row.alone),
            f"{row.duty:.1%}",
            f"{row.shares:,}",
            f"{row.expected_shares:,.0f}",
            f"{1000 * row.stop_median:.0f} ms",
            f"{1000 * row.stop_worst:.0f} ms",
        )
    table.caption = "due: shares by the hashes counted; stop: from a new tip to the last hash on the old"
    table.caption_justify = "left"
    return table


def _sweep(sweep: SweepTable) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"by {sweep.kind}", title_justify="left")
    for heading in ("backend", sweep.kind):
        table.add_column(heading, no_wrap=True)
    for heading in sweep.headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for backend, *cells in sweep.rows:
        table.add_row(escape(backend), *cells)
    table.caption = sweep.caption or None
    table.caption_justify = "left"
    return table


def identity(results: Results) -> list[str]:
    """Where and of what this was measured, in a few lines."""
    machine = results.machine
    state = {True: ", with changes", False: "", None: ""}[machine.dirty]
    return [
        processor(machine),
        *machine.gpus,
        f"{machine.system}; " + ", ".join(f"{name} {version}" for name, version in machine.versions),
        f"commit {machine.commit[:12] or 'unknown'}{state}; seed {results.seed}; {results.created}; "
        f"{results.mode} run of {duration(results.seconds)}",
    ]


def processor(machine: Machine) -> str:
    """The CPU in one line."""
    words = [f"{machine.cores} x {machine.cpu}"]
    words += [f"{machine.clock:.2f} GHz measured"] if machine.clock else []
    words += [f"governor {machine.governor}"] if machine.governor else []
    return "; ".join([*words, " ".join(machine.features)])


def show_comparison(compared: Compared, console: Console) -> None:
    """Print what became of each device between two runs."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("backend", no_wrap=True, style="bold")
    for heading in ("before", "after", "change", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in compared.rows:
        effect, style = row.effect, CHANGE_STYLE[row.change]
        table.add_row(
            escape(row.label),
            hash_rate(row.before),
            hash_rate(row.after),
            f"{effect.value:+.1%}",
            f"{effect.low:+.1%} ... {effect.high:+.1%}",
            f"[{style}]{row.change}[/]",
        )
    console.print(table)
    for note in compared.notes:
        console.print(f"  {escape(note)}", highlight=False)
