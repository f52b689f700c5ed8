"""Joules, from counters that the hardware keeps itself: RAPL for processors, NVML for cards."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench import nvml

POWERCAP = Path("/sys/class/powercap")
"""Linux: intel-rapl:0 and so on, which AMD's processors fill too."""


class Meter(NamedTuple):
    """A counter of joules, or the reason why there is none."""

    read: Callable[[], float | None]
    reason: str = ""


def no_meter(reason: str) -> Meter:
    """For a device whose energy nobody counts."""
    return Meter(lambda: None, reason)


def meter_for(device: str, gpu: bool, powercap: Path = POWERCAP) -> Meter:
    """The counter of what a device of this name uses: its card, or all processor packages together."""
    return _card_meter(device) if gpu else _rapl_meter(powercap)


def card_of(device: str) -> nvml.Card | None:
    """The card that a device "cuda:1" runs on; None if NVML does not know it.

    CUDA numbers the cards of CUDA_VISIBLE_DEVICES, NVML numbers all, both in the order of their slots if
    the cards are alike.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index or "0").isdecimal():
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    number = int(index or 0)
    if number < len(visible) and visible[number].isdecimal():
        number = int(visible[number])
    cards, _ = nvml.cards()
    return cards[number] if number < len(cards) else None


def _card_meter(device: str) -> Meter:
    if not device.startswith("cuda"):
        return no_meter(f"no energy counter is known for {device}")
    card = card_of(device)
    if card is None:
        return no_meter(nvml.cards()[1] or f"NVML does not know {device}")
    if card.joules() is None:
        return no_meter("this card has no energy counter (Volta and later have)")
    return Meter(card.joules)


def _rapl_meter(powercap: Path) -> Meter:
    packages = sorted(powercap.glob("intel-rapl:[0-9]*"))
    packages = [path for path in packages if path.name.count(":") == 1]  # the rest are parts of packages
    if not packages:
        return no_meter("this machine shows no RAPL energy counter")
    try:
        counters = [_Rapl(path) for path in packages]
    except PermissionError:
        return no_meter(f"only root may read the RAPL counters in {powercap}")
    except (OSError, ValueError) as error:
        return no_meter(f"the RAPL counter cannot be read: {error}")
    return Meter(lambda: sum(counter.read() for counter in counters))


class _Rapl:
    """One package. Its counter of microjoules wraps within minutes under load."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._wrap = int((folder / "max_energy_range_uj").read_text())
        self._last, self._total = self._raw(), 0

    def read(self) -> float:
        """Joules since construction."""
        now = self._raw()
        self._total += (now - self._last) % self._wrap
        self._last = now
        return self._total / 1e6

    def _raw(self) -> int:
        return int(self._file.read_text())
