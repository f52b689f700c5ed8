"""Compiled code on disk, for this very program, CPU and compiler.

A file is believed if a digest says that it is whole and was made for just that: what is corrupt, cut, renamed
or brought from another machine is as good as absent. It is not protected from its owner, whose programs run
with the same rights anyway.
"""

import hashlib
import os
import platform
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import llvmlite
from llvmlite import binding as llvm

SOURCES = tuple(
    f"{name}.py"
    for name in (
        *("sha256", "program", "sums", "trace", "search", "llvm", "vector_form"),
        *("lane_schedule", "lane_rounds", "sha_form", "native"),
    )
)
"""The files that decide what the compiled code is."""


@cache
def cpu_features() -> frozenset[str]:
    """What this CPU can do, in LLVM's words; nothing on a machine that LLVM cannot ask."""
    try:
        return frozenset(name for name, has in llvm.get_host_cpu_features().items() if has)
    except RuntimeError:
        return frozenset()


@cache
def fingerprint() -> str:
    """Names everything that the code of a form depends on: CPU, program, libraries."""
    made_of = hashlib.sha256()
    for name in SOURCES:
        made_of.update((Path(__file__).parent / name).read_bytes())
    about = (llvmlite.__version__, llvm.llvm_version_info, platform.machine(), sys.platform, cpu_model())
    made_of.update(repr((about, sorted(cpu_features()))).encode())
    return made_of.hexdigest()[:32]


@cache
def cpu_model() -> str:
    """What the CPU calls itself, or else LLVM's name for it: znver4, apple-m1."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return str(llvm.get_host_cpu_name())


def cache_folder() -> Path:
    """Where compiled code is kept: the user's cache folder, or what NONCEFORGE_CACHE says."""
    if told := os.environ.get("NONCEFORGE_CACHE"):
        return Path(told)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "nonceforge"


_NO_FOLDER = (OSError, RuntimeError)
"""What goes wrong with files; and where there is no home, Path.home says RuntimeError."""


def recall(name: str) -> bytes | None:
    """What was kept under this name for this very program and machine; None if nothing, or nothing intact."""
    with suppress(*_NO_FOLDER):
        kept = _path(name).read_bytes()
        digest, content = kept[:32], kept[32:]
        if hashlib.sha256(_salt(name) + content).digest() == digest:
            return content
    return None


def keep(name: str, content: bytes) -> None:
    """Keep it if that is possible. Whole or not at all, also if two processes do it at once."""
    with suppress(*_NO_FOLDER):
        path = _path(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                file.write(hashlib.sha256(_salt(name) + content).digest() + content)
                file.close()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise


def _path(name: str) -> Path:
    return cache_folder() / f"{name}-{fingerprint()}"


def _salt(name: str) -> bytes:
    # A file that was renamed to another form's, or copied from another machine, does not match.
    return f"{name} {fingerprint()} ".encode()
