"""A card's temperature through NVML (package nvidia-ml-py, optional), and a pause when it is too hot."""

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

LONGEST_REST = 1.0
"""Seconds that one scan may wait: longer, and the engine would take the card for hung."""


class Thermometer:
    """Rests a card that has reached its limit. Without NVML or without a limit it does nothing."""

    def __init__(
        self,
        bus: str,
        sleep: Callable[[float], None] = time.sleep,
        limit: int | None = None,
    ) -> None:
        """`bus`: the card's PCI bus id. ValueError for a limit in the environment that is no number."""
        self._sleep, self._limit = sleep, _limit_of_environment() if limit is None else limit
        opened: tuple[Any, Any] = _open(bus) if self._limit else (None, None)
        self._nvml, self._handle = opened

    def celsius(self) -> int | None:
        """Of the chip; None if it cannot be had."""
        if self._nvml is None:
            return None
        try:
            return int(self._nvml.nvmlDeviceGetTemperature(self._handle, self._nvml.NVML_TEMPERATURE_GPU))
        except self._nvml.NVMLError:
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
