"""Resting a hot card, with a stand-in for NVIDIA's management library."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from miner.backends import nvml
from miner.backends.nvml import HYSTERESIS, LONGEST_REST, Thermometer


class NVMLError(Exception):
    """What pynvml raises."""


class Cooling:
    """A card that starts hot and cools by one degree at each look; `sleep` notes how long it rests."""

    def __init__(self, degrees: int, step: int = 1) -> None:
        self.degrees, self.step, self.rested = degrees, step, 0.0

    def module(self) -> Any:
        return SimpleNamespace(
            NVML_TEMPERATURE_GPU=0,
            NVMLError=NVMLError,
            nvmlInit=lambda: None,
            nvmlDeviceGetHandleByPciBusId=lambda bus: bus,
            nvmlDeviceGetTemperature=self.temperature,
            NVML_CLOCK_SM=1,
            nvmlDeviceGetPowerUsage=lambda handle: 312_400,
            nvmlDeviceGetClockInfo=lambda handle, clock: 2520,
            nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x04 | 0x20,
        )

    def temperature(self, handle: str, sensor: int) -> int:
        if self.degrees < 0:
            raise NVMLError("Not Supported")
        self.degrees -= self.step
        return self.degrees + self.step

    def sleep(self, seconds: float) -> None:
        self.rested += seconds


def thermometer(card: Cooling, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> Thermometer:
    monkeypatch.setitem(sys.modules, "pynvml", card.module())
    return Thermometer("0000:01:00.0", card.sleep, limit)


def test_a_hot_card_rests_until_it_is_below_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Cooling(82)
    thermometer(card, 80, monkeypatch).wait_until_cool()
    assert card.degrees < 80 - HYSTERESIS + 1
    assert 0 < card.rested < LONGEST_REST


def test_a_card_that_stays_hot_goes_on_before_it_looks_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Cooling(95, step=0)
    thermometer(card, 80, monkeypatch).wait_until_cool()
    assert card.rested == pytest.approx(LONGEST_REST, abs=0.06)


@pytest.mark.parametrize(("degrees", "limit"), [(79, 80), (95, None), (-1, 80)])
def test_a_cool_card_or_one_without_limit_or_sensor_does_not_rest(
    degrees: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Cooling(degrees)
    thermometer(card, limit, monkeypatch).wait_until_cool()
    assert card.rested == 0


def test_without_the_library_nothing_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Thermometer("0000:01:00.0", limit=80).celsius() is None


def test_the_limit_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(nvml.LIMIT, "70")
    card = Cooling(72)
    thermometer(card, None, monkeypatch).wait_until_cool()
    assert card.rested > 0


@pytest.mark.parametrize("text", ["hot", "20", "111", "-5"])
def test_a_limit_that_is_no_temperature_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(nvml.LIMIT, text)
    with pytest.raises(ValueError, match=rf"NONCEFORGE_GPU_LIMIT is '{text}'"):
        Thermometer("0000:01:00.0")


def test_a_card_tells_how_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert thermometer(Cooling(71), None, monkeypatch).condition() == (
        "71 °C, 312 W, 2520 MHz, held back by power cap and thermal limit of the driver"
    )


def test_a_card_tells_what_its_driver_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Cooling(-1)  # no sensor
    module = card.module()
    del module.nvmlDeviceGetPowerUsage, module.nvmlDeviceGetCurrentClocksThrottleReasons
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert Thermometer("0000:01:00.0", card.sleep, None).condition() == "2520 MHz"


def test_without_nvml_a_card_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Thermometer("0000:01:00.0").condition() == ""
