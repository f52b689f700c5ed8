"""How a card is, through NVML (package nvidia-ml-py, optional), and a pause when it is too hot."""

import importlib
import os
import time
from collections.abc import Callable
from typing import Any

LIMIT = "NONCEFORGE_GPU_LIMIT"
"""Environment variable: degrees Celsius at which a card rests; unset, it never does on our account.
The card's own limits hold in any case: it throttles, and in the end it turns itself off."""

HYSTERESIS = 3
"""Degrees below the limit at which it goes on."""

THROTTLES = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal limit of the driver",
    0x40: "thermal limit of the hardware",
    0x80: "power brake",
}
"""Why a card is slower than it could be: bits of nvmlClocksEventReasons (nvml.h)."""

LONGEST_REST = 1.0
"""Seconds that one scan may wait: longer, and the engine would take the card for hung."""


class Thermometer:
    """Tells how a card is, and rests one that has reached its limit. Without NVML it does neither."""

    def __init__(
        self,
        bus: str,
        sleep: Callable[[float], None] = time.sleep,
        limit: int | None = None,
    ) -> None:
        """`bus`: the card's PCI bus id. ValueError for a limit in the environment that is no number."""
        self._sleep, self._limit = sleep, _limit_of_environment() if limit is None else limit
        self._nvml, self._handle = _open(bus)

    def celsius(self) -> int | None:
        """Of the chip; None if it cannot be had."""
        return self._ask("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU")

    def condition(self) -> str:
        """Temperature, power, clock and what holds the card back, as far as NVML tells; empty without it."""
        celsius, milliwatts = self.celsius(), self._ask("nvmlDeviceGetPowerUsage")
        megahertz = self._ask("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM")
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        held = " and ".join(words for bit, words in THROTTLES.items() if reasons & bit)
        parts = (
            "" if celsius is None else f"{celsius} °C",
            "" if milliwatts is None else f"{milliwatts / 1000:.0f} W",
            "" if megahertz is None else f"{megahertz} MHz",
            f"held back by {held}" if held else "",
        )
        return ", ".join(filter(None, parts))

    def _ask(self, function: str, *constants: str) -> int | None:
        """None if this card, this driver or this version of the library does not tell."""
        if self._nvml is None:
            return None
        try:
            arguments = [getattr(self._nvml, name) for name in constants]
            return int(getattr(self._nvml, function)(self._handle, *arguments))
        except (self._nvml.NVMLError, AttributeError):
            return None

    def wait_until_cool(self) -> None:
        """Returns at once below the limit, and after `LONGEST_REST` in any case."""
        found = self.celsius()
        if self._limit is None or found is None or found < self._limit:
            return
        rested, step = 0.0, 0.05
        while rested < LONGEST_REST and (found or 0) > self._limit - HYSTERESIS:
            self._sleep(step)
            rested += step
            found = self.celsius()


def _limit_of_environment() -> int | None:
    text = os.environ.get(LIMIT, "")
    if not text:
        return None
    if not text.isdecimal() or not 30 <= int(text) <= 110:
        raise ValueError(f"{LIMIT} is {text!r}: not a number of degrees from 30 to 110")
    return int(text)


def _open(bus: str) -> tuple[Any, Any]:
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        return nvml, nvml.nvmlDeviceGetHandleByPciBusId(bus)
    except Exception:  # noqa: BLE001 - absent, too old or without rights: it is a convenience
        return None, None
