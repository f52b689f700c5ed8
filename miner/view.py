"""What `miner mine` shows: one line per event for a file or pipe, one JSON object per event for a program.

The view for a terminal is `miner.live`.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from miner.engine import DeviceRetired, Event, JobStarted
from miner.stats import Stats
from miner.target import bits_to_target, difficulty
from miner.work import Outcome, Verdict

STATUS_SECONDS = 10.0
"""Between two status lines when nothing happens."""


class View(Protocol):
    """Told of everything, from one thread."""

    def opening(self, device: str, seconds: float) -> None:
        """A device has been opening for so long: it may compile for seconds. Several times a second."""

    def opened(self) -> None:
        """All are open, or one cannot be."""

    def begin(self, source: str, devices: list[str]) -> None:
        """Mining begins."""

    def event(self, event: Event) -> None:
        """A new job, or a device lost."""

    def verdict(self, verdict: Verdict) -> None:
        """A share was judged."""

    def tick(self, stats: Stats, status: str, proven: str) -> None:
        """Several times a second. `status`: the source's word on itself; `proven`: the rate by its shares."""

    def end(self, stats: Stats, kept: str) -> None:
        """Mining is over. `kept` says where the blocks are."""


class Plain:
    """One line per event, for people who read a log."""

    def __init__(self, out: TextIO = sys.stdout, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._last_line = clock()

    def opening(self, device: str, seconds: float) -> None:
        """A line now and then, if it takes long."""
        if self._clock() - self._last_line >= STATUS_SECONDS:
            self._line(f"opening {device} for {format_duration(seconds)} now")

    def opened(self) -> None:
        """Say nothing."""

    def begin(self, source: str, devices: list[str]) -> None:
        """Name the source and the devices."""
        self._line(f"mining on {source} with {', '.join(devices)}")

    def event(self, event: Event) -> None:
        """Only bad news."""
        if isinstance(event, DeviceRetired):
            self._line(f"device out of service: {event.fault}")

    def verdict(self, verdict: Verdict) -> None:
        """One line each."""
        self._line(describe_verdict(verdict))

    def tick(self, stats: Stats, status: str, proven: str) -> None:
        """A line when there was none for a while. Bad news of the source is logged as it happens."""
        if self._clock() - self._last_line >= STATUS_SECONDS:
            self._line(", ".join(filter(None, (describe_stats(stats), status, proven))))

    def end(self, stats: Stats, kept: str) -> None:
        """The summary."""
        self._line(summary(stats))
        if kept:
            self._line(kept)

    def _line(self, text: str) -> None:
        self._last_line = self._clock()
        print(text, file=self._out, flush=True)


class Json:
    """One JSON object per line; `event` says of what kind. Rates in H/s, times in seconds."""

    def __init__(self, out: TextIO = sys.stdout, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._last_stats = clock()
        self._status = ""

    def opening(self, device: str, seconds: float) -> None:
        """{"event": "opening"} now and then, if it takes long."""
        if self._clock() - self._last_stats >= STATUS_SECONDS:
            self._last_stats = self._clock()
            self._object("opening", device=device, seconds=seconds)

    def opened(self) -> None:
        """Say nothing."""

    def begin(self, source: str, devices: list[str]) -> None:
        """{"event": "start"}."""
        self._object("start", source=source, devices=devices)

    def event(self, event: Event) -> None:
        """{"event": "job" | "idle" | "device"}."""
        if isinstance(event, JobStarted):
            job = event.update.job
            self._object(
                "job", id=job.id, height=job.height, bits=f"{job.bits:08x}",
                reason=event.update.reason, clean=event.update.clean,
            )  # fmt: skip
        elif isinstance(event, DeviceRetired):
            self._object("device", device=event.device, state="retired", reason=str(event.fault))
        else:
            self._object("idle")

    def verdict(self, verdict: Verdict) -> None:
        """{"event": "verdict"}."""
        share = verdict.share
        self._object(
            "verdict", outcome=verdict.outcome, reason=verdict.reason, device=verdict.device,
            height=share.work.job.height if share.work.job else None,
            hash=share.hash_hex, header=share.header.hex(), difficulty=share.difficulty,
        )  # fmt: skip

    def tick(self, stats: Stats, status: str, proven: str) -> None:
        """{"event": "stats"} now and then, and when the source's status changes."""
        if status != self._status or self._clock() - self._last_stats >= STATUS_SECONDS:
            self._last_stats, self._status = self._clock(), status
            self._object("stats", **_figures(stats), status=status, proven=proven)

    def end(self, stats: Stats, kept: str) -> None:
        """{"event": "end"}."""
        self._object("end", **_figures(stats), kept=kept)

    def _object(self, event: str, **fields: object) -> None:
        print(json.dumps({"event": event, **fields}), file=self._out, flush=True)


def _figures(stats: Stats) -> dict[str, Any]:
    latency = stats.stop_latency
    return {
        "seconds": round(stats.seconds, 3),
        "hashes": stats.hashes,
        "rate_10s": round(stats.rates[0]),
        "rate_60s": round(stats.rates[1]),
        "rate_15min": round(stats.rates[2]),
        "hits": stats.hits,
        "hardware_errors": stats.hardware_errors,
        "verdicts": dict(stats.verdicts),
        "best_share": stats.best_share,
        "expected_seconds": stats.expected_seconds,
        "stop_latency": dataclasses.asdict(latency),
        "devices": [
            {"name": d.name, "state": d.state, "rate_10s": round(d.rates[0]), "hashes": d.hashes,
             "hardware_errors": d.hardware_errors, "fault": d.fault, "condition": d.condition}
            for d in stats.devices
        ],
    }  # fmt: skip


def format_rate(rate: float) -> str:
    """Hashes per second for people: 61.2 MH/s."""
    for unit in ("H/s", "kH/s", "MH/s", "GH/s"):
        if rate < 999.5:
            return f"{rate:.3g} {unit}"
        rate /= 1000
    return f"{rate:,.3g} TH/s" if rate < 1000 else f"{rate:,.0f} TH/s"


def format_duration(seconds: float) -> str:
    """A time for people: 0.35 s, 12 s, 3 min 20 s, 5 h 12 min, 3 d 4 h, 210 years."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    for big, small, size, step in (("min", "s", 60, 1), ("h", "min", 3600, 60), ("d", "h", 86400, 3600)):
        if seconds < {"min": 3600, "h": 86400, "d": 730 * 86400}[big]:
            return f"{int(seconds // size)} {big} {int(seconds % size // step)} {small}"
    return f"{seconds / 31_557_600:,.0f} years"


def format_difficulty(value: float) -> str:
    """Four digits, whatever the size."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def describe_verdict(verdict: Verdict) -> str:
    """One line: what, where, how hard, by whom, and why not."""
    share, job = verdict.share, verdict.share.work.job
    what = "block" if job is not None and job.once else "share"
    height = f" {job.height}" if job is not None and job.height is not None and what == "block" else ""
    hard = difficulty(share.work.target)
    words = f"{what}{height} {verdict.outcome}  {share.hash_hex}  difficulty {format_difficulty(hard)}"
    words += f"  {verdict.device}"
    reason = verdict.reason if verdict.outcome is not Outcome.ACCEPTED else ""
    return f"{words}: {reason}" if reason else words


def describe_stats(stats: Stats) -> str:
    """One line: rate, height, difficulty, expected time."""
    words = [format_rate(stats.rates[0])]
    if stats.job is not None:
        if stats.job.height is not None:
            words.append(f"height {stats.job.height}")
        words.append(f"difficulty {format_difficulty(difficulty(bits_to_target(stats.job.bits)))}")
    if stats.expected_seconds is not None:
        words.append(f"a block every {format_duration(stats.expected_seconds)} on average")
    if stats.hardware_errors:
        words.append(f"{stats.hardware_errors} hardware errors")
    return ", ".join(words)


def summary(stats: Stats) -> str:
    """What was done, in one sentence."""
    counts = ", ".join(f"{n} {outcome}" for outcome, n in stats.verdicts.items() if n) or "nothing found"
    rate = stats.hashes / stats.seconds if stats.seconds else 0.0
    words = f"{counts} in {format_duration(stats.seconds)}, {stats.hashes:,} hashes, {format_rate(rate)}"
    latency = stats.stop_latency
    if latency.count:
        words += (
            f"; stop latency p99 {latency.p99 * 1000:.0f} ms, median {latency.median * 1000:.0f} ms"
            f" over {latency.count} stops"
        )
    if stats.hardware_errors:
        words += f"; {stats.hardware_errors} hardware errors"
    return words
