"""The search in this machine's own code: which forms its CPU can run, compiled once and kept on disk.

A *form* is one way to lower the search. All forms have the same signature (`kernels.llvm`) and the same
answers; which is fastest depends on the CPU.

LLVM is reached through llvmlite, the compiler that Numba is built on, and not through Numba itself: the forms
differ in target features, which Numba fixes for a whole process, and importing Numba takes longer than all the
rest of a start (docs/decisions/0010-llvm-without-numba-s-front-end.md).
"""

import ctypes
import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Protocol

import llvmlite
from llvmlite import binding as llvm
from llvmlite import ir

from kernels.llvm import Lanes, VectorForm
from kernels.sha_extensions import ShaForm

CHUNK: Final = 1 << 15
"""Most items (blocks times versions) of one call: some milliseconds, and a quarter of a megabyte of entries."""


class Lowered(Protocol):
    """What a form's code needs to be run."""

    nonces_per_block: int
    scratch_bytes: int

    def shared_words(self, tail: bytes) -> list[int]:
        """The words of the prologue that every version shares."""

    def version_words(self, midstate: Sequence[int], tail: bytes) -> list[int]:
        """One version's row of words."""

    def module(self) -> ir.Module:
        """A module with the function `scan`."""


@dataclass(frozen=True)
class Form:
    """One way to run the search on a CPU."""

    name: str
    lower: Callable[[], Lowered]
    needs: frozenset[str] = frozenset()
    """CPU features, as LLVM calls them."""
    cpu: str = ""
    """The LLVM CPU that the code is made for; empty: the least that this kind of machine has."""
    single: bool = False
    """Whether it scans one version only."""
    replaces: frozenset[str] = frozenset()
    """Forms that are never faster where this one runs."""

    @property
    def features(self) -> str:
        """LLVM's words for the instructions that it may use besides those of `cpu`."""
        # Without it LLVM would split vectors of 512 bits on CPUs that it thinks slow with them.
        wide = ["-prefer-256-bit"] if "avx512f" in self.needs else []
        return ",".join([f"+{feature}" for feature in sorted(self.needs)] + wide)


_AVX512: Final = frozenset({"avx512f", "avx512vl", "avx512bw", "avx512dq", "avx2"})
_AVX2: Final = frozenset({"avx2"})
_SHA: Final = frozenset({"sha", "sse4.1"})
_WOVEN: Final = Lanes(8, ternary=True, plain_xor=True)
_GROUPS: Final = (6, 5, 5)
"""Five chains of `sha256rnds2`, each four cycles long, keep a unit busy; more than six run out of registers."""

FORMS: Final = (
    Form("sha-avx512-single", lambda: ShaForm(_WOVEN, _GROUPS, single=True), _SHA | _AVX512, "x86-64-v4", single=True),
    Form("sha-avx512", lambda: ShaForm(_WOVEN, _GROUPS), _SHA | _AVX512, "x86-64-v4", replaces=frozenset({"sha-avx2"})),
    Form("avx512", lambda: VectorForm(Lanes(16, ternary=True)), _AVX512, "x86-64-v4", replaces=frozenset({"avx2", "generic"})),
    Form("sha-avx2", lambda: ShaForm(Lanes(8), _GROUPS), _SHA | _AVX2, "x86-64-v3"),
    Form("avx2", lambda: VectorForm(Lanes(8)), _AVX2, "x86-64-v3", replaces=frozenset({"generic"})),
    Form("generic", lambda: VectorForm(Lanes(4))),
)
"""Every form, the likely fastest first."""


@cache
def cpu_features() -> frozenset[str]:
    """What this CPU can do, in LLVM's words; nothing on a machine that LLVM cannot ask."""
    try:
        return frozenset(name for name, has in llvm.get_host_cpu_features().items() if has)
    except RuntimeError:
        return frozenset()


def supported() -> list[Form]:
    """The forms that this CPU can run."""
    return [form for form in FORMS if form.needs <= cpu_features()]


def contenders(versions: int) -> list[Form]:
    """Those worth timing for so many versions."""
    forms = [form for form in supported() if versions == 1 or not form.single]
    replaced = frozenset[str]().union(*(form.replaces for form in forms))
    return [form for form in forms if form.name not in replaced]


@cache
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()


