"""What is measured beside the devices as they come: numbers of threads, of versions, sizes of batches."""

from collections.abc import Iterable

from bench.campaign import Setting

KINDS = ("threads", "versions", "batch")

VERSIONS = (1, 2, 4, 8, 16)
"""Sibling headers per scan."""

BATCH_SECONDS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.3)
"""Length of a scan: the shorter, the sooner a device notices a new tip, and the more overhead it has."""

THREADED = ("numba", "multiprocess")
"""Backends that take a number of threads."""


def settings(kind: str, backends: Iterable[str], cores: int) -> list[Setting]:
    """The settings of a sweep over these backends; those that it means nothing to are left out."""
    found: list[Setting] = []
    for name in backends:
        if kind == "threads" and name in THREADED:
            found += [Setting(name, threads=count, sweep=kind) for count in thread_counts(cores)]
        elif kind == "versions":
            found += [Setting(name, versions=count, sweep=kind) for count in VERSIONS]
        elif kind == "batch":
            found += [Setting(name, batch_seconds=seconds, sweep=kind) for seconds in BATCH_SECONDS]
    return found


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4 ... and all of them."""
    return sorted({*(1 << i for i in range(cores.bit_length()) if 1 << i <= cores), cores})
