"""How fast the hardware could be at most, by a model."""

from bench.results import Limit, Machine
from miner.backends import Backend


def limit_of(device: Backend, threads: int, versions: int, about: Machine) -> tuple[Limit | None, str]:
    """The modelled limit of a device in this setting, or None and the reason."""
    return None, "no model of this device yet"
