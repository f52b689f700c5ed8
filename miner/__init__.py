"""Nonceforge: a SHA-256d mining engine to read, embed and trust.

    from miner import solve
    share = solve(header_hex)

These names are the public ones; everything else may change. Each is imported on
first use, so that `import miner` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from miner.backends import Backend as Backend
    from miner.backends import DeviceInfo as DeviceInfo
    from miner.backends import devices as devices
    from miner.backends import open_backend as open_backend
    from miner.chain import Chain as Chain
    from miner.engine import Engine as Engine
    from miner.engine import Update as Update
    from miner.engine import WorkSource as WorkSource
    from miner.errors import MinerError as MinerError
    from miner.errors import RuleError as RuleError
    from miner.grind import solve as solve
    from miner.header import BlockHeader as BlockHeader
    from miner.params import network as network
    from miner.sources.local import LocalSource as LocalSource
    from miner.stats import Stats as Stats
    from miner.store import MemoryStore as MemoryStore
    from miner.store import SqliteStore as SqliteStore
    from miner.work import Hit as Hit
    from miner.work import Job as Job
    from miner.work import Outcome as Outcome
    from miner.work import Share as Share
    from miner.work import Verdict as Verdict
    from miner.work import Work as Work

_HOMES = {
    "miner.backends": ("Backend", "DeviceInfo", "devices", "open_backend"),
    "miner.chain": ("Chain",),
    "miner.engine": ("Engine", "Update", "WorkSource"),
    "miner.errors": ("MinerError", "RuleError"),
    "miner.header": ("BlockHeader",),
    "miner.params": ("network",),
    "miner.grind": ("solve",),
    "miner.sources.local": ("LocalSource",),
    "miner.stats": ("Stats",),
    "miner.store": ("MemoryStore", "SqliteStore"),
    "miner.work": ("Hit", "Job", "Outcome", "Share", "Verdict", "Work"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'miner' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
