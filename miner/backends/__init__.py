"""Devices: the protocol they obey, how one is found by name, and the test that each must pass first."""

from typing import Protocol

from miner.work import Hit, Work


class Backend(Protocol):
    """One device. The engine calls it from one thread at a time."""

    @property
    def name(self) -> str:
        """"numba", "cuda:0", ...: the CLI word and the benchmark row."""

    @property
    def siblings(self) -> int:
        """How many versions per Work it is fastest with; 1 if it gains nothing from more."""

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """Every (nonce, version) whose header hash meets work.target, sorted."""

    def close(self) -> None:
        """Free the device; scanning afterwards is an error. Closing twice is not."""
