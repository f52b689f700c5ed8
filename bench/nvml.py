"""NVIDIA cards as their driver's management library sees them (NVML, package nvidia-ml-py)."""

from typing import Any

_SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "driver's thermal limit",
    0x40: "hardware's thermal limit",
    0x80: "power brake",
}
"""nvmlClocksEventReason bits (nvml.h) of a card that is slower than it should be. The power cap, 0x04,
is not among them: a card that hashes always runs into it."""


class Card:
    """One card, by its NVML number. Figures that the driver does not give are None."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml, self._handle = nvml, nvml.nvmlDeviceGetHandleByIndex(index)

    def joules(self) -> float | None:
        """Energy since the driver was loaded; Volta and later."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1000

    def temperature(self) -> float | None:
        """Degrees Celsius of the chip."""
        found = self._ask("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU)
        return None if found is None else float(found)

    def clock(self) -> float | None:
        """GHz of the multiprocessors, now."""
        found = self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)
        return None if found is None else found / 1000

    def slowdowns(self) -> str:
        """Why the card is slower than it could be right now; empty if it is not."""
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        return ", ".join(word for bit, word in _SLOWDOWNS.items() if reasons & bit)

    def describe(self) -> str:
        """Name, UUID, driver, highest clock, power limit."""
        watts = self._ask("nvmlDeviceGetPowerManagementLimit")
        most = self._ask("nvmlDeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_SM)
        parts = [
            _text(self._ask("nvmlDeviceGetName")) or "unnamed card",
            _text(self._ask("nvmlDeviceGetUUID")),
            f"driver {_text(self._nvml.nvmlSystemGetDriverVersion())}",
            f"at most {most} MHz" if most else "",
            f"power limit {watts / 1000:.0f} W" if watts else "",
        ]
        return ", ".join(part for part in parts if part)

    def _ask(self, function: str, *arguments: object) -> Any:
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except (self._nvml.NVMLError, AttributeError):
            return None  # this card or this version of the library does not tell


def cards() -> tuple[list[Card], str]:
    """All of them; if there are none, why."""
    try:
        import pynvml
    except ImportError:
        return [], "nvidia-ml-py is not installed: pip install 'nonceforge[bench]'"
    try:
        pynvml.nvmlInit()
        found = [Card(pynvml, i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        return [], f"NVML: {error}"
    return found, "" if found else "no NVIDIA card"


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
