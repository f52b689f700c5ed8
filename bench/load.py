"""What else the machine was doing: other processes, a hypervisor that took the processor away, heat."""

import os
from pathlib import Path
from typing import NamedTuple

SHARED = 0.05
"""Share of the machine's processor time that others may take before a row is called shared."""

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

    def others_since(self, before: "Load") -> float | None:
        """Processor seconds that somebody else had."""
        if self.busy is None or before.busy is None:
            return None
        return max(0.0, self.busy - before.busy - (self.own - before.own))


def read_load(root: Path = Path("/")) -> Load:
    """Now. `root` holds proc and sys."""
    return Load(_busy(root / "proc/stat"), _own(root / "proc"), _throttles(root / "sys/devices/system/cpu"))


def _busy(stat: Path) -> float | None:
    # proc(5): cpu user nice system idle iowait irq softirq steal guest guest_nice; guest is in user.
    try:
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _own(proc: Path) -> float:
    """Children count while they run: worker processes are seen by nobody else's clock until they end."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    waiting = [os.getpid()]
    while waiting:
        parent = waiting.pop()
        try:
            children = (proc / f"{parent}/task/{parent}/children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            total += _processor_seconds(proc / f"{child}/stat")
            waiting.append(child)
    return total


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


def judge_health(variation: float, others: float | None, throttled: str) -> Health:
    """The worst that can be said.

    `others`: share of the machine that others had, 0 ... 1, None if unknown. `throttled`: what
    slowed the device, empty if nothing did.
    """
    if throttled:
        return Health("throttled", throttled)
    if others is not None and others > SHARED:
        return Health("shared", f"others had {others:.0%} of the processor time")
    if variation > NOISY:
        return Health("noisy", f"the rounds vary by {variation:.1%}")
    return Health("clean")
