"""The view for a terminal: devices, chain and last blocks, redrawn in place (rich)."""

from collections import deque

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.status import Status
from rich.table import Table
from rich.text import Text

from miner.engine import DeviceRetired, Event
from miner.lane import LaneState
from miner.stats import Stats
from miner.target import bits_to_target, difficulty
from miner.view import format_difficulty, format_duration, format_rate, summary
from miner.work import Outcome, Verdict

LAST_BLOCKS = 8
"""Rows of the table of blocks or shares."""

_COLOURS = {
    Outcome.ACCEPTED: "green",
    Outcome.REJECTED: "red",
    Outcome.STALE: "yellow",
    Outcome.UNKNOWN: "magenta",
}


class LiveView:
    """A `View` that redraws itself several times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._opening: Status | None = None
        self._title = ""
        self._last: deque[tuple[Verdict, float]] = deque(maxlen=LAST_BLOCKS)
        self._stats: Stats | None = None  # as last drawn

    def opening(self, device: str, seconds: float) -> None:
        """One line that moves."""
        if self._opening is None:
            self._opening = self._console.status("")
            self._opening.start()
        self._opening.update(escape(f"opening {device} ... {seconds:.0f} s"))

    def opened(self) -> None:
        """Take it away."""
        if self._opening is not None:
            self._opening.stop()
            self._opening = None

    def begin(self, source: str, devices: list[str]) -> None:
        """Start to draw."""
        self._title = f"mining on {source} with {', '.join(devices)}"
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def event(self, event: Event) -> None:
        """Bad news stays on the screen, above the view."""
        if isinstance(event, DeviceRetired):
            self._console.print(f"device out of service: {event.fault}", style="bold red", markup=False)

    def verdict(self, verdict: Verdict) -> None:
        """Into the table."""
        self._last.appendleft((verdict, self._stats.seconds if self._stats is not None else 0.0))

    def tick(self, stats: Stats, status: str, proven: str) -> None:
        """Redraw."""
        self._stats = stats
        if self._live is not None:
            self._live.update(self._draw(stats, status, proven), refresh=True)

    def end(self, stats: Stats, kept: str) -> None:
        """Leave the last picture on the screen, and the summary below it."""
        if self._live is not None:
            self._live.stop()
            self._console.print(self._draw(self._stats or stats))
        self._console.print(summary(stats), markup=False, highlight=False)
        if kept:
            self._console.print(kept, markup=False, highlight=False)

    def _draw(self, stats: Stats, *words: str) -> Group:
        parts: list[Text | Table] = [Text(self._title, style="bold"), _job_line(stats)]
        parts += [Text(line) for line in words if line]
        parts += [Text(), _device_table(stats)]
        parts += [Text(f"{d.name}: {d.condition}") for d in stats.devices if d.condition]
        parts.append(Text())
        if self._last:
            parts += [self._verdict_table(), Text()]
        return Group(*parts)

    def _verdict_table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading, right in (("height", True), ("hash", False), ("", False), ("at", True), ("by", False)):
            table.add_column(heading, justify="right" if right else "left", no_wrap=True)
        for verdict, seconds in self._last:
            job = verdict.share.work.job
            height = str(job.height) if job is not None and job.height is not None else "-"
            outcome = Text(f"{verdict.outcome} {verdict.reason}".strip(), style=_COLOURS[verdict.outcome])
            table.add_row(
                height, verdict.share.hash_hex[:24], outcome, format_duration(seconds), verdict.device
            )
        return table


def _job_line(stats: Stats) -> Text:
    if stats.job is None:
        return Text("waiting for work", style="yellow")
    # A pool's id may hold anything, escape sequences too: quoted, and cut.
    named = f"job {stats.job.id[:24]!r}" if stats.job.height is None else f"height {stats.job.height}"
    words = [named]
    words.append(f"difficulty {format_difficulty(difficulty(bits_to_target(stats.job.bits)))}")
    if stats.expected_seconds is not None:
        words.append(f"a block every {format_duration(stats.expected_seconds)} on average")
    counts = [f"{n} {outcome}" for outcome, n in stats.verdicts.items() if n]
    if stats.best_share and not stats.job.once:
        counts.append(f"best share {format_difficulty(stats.best_share)}")
    return Text("   ".join(words + counts))


def _device_table(stats: Stats) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("device", no_wrap=True)
    table.add_column("state")
    for heading in ("10 s", "60 s", "15 min", "hashes", "hits", "errors"):
        table.add_column(heading, justify="right", no_wrap=True)
    for device in stats.devices:
        style = "red" if device.state is LaneState.RETIRED else ""
        table.add_row(
            device.name, device.state, *map(format_rate, device.rates),
            f"{device.hashes:,}", f"{device.hits:,}", f"{device.hardware_errors:,}", style=style,
        )  # fmt: skip
    if len(stats.devices) > 1:
        table.add_row("total", "", *map(format_rate, stats.rates), f"{stats.hashes:,}", f"{stats.hits:,}",
                      f"{stats.hardware_errors:,}", style="bold")  # fmt: skip
    return table
