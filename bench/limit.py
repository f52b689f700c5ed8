"""How fast the hardware could be at most, by a model: CPU ports, or the card's pipes."""

import re
from statistics import median
from typing import TYPE_CHECKING

from bench.machine import physical_cores
from bench.measure import Candidate
from bench.results import Limit
from bench.yardstick import CLOCK, CLOCK_CYCLES
from miner.backends import Backend, devices
from miner.backends.numba import NumbaBackend

if TYPE_CHECKING:
    from kernels.native import Form


def limit_of(candidate: Candidate) -> tuple[Limit | None, str]:
    """The modelled limit of a device in this setting, or None and the reason."""
    kind = candidate.device.name.partition(":")[0]
    try:
        if kind == "numba":
            return _cpu_limit(candidate), ""
        if kind == "cuda":
            return _card_limit(candidate), ""
    except Exception as error:  # noqa: BLE001 - a model that fails must not cost the run its results
        return None, f"the model failed: {error!r:.200}"
    return None, _NO_MODEL.get(kind, f"there is no model of {kind}")


_NO_MODEL = {
    "python": "hashlib's code is OpenSSL's and the interpreter's, which is not modelled",
    "multiprocess": "hashlib's code is OpenSSL's and the interpreter's, which is not modelled",
    "numpy": "NumPy's loops move memory, which is not modelled",
    "opencl": "what an OpenCL driver makes of the kernel is not known",
}


def form_in_use(device: Backend, versions: int) -> "Form | None":
    """The numba backend's form for so many versions; None for other backends."""
    return device.form(versions) if isinstance(device, NumbaBackend) else None


def _cpu_limit(candidate: Candidate) -> Limit:
    from bench import ports

    form = form_in_use(candidate.device, candidate.versions)
    assert form is not None
    clock = _clock_beside(candidate)
    cores = min(candidate.threads, physical_cores())
    cycles, slowest = ports.bound(form, candidate.versions)
    what = {"all": "all vector instructions", "sha": "SHA instructions", "shift": "shifts and rotations"}
    how_many = f"{cores} cores" if cores > 1 else "1 core"
    return Limit(
        cores * clock / cycles,
        f"{cycles:.1f} cycles per hash for {what.get(slowest, slowest)} of {form.name}, "
        f"{how_many} at {clock / 1e9:.2f} GHz",
    )


def _clock_beside(candidate: Candidate) -> float:
    """Cycles per second of a core while the rounds were timed, by the yardstick between the scans."""
    if CLOCK not in candidate.yardsticks:
        raise ValueError("the clock was not measured")
    place = candidate.yardsticks.index(CLOCK)
    passes = median(values[place] for timed in candidate.rounds for values in timed.yardsticks)
    return passes * CLOCK_CYCLES / candidate.threads


def _card_limit(candidate: Candidate) -> Limit:
    from bench import sass

    about = next(info.description for info in devices() if info.name == candidate.device.name)
    processors, arch = re.search(r"(\d+) SM", about), re.search(r"sm_\d+", about)
    clock = candidate.card.clock() if candidate.card else None
    if not processors or not arch or clock is None:
        raise ValueError("multiprocessors, architecture and clock of the card are not all known")
    placement = str(getattr(candidate.device, "form", "")).partition(",")[0]
    cost = sass.count(arch[0], placement, candidate.versions)
    rate = int(processors[1]) * clock * 1e9 / cost.clocks
    return Limit(rate, f"{cost.clocks:.1f} clocks per hash on the {cost.bound} pipe, {clock:.2f} GHz")
