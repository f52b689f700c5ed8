"""NVIDIA's compiler and disassembler, from the wheels or from an installed toolkit. No card is needed.

Wheels: nvidia-cuda-nvrtc (the compiler as a library, what CuPy uses), nvidia-cuda-nvcc (ptxas and nvcc),
nvidia-cuda-nvdisasm. They unpack into folders called nvidia/... below site-packages.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

WHEELS = "pip install nvidia-cuda-nvrtc nvidia-cuda-nvcc nvidia-cuda-nvdisasm"


class ToolMissing(Exception):
    """A sentence that says which tool, and how to get it."""


class CompileError(Exception):
    """The compiler's log."""


@dataclass(frozen=True)
class Compiled:
    """What NVRTC makes of a source for one architecture."""

    ptx: str
    cubin: bytes


def _folders() -> list[Path]:
    """Where wheels and toolkits put their files, best first."""
    wheels = [Path(entry) / "nvidia" for entry in sys.path if (Path(entry) / "nvidia").is_dir()]
    inside = sorted((sub for folder in wheels for sub in folder.iterdir() if sub.is_dir()), reverse=True)
    toolkits = sorted(Path("/usr/local").glob("cuda*"), reverse=True)
    return [*inside, *(Path(p) for p in (os.environ.get("CUDA_PATH"),) if p), *toolkits]


@cache
def tool(name: str) -> str:
    """Path of an executable; ToolMissing."""
    suffix = ".exe" if sys.platform == "win32" else ""
    for folder in _folders():
        found = folder / "bin" / (name + suffix)
        if os.access(found, os.X_OK):
            return str(found)
    if found_in_path := shutil.which(name):
        return found_in_path
    raise ToolMissing(f"{name} is not found: {WHEELS}")


@cache
def nvrtc() -> ctypes.CDLL:
    """The compiler library; ToolMissing."""
    patterns = ("lib/libnvrtc.so.*", "lib64/libnvrtc.so.*", "bin/nvrtc64_*.dll", "bin/x86_64/nvrtc64_*.dll")
    for folder in _folders():
        for pattern in patterns:
            for path in sorted(folder.glob(pattern)):
                if "builtins" not in path.name and "alt" not in path.name:
                    return ctypes.CDLL(str(path))
    raise ToolMissing(f"NVRTC is not found: {WHEELS}")


def nvrtc_version() -> tuple[int, int]:
    """(13, 0) for CUDA 13.0."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def architectures() -> list[str]:
    """Every real architecture that this NVRTC compiles for: sm_75, ..."""
    count = ctypes.c_int()
    nvrtc().nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    nvrtc().nvrtcGetSupportedArchs(numbers)
    return [f"sm_{number}" for number in numbers]


@cache
def compiled(source: str, arch: str, options: tuple[str, ...] = ("-std=c++17",)) -> Compiled:
    """PTX and machine code for a real architecture (sm_89); CompileError with the log."""
    library, program = nvrtc(), ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"scan.cu", 0, None, None)
    try:
        words = [option.encode() for option in (f"--gpu-architecture={arch}", *options)]
        failed = library.nvrtcCompileProgram(program, len(words), (ctypes.c_char_p * len(words))(*words))
        if failed:
            raise CompileError(_output(program, "ProgramLog").rstrip(b"\0").decode(errors="replace"))
        ptx = _output(program, "PTX").rstrip(b"\0").decode()
        return Compiled(ptx, _output(program, "CUBIN"))
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _output(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(nvrtc(), f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc(), f"nvrtcGet{what}")(program, text)
    return text.raw


def disassembly(cubin: bytes) -> str:
    """`nvdisasm -c` of a cubin."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "scan.cubin"
        file.write_bytes(cubin)
        done = subprocess.run([tool("nvdisasm"), "-c", str(file)], capture_output=True, text=True)
    if done.returncode:
        raise CompileError(done.stderr)
    return done.stdout
