"""What the figures belong to: processor, cards, software, commit."""

import hashlib
import importlib.metadata
import inspect
import os
import platform
import subprocess
from pathlib import Path

from bench import nvml
from bench.results import Machine
from miner.backends import devices

ROOT = Path(__file__).resolve().parent.parent
"""The checkout, or wherever the package was installed."""

FEATURES = ("avx2", "avx512f", "avx512vl", "sha_ni", "asimd", "sha2", "sve")
"""Of /proc/cpuinfo: those that a hash can be lowered to."""

PACKAGES = ("numpy", "numba", "llvmlite", "cupy-cuda12x", "pyopencl", "pocl-binary-distribution")
"""Whose version can change a rate."""


def machine(clock: float | None, root: Path = Path("/")) -> Machine:
    """This machine. `clock`: GHz as measured (bench.clock), None if it could not be."""
    name, features = _cpu(root / "proc/cpuinfo")
    cards, _ = nvml.cards()
    commit, dirty = _commit()
    return Machine(
        cpu=name,
        cores=cores(),
        features=features,
        governor=_governor(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        clock=clock,
        system=f"{platform.system()} {platform.release()}",
        gpus=tuple(card.describe() for card in cards) or _unmanaged_gpus(),
        versions=(("python", platform.python_version()), *_versions()),
        commit=commit,
        dirty=dirty,
    )


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores(root: Path = Path("/")) -> int:
    """Cores that those processors belong to, as far as the system tells: hyperthreads share one."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    found = set()
    for processor in usable:
        path = root / f"sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list"
        try:
            found.add(path.read_text().strip())
        except OSError:
            return cores()
    return len(found) or cores()


def kernel_of(backend: object) -> str:
    """16 hex digits that change with the code that hashes: the device's module and all of `kernels`."""
    digest = hashlib.sha256()
    module = inspect.getsourcefile(type(backend))
    files = [Path(module)] if module else []
    files += sorted(path for path in (ROOT / "kernels").glob("*") if path.suffix in (".py", ".cu", ".cl"))
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def form_of(backend: object) -> str:
    """How the device hashes, in its own words; its class's first sentence if it has none."""
    words = getattr(backend, "form", None) or inspect.getdoc(type(backend)) or type(backend).__name__
    return str(words).partition("\n")[0].rstrip(".")


def _cpu(cpuinfo: Path) -> tuple[str, tuple[str, ...]]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), ()
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    # ARM kernels give features under another name, and no model name.
    flags = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
    family = ", ".join(f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields)
    name = fields.get("model name") or platform.machine()
    return f"{name} ({family})" if family else name, tuple(f for f in FEATURES if f in flags)


def _unmanaged_gpus() -> tuple[str, ...]:
    """Cards that NVML does not know: AMD's, Intel's, or NVIDIA's without its Python package."""
    return tuple(info.description for info in devices() if info.gpu and info.available)


def _governor(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _versions() -> list[tuple[str, str]]:
    found = []
    for package in PACKAGES:
        try:
            found.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> tuple[str, bool | None]:
    """The checkout's commit, and whether anything that hashes or measures differs from it."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return "", None
    changed = _git("status", "--porcelain", "--", "miner", "kernels", "bench/*.py")
    return commit, bool(changed)


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
