"""The search in this machine's own code: which forms its CPU can run, and how one is compiled and called.

A *form* is one way to lower the search. All forms have the same signature (`kernels.llvm`) and give the same
answers; which is fastest depends on the CPU.

LLVM is reached through llvmlite, the compiler that Numba is built on, and not through Numba itself: the forms
differ in target features, which Numba fixes for a whole process, and importing Numba takes longer than all
the rest of a start (docs/decisions/0010-llvm-without-numbas-front-end.md).
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from llvmlite import binding as llvm

from kernels import code_cache
from kernels.llvm import Lanes, Lowered
from kernels.sha_form import ShaForm
from kernels.vector_form import VectorForm

CHUNK: Final = 1 << 15
"""Most items (blocks times versions) of one call: some milliseconds, a quarter of a megabyte of entries."""


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
    crowded: str = ""
    """The form that is faster where the core's other hyperthread is busy; empty: this one."""

    @property
    def features(self) -> str:
        """LLVM's words for the instructions that it may use besides those of `cpu`."""
        # Without it LLVM would split vectors of 512 bits on CPUs that it thinks slow with them.
        wide = ["-prefer-256-bit"] if "avx512f" in self.needs else []
        return ",".join([f"+{feature}" for feature in sorted(self.needs)] + wide)


_AVX2: Final = frozenset({"avx2"})
_AVX512: Final = _AVX2 | {"avx512f", "avx512vl", "avx512bw", "avx512dq"}
_SHA: Final = frozenset({"sha", "sse4.1"})


_WOVEN: Final = Lanes(8, ternary=True, plain_xor=True)
"""256 bits: 512-bit rotates and `sha256rnds2` get in each other's way."""


FORMS: Final = (
    Form(
        "sha-avx512-single",
        lambda: ShaForm(_WOVEN, (6, 6, 4), 32, single=True),
        *(_SHA | _AVX512, "x86-64-v4"),
        single=True,
        replaces=frozenset({"sha-avx512-long", "sha-avx512", "sha-avx2-single", "sha-avx2"}),
    ),
    # Two groups leave fewer gaps than three, but more code than half a cache of decoded instructions holds.
    Form(
        "sha-avx512-long",
        lambda: ShaForm(_WOVEN, (9, 7), 48),
        *(_SHA | _AVX512, "x86-64-v4"),
        replaces=frozenset({"sha-avx512", "sha-avx2"}),
        crowded="sha-avx512",
    ),
    Form(
        "sha-avx512",
        lambda: ShaForm(_WOVEN, (6, 5, 5), 16),
        *(_SHA | _AVX512, "x86-64-v4"),
        replaces=frozenset({"sha-avx2"}),
    ),
    Form(
        "avx512",
        lambda: VectorForm(Lanes(16, ternary=True)),
        *(_AVX512, "x86-64-v4"),
        replaces=frozenset({"avx2", "generic"}),
    ),
    Form(
        "sha-avx2-single",
        lambda: ShaForm(Lanes(8), (6, 5, 5), 48, single=True),
        *(_SHA | _AVX2, "x86-64-v3"),
        single=True,
        replaces=frozenset({"sha-avx2"}),
    ),
    Form("sha-avx2", lambda: ShaForm(Lanes(8), (6, 5, 5), 48), _SHA | _AVX2, "x86-64-v3"),
    Form("avx2", lambda: VectorForm(Lanes(8)), _AVX2, "x86-64-v3", replaces=frozenset({"generic"})),
    Form("generic", lambda: VectorForm(Lanes(4))),
)
"""Every form, the likely fastest first."""


def supported() -> list[Form]:
    """The forms that this CPU can run."""
    return [form for form in FORMS if form.needs <= code_cache.cpu_features()]


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
    """A form's code, loaded. Any number of threads may call it, each with `Entries` of its own."""

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
            *[ctypes.c_void_p] * 2,
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
        room: "Entries",
    ) -> list[tuple[int, int]]:
        """(nonce, index of version) of the hashes in whose last word no bit of mask is set.

        By block, then by version; `nonces`: not empty, and for memory's sake no more than `nonces_in_chunk`.
        """
        per_block = self.lowered.nonces_per_block
        blocks = -(-len(nonces) // per_block)
        entries = room.of(blocks * versions)
        found = self._scan(nonces.start, blocks, versions, mask, words, entries)
        hits = []
        for entry in entries[:found]:
            block, version = divmod(entry >> 32, versions)
            first = nonces.start + block * per_block
            hits += [(first + lane, version) for lane in range(per_block) if entry >> lane & 1]
        # The last block reaches past the end of the range.
        return [hit for hit in hits if hit[0] < nonces.stop]

    def nonces_in_chunk(self, versions: int) -> int:
        """The most nonces that one call of `candidates` should get."""
        return max(CHUNK // versions, 1) * self.lowered.nonces_per_block


class Entries:
    """One thread's memory for what its scans find."""

    def __init__(self) -> None:
        self._entries = (ctypes.c_uint64 * (CHUNK + 1))()

    def of(self, count: int) -> "ctypes.Array[ctypes.c_uint64]":
        """An array of at least count + 1 uint64: the scan writes one past the last that counts."""
        if len(self._entries) <= count:
            self._entries = (ctypes.c_uint64 * (count + 1))()
        return self._entries


def load_form(form: Form, compiling: Callable[[str], None] = lambda name: None) -> Search:
    """The form, from the cache or compiled now; `compiling` is told its name in that case."""
    kept = code_cache.recall(form.name)
    if kept is not None:
        return Search(form, kept)
    compiling(form.name)
    code = compile_form(form)
    code_cache.keep(form.name, code)
    return Search(form, code)
