"""What else the machine was doing: other processes, a hypervisor that took the processor away, heat."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

SHARED = 0.05
"""Share of the machine's processor time that others may take before a row is called shared."""

WAITED = 0.02
"""Share of its time that a device may wait for a processor before its row is called shared."""

NOISY = 0.05
"""Coefficient of variation from which a row is called noisy."""

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Load(NamedTuple):
    """Processor seconds since boot; None where the system does not tell."""

    busy: float | None
    """Of all processors: user, system, interrupts and time stolen by the hypervisor."""
    own: float
    """Of this process and its children."""
    throttles: int | None
    """How often a processor was slowed for its heat."""
    ran: float | None = None
    """Seconds that our threads have run."""
    queued: float | None = None
    """Seconds that they could have run, and waited for a processor."""

    def waited_since(self, before: "Load") -> float | None:
        """Of the time in which our threads could run, the share in which they had to wait: 0 ... 1."""
        if self.ran is None or self.queued is None or before.ran is None or before.queued is None:
            return None
        # Threads that have ended since are missing from the sums.
        ran, queued = max(0.0, self.ran - before.ran), max(0.0, self.queued - before.queued)
        return queued / (ran + queued) if ran else 0.0

    def others_since(self, before: "Load", available: float) -> float | None:
        """The share of the `available` processor seconds since then that somebody else had: 0 ... 1."""
        if self.busy is None or before.busy is None:
            return None
        others = self.busy - before.busy - (self.own - before.own)
        return min(max(0.0, others / available), 0.99)  # the counters tick in hundredths of a second


def read_load(root: Path = Path("/")) -> Load:
    """Now. `root` holds proc and sys."""
    proc = root / "proc"
    family = _family(proc)
    ran, queued = _scheduled(proc, family)
    throttles = _throttles(root / "sys/devices/system/cpu")
    return Load(_busy(proc / "stat"), _own(proc, family), throttles, ran, queued)


def _busy(stat: Path) -> float | None:
    # proc(5): cpu user nice system idle iowait irq softirq steal guest guest_nice; guest is in user.
    try:
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _family(proc: Path) -> list[int]:
    """This process and its descendants, worker processes for instance."""
    found = [os.getpid()]
    for parent in found:  # grows while it is walked
        for children in proc.glob(f"{parent}/task/*/children"):
            with suppress(OSError):  # the thread has ended meanwhile
                found += map(int, children.read_text().split())
    return found


def _own(proc: Path, family: list[int]) -> float:
    """Children count while they run: nobody else's clock sees them until they end."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    return total + sum(_processor_seconds(proc / f"{child}/stat") for child in family[1:])


def _scheduled(proc: Path, family: list[int]) -> tuple[float | None, float | None]:
    """Seconds that all our threads have run, and that they have waited for a processor."""
    ran = queued = 0
    for process in family:
        for path in proc.glob(f"{process}/task/*/schedstat"):
            with suppress(OSError, ValueError):
                # Documentation/scheduler/sched-stats.rst: nanoseconds on the cpu, nanoseconds on a runqueue.
                thread_ran, thread_queued = map(int, path.read_text().split()[:2])
                ran, queued = ran + thread_ran, queued + thread_queued
    return (ran / 1e9, queued / 1e9) if ran else (None, None)


def _processor_seconds(stat: Path) -> float:
    try:
        # proc(5): utime and stime are fields 14 and 15; the name, field 2, may hold spaces and brackets.
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, ValueError, IndexError):
        return 0.0


def _throttles(cpus: Path) -> int | None:
    counts = []
    for path in sorted(cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")):
        try:
            counts.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return sum(counts) if counts else None


class Health(NamedTuple):
    """A word about the circumstances, and why that word."""

    word: str
    reason: str = ""


def judge_health(
    variation: float, others: float | None, waited: float | None = None, throttled: str = ""
) -> Health:
    """The worst that can be said.

    `others`: share of the machine that others had, `waited`: share of its own time that the device
    waited for a processor; 0 ... 1, None if unknown. `throttled`: what slowed the device, empty if
    nothing did.
    """
    if throttled:
        return Health("throttled", throttled)
    words = [f"others had {others:.0%} of the processor time"] if others and others > SHARED else []
    words += [f"it waited {waited:.0%} of its time for a processor"] if waited and waited > WAITED else []
    if words:
        return Health("shared", ", ".join(words))
    if variation > NOISY:
        return Health("noisy", f"the rounds vary by {variation:.1%}")
    return Health("clean")