def compile_form(form: Form) -> bytes:
    """An object file with the form's `scan`."""
    _initialise()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=form.cpu, features=form.features, opt=2, jit=True)
    module = llvm.parse_assembly(str(form.lower().module()))
    module.verify()
    return bytes(machine.emit_object(module))


class Search:
    """A form's code, loaded. Any number of threads may call it, each with a `Scratch` of its own."""

    def __init__(self, form: Form, code: bytes) -> None:
        _initialise()
        self.form = form
        self.lowered = form.lower()
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        address = self._engine.get_function_address("scan")
        if not address:
            raise ValueError(f"the code of {form.name} has no function scan")
        # A foreign function: ctypes releases the GIL while it runs.
        self._scan = ctypes.CFUNCTYPE(
            ctypes.c_uint64,
            *(ctypes.c_uint32, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32),
            *[ctypes.c_void_p] * 3,
        )(address)

    def words(self, midstates: Sequence[Sequence[int]], tail: bytes) -> "ctypes.Array[ctypes.c_uint32]":
        """The prologue's words for a work: eight uint32 of midstate per version, header bytes 64-75."""
        words = self.lowered.shared_words(tail)
        for midstate in midstates:
            words += self.lowered.version_words(midstate, tail)
        return (ctypes.c_uint32 * len(words))(*words)

    def candidates(
        self,
        words: "ctypes.Array[ctypes.c_uint32]",
        versions: int,
        nonces: range,
        mask: int,
        scratch: "Scratch",
    ) -> list[tuple[int, int]]:
        """(nonce, index of version) of the hashes in whose last word no bit of mask is set.

        In no order; at most CHUNK items, which is `nonces_in_chunk(versions)` nonces.
        """
        per_block = self.lowered.nonces_per_block
        blocks = -(-len(nonces) // per_block)
        assert blocks * versions <= max(CHUNK, versions), "a chunk is larger than its entries"
        found = self._scan(
            nonces.start, blocks, versions, mask, words, scratch.buffers, scratch.entries(max(CHUNK, versions))
        )
        hits = []
        for entry in scratch.taken(found):
            block, version = divmod(entry >> 32, versions)
            first = nonces.start + block * per_block
            hits += [(first + lane, version) for lane in range(per_block) if entry >> lane & 1]
        # The last block reaches past the end of the range.
        return [hit for hit in hits if hit[0] < nonces.stop]

    def scratch(self) -> "Scratch":
        """Memory for one thread."""
        return Scratch(self.lowered.scratch_bytes)

    def nonces_in_chunk(self, versions: int) -> int:
        """The most nonces for one call of `candidates`."""
        return max(CHUNK // versions, 1) * self.lowered.nonces_per_block


class Scratch:
    """One thread's memory."""

    ALIGNMENT = 4096

    def __init__(self, size: int) -> None:
        self._memory = ctypes.create_string_buffer(size + self.ALIGNMENT)
        self.buffers = -(-ctypes.addressof(self._memory) // self.ALIGNMENT) * self.ALIGNMENT
        self._entries = (ctypes.c_uint64 * (CHUNK + 1))()

    def entries(self, count: int) -> "ctypes.Array[ctypes.c_uint64]":
        """Room for so many entries, and one more."""
        if len(self._entries) <= count:
            self._entries = (ctypes.c_uint64 * (count + 1))()
        return self._entries

    def taken(self, count: int) -> list[int]:
        """The first entries."""
        return self._entries[:count]


@cache
def fingerprint() -> str:
    """Names everything that the code of a form depends on: CPU, program, libraries."""
    made_of = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        made_of.update(path.read_bytes())
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


def recall(name: str) -> bytes | None:
    """What was kept under this name for this very program and machine; None if nothing, or nothing intact."""
    with suppress(OSError):
        kept = _path(name).read_bytes()
        digest, content = kept[:32], kept[32:]
        if hashlib.sha256(_salt(name) + content).digest() == digest:
            return content
    return None


def keep(name: str, content: bytes) -> None:
    """Keep it if that is possible. Whole or not at all, also if two processes do it at once."""
    path = _path(name)
    with suppress(OSError):
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


def load_form(form: Form, compiling: Callable[[str], None] = lambda name: None) -> Search:
    """The form, from the cache or compiled now; `compiling` is told its name in that case."""
    kept = recall(form.name)
    if kept is not None:
        return Search(form, kept)
    compiling(form.name)
    code = compile_form(form)
    keep(form.name, code)
    return Search(form, code)
