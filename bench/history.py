"""Many runs, as one table: how each device's rate went."""

import re
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.compare import judge
from bench.results import Results, loads
from bench.table import CHANGE_STYLE
from bench.units import hash_rate

_BARS = "▁▂▃▄▅▆▇█"


def load(path: Path) -> Results:
    """A run from its file; ValueError in one sentence if that cannot be read or is none."""
    try:
        return loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except ValueError as error:
        raise ValueError(f"{path} is no results file: {error}") from None


def load_all(folder: Path) -> list[Results]:
    """Every run in a folder, oldest first. ValueError if there is none."""
    runs = sorted((load(path) for path in sorted(folder.glob("*.json"))), key=lambda run: run.created)
    if not runs:
        raise ValueError(f"{folder} holds no results (*.json)")
    return runs


def newest(folder: Path) -> Path:
    """The file of the latest run in a folder."""
    latest = load_all(folder)[-1].created
    return next(path for path in sorted(folder.glob("*.json")) if load(path).created == latest)


def name_of(results: Results) -> str:
    """A file name without suffix: "2026-11-22T1512-amd-epyc-2-default"."""
    words = re.sub(r"\(.*?\)", "", results.machine.cpu)
    cpu = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    when = results.created[:16].replace(":", "")
    return f"{when}-{cpu}-{results.machine.cores}-{results.mode}"


def show(runs: list[Results], console: Console) -> None:
    """A block per machine: a line per run, each rate judged against the run before."""
    machines = list(dict.fromkeys(run.machine.fingerprint for run in runs))
    for machine in machines:
        own = [run for run in runs if run.machine.fingerprint == machine]
        about = own[-1].machine
        console.print(f"[bold]{about.cores} x {escape(about.cpu)}[/] {escape('; '.join(about.gpus))}")
        console.print(_table(own))


def _table(runs: list[Results]) -> Table:
    labels = list(dict.fromkeys(row.label for run in runs for row in run.main_rows))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=len(runs) > 1)
    for heading in ("when", "commit"):
        table.add_column(heading, no_wrap=True)
    for label in labels:
        rates = [row.rate.value if (row := run.row(label)) else 0.0 for run in runs]
        table.add_column(escape(label), justify="right", no_wrap=True, footer=_sparkline(rates))
    for number, run in enumerate(runs):
        before = runs[number - 1] if number else None
        commit = run.machine.commit[:8] + ("+" if run.machine.dirty else "")
        table.add_row(run.created[:16], commit, *(_cell(label, run, before) for label in labels))
    return table


def _cell(label: str, run: Results, before: Results | None) -> str:
    row, old = run.row(label), before.row(label) if before else None
    if row is None:
        return ""
    if old is None:
        return hash_rate(row.rate.value)
    judged = judge(old, row)
    return f"{hash_rate(row.rate.value)} [{CHANGE_STYLE[judged.change]}]{judged.change.lower():>6}[/]"


def _sparkline(values: list[float]) -> str:
    top = max(values)
    return "".join(_BARS[int(value / top * (len(_BARS) - 1))] if value else " " for value in values)
