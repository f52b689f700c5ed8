"""What the machine says about itself, and what is made of a machine that says nothing."""

import os
from pathlib import Path

import pytest

from bench import machine
from bench.clock import measured_clock
from bench.energy import meter_for
from bench.load import Load, judge_health, read_load
from bench.nvml import Card
from miner.backends.python import PythonBackend

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC 9V74
flags\t\t: fpu sse2 avx2 avx512f sha_ni

processor\t: 1
model name\t: another
"""


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_the_processor_is_read_from_its_file(tmp_path):
    write(tmp_path, "proc/cpuinfo", CPUINFO)
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    found = machine.machine(3.7, tmp_path)
    assert found.cpu == "AMD EPYC 9V74 (cpu family 25, model 17)"
    assert found.features == ("avx2", "avx512f", "sha_ni")
    assert found.governor == "performance"
    assert found.cores >= 1
    assert dict(found.versions)["python"]


def test_a_machine_without_proc_is_still_described(tmp_path):
    found = machine.machine(None, tmp_path)
    assert found.cpu
    assert found.governor == ""


def test_the_kernel_hash_changes_with_the_backend():
    class Other(PythonBackend):
        """Another module, another hash."""

    assert machine.kernel_of(PythonBackend()) == machine.kernel_of(PythonBackend())
    assert machine.kernel_of(PythonBackend()) != machine.kernel_of(Other())


def test_rapl_counts_all_packages_and_survives_the_wrap(tmp_path):
    for package in (0, 1):
        write(tmp_path, f"intel-rapl:{package}/energy_uj", "999000000")
        write(tmp_path, f"intel-rapl:{package}/max_energy_range_uj", "1000000000")
    write(tmp_path, "intel-rapl:0:0/energy_uj", "1")  # a core of package 0: it is in the sum already
    meter = meter_for("numba", gpu=False, powercap=tmp_path)
    assert meter.reason == ""
    assert meter.read() == 0
    write(tmp_path, "intel-rapl:0/energy_uj", "4000000")  # wrapped: 1 J + 4 J
    write(tmp_path, "intel-rapl:1/energy_uj", "999500000")
    assert meter.read() == pytest.approx(5.5)


def test_a_machine_without_rapl_says_so(tmp_path):
    meter = meter_for("numba", gpu=False, powercap=tmp_path)
    assert meter.read() is None
    assert "no RAPL" in meter.reason


def test_an_opencl_card_has_no_counter_that_is_known():
    assert meter_for("opencl:0", gpu=True).reason == "no energy counter is known for opencl:0"


STAT = "cpu  1000 20 300 9000 50 6 7 80 40 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"


def test_load_counts_stolen_time_but_not_idle_nor_guest_time(tmp_path):
    write(tmp_path, "proc/stat", STAT)
    busy = read_load(tmp_path).busy
    assert busy == pytest.approx((1000 + 20 + 300 + 6 + 7 + 80) / 100)


def test_load_is_unknown_where_the_system_does_not_tell(tmp_path):
    load = read_load(tmp_path)
    assert load.busy is None
    assert load.throttles is None
    assert load.others_since(load, 1.0) is None
    assert Load(10.0, 4.0, None).others_since(Load(8.0, 3.5, None), 2.0) == pytest.approx(0.75)


def test_thermal_throttling_is_counted_over_all_cores(tmp_path):
    for core, count in enumerate((3, 4)):
        write(tmp_path, f"sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count", str(count))
    assert read_load(tmp_path).throttles == 7


def test_this_process_is_not_one_of_the_others():
    before = read_load()
    sum(i * i for i in range(400_000))
    after = read_load()
    assert after.own >= before.own
    assert after.others_since(before, 1.0) in (None, pytest.approx(0.5, abs=0.5))


@pytest.mark.parametrize(
    ("variation", "others", "waited", "throttled", "word"),
    [
        (0.01, 0.0, 0.0, "", "clean"),
        (0.01, None, None, "", "clean"),
        (0.08, 0.0, 0.0, "", "noisy"),
        (0.08, 0.2, 0.0, "", "shared"),
        (0.01, 0.0, 0.1, "", "shared"),
        (0.08, 0.2, 0.1, "driver's thermal limit", "throttled"),
    ],
)
def test_the_worst_is_said(variation, others, waited, throttled, word):
    health = judge_health(variation, others, waited, throttled)
    assert health.word == word
    assert bool(health.reason) == (word != "clean")


def test_waiting_for_a_processor_is_told_from_running():
    before, after = Load(None, 0, None, 1.0, 2.0), Load(None, 0, None, 1.3, 2.1)
    assert after.waited_since(before) == pytest.approx(0.25)
    assert after.waited_since(Load(None, 0, None)) is None
    assert before.waited_since(before) == 0.0


def test_the_waiting_of_all_our_threads_is_summed(tmp_path):
    me = os.getpid()
    write(tmp_path, f"proc/{me}/task/{me}/schedstat", "3000000000 500000000 7")
    write(tmp_path, f"proc/{me}/task/{me}/children", "4242")
    write(tmp_path, f"proc/{me}/task/{me + 1}/schedstat", "1000000000 0 7")
    write(tmp_path, "proc/4242/task/4242/schedstat", "2000000000 1000000000 7")
    write(tmp_path, "proc/4242/stat", "4242 (a (b) c) S " + " ".join(["0"] * 10) + " 150 50 0")
    load = read_load(tmp_path)
    assert (load.ran, load.queued) == (6.0, 1.5)
    assert load.own >= 2.0


def test_the_measured_clock_is_one_that_a_processor_can_have():
    clock, reason = measured_clock()
    assert clock is None or 0.3 < clock < 8
    assert (clock is None) == bool(reason)


class FakeNvml:
    """The calls of NVML that are used, with a card that knows some of the answers."""

    class NVMLError(Exception):
        pass

    NVML_TEMPERATURE_GPU, NVML_CLOCK_SM = 0, 1

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return 5_000_000

    def nvmlDeviceGetName(self, handle):
        return b"NVIDIA H200"

    def nvmlDeviceGetUUID(self, handle):
        raise self.NVMLError

    def nvmlSystemGetDriverVersion(self):
        return "570.1"

    def nvmlDeviceGetPowerManagementLimit(self, handle):
        return 700_000

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return 0x04 | 0x40


def test_a_card_tells_what_its_driver_knows():
    card = Card(FakeNvml(), 0)
    assert card.joules() == 5000
    assert card.temperature() is None
    assert card.describe() == "NVIDIA H200, driver 570.1, power limit 700 W"
    # The power cap is not a fault: a card that hashes always runs into it.
    assert card.slowdowns() == "hardware's thermal limit"
