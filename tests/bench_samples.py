"""Made-up runs for the tests of reports and comparisons; the noise follows from the seed."""

import random
from dataclasses import replace

from bench.results import SCHEMA, Limit, Machine, Proof, Refused, Results, Round, Row

PROVEN = Proof(
    hits=4130, expected=4130, missing=0, extra=0, checked=1.0, reference="hashlib", score=0.5,
    blocks=4, blocks_found=4, dense_expected=16400, dense_missing=0, dense_extra=0,
)  # fmt: skip

MACHINE = Machine(
    cpu="AMD EPYC", cores=2, features=("avx512f", "sha_ni"), governor="", clock=3.7, system="Linux 6.1",
    gpus=(), versions=(("python", "3.11.7"),), commit="0123456789abcdef", dirty=False,
)  # fmt: skip

RATES = {"python": 0.9e6, "multiprocess": 1.8e6, "numpy": 3.1e6, "numba": 71e6}


def timed(rate, machine, source, noise, scans=6):
    """A round at about this rate, on a machine whose yardsticks say about `machine`."""
    return Round(
        scan_hashes=(int(rate * 0.05),) * scans,
        scan_seconds=tuple(0.05 / (1 + source.gauss(0, noise)) for _ in range(scans)),
        yardsticks=tuple(
            tuple(1e4 * machine * (1 + source.gauss(0, noise / 2**0.5)) for _ in range(2))  # a mean of two
            for _ in range(scans)
        ),
    )


def row(backend="numba", rate=None, *, rounds=12, noise=0.01, seed=1, machine=1.0, **changes):
    """A row of `rounds` rounds; `machine` scales rate and yardsticks alike."""
    source = random.Random(f"{backend} {seed}")
    rate = rate or RATES.get(backend, 50e6)
    made = []
    for _ in range(rounds):
        speed = machine * (1 + source.gauss(0, noise))
        made.append(timed(rate * speed, speed, source, noise))
    gpu = backend.startswith("cuda")
    if gpu:
        made = [replace(round, yardsticks=()) for round in made]
    made_row = Row(
        backend=backend, gpu=gpu, threads=1, versions=1,
        batch=int(rate * 0.05), form="test", kernel="00" * 8,
        open_seconds=0.5, first_seconds=0.1, warmup=5, yardsticks=() if gpu else ("sha3", "wide"),
        rounds=tuple(made), proof=PROVEN, health="clean", health_reason="",
        limit=Limit(1.2 * rate, "a model"), limit_reason="", energy_reason="no counter",
    )  # fmt: skip
    return replace(made_row, **changes)


def results(*rows, machine=MACHINE, refused=(), created="2026-11-22T12:00:00Z"):
    """A run of these rows; without any, one of each CPU device."""
    rows = rows or tuple(row(name) for name in RATES)
    return Results(SCHEMA, created, "default", 1, 60.0, machine, rows, tuple(refused))


ABSENT = Refused("cuda", "no CUDA driver on this machine", failed=False)
BROKEN = Refused("opencl:0", "3 of 4,130 hits are missing", failed=True)
