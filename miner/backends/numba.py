"""The search program in this CPU's own vector code, on every core.

The code is made by LLVM through llvmlite, which comes with Numba
(docs/decisions/0010-llvm-without-numbas-front-end.md). There are several forms
of it, and the fastest is found out (`miner/backends/forms.py`). Where that has another
form for crowded cores, each thread takes what suits its core at the moment.

A range is cut into chunks that get shorter towards its end. Each thread takes the next one, and
none holds the GIL while it hashes: a slower core gets fewer, and all end within 0.1 ms on two threads.
The thread that calls `scan` is one of them: to wake all and wait for them would cost half a per cent.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from typing import TYPE_CHECKING

from miner.backends.choice import Choice
from miner.backends.forms import SIBLINGS, fastest, known, load, with_crowded
from miner.backends.pieces import Pieces
from miner.backends.protocol import Backend, DeviceInfo, check_nonces, check_threads
from miner.backends.thread_clock import thread_seconds
from miner.errors import DeviceUnavailable, SelfTestFailed
from miner.work import Hit, Work

if TYPE_CHECKING:
    from kernels.native import Entries, Form, Search

MAX_THREADS = 256
"""As many worker threads as make sense on any machine."""

LEAST_CHUNK = 1 << 11
"""Hashes, times threads, of the shortest chunks: 40 us each. A call holds the interpreter for 10 to 20 us, in
which no other thread can take a chunk; and a chunk is what one waits for another at the end of a scan."""

TURN = 1 << 17
"""Hashes after which a thread may change its code: 2.5 ms, or four shortest chunks."""


class NumbaBackend:
    """`threads` threads of one form, or of the one that is fastest for the number of versions."""

    name = "numba"
    siblings = SIBLINGS

    def __init__(self, threads: int, form: "Form | None" = None) -> None:
        self.threads = threads
        self._form = form
        self._searches: dict[bool, tuple[Search, ...]] = {}  # one, or two as choice.ALONE and BESIDE say
        self._thread = _Thread()
        self._helpers = ThreadPoolExecutor(max(threads - 1, 1), thread_name_prefix="numba")
        self._prepared: _Prepared | None = None
        self._closed = False

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """Every (nonce, version) whose hash meets work.target, sorted. SelfTestFailed if codes disagree."""
        if self._closed:
            raise ValueError("the numba backend is closed")
        check_nonces(nonces)
        if not nonces:
            return []
        if len(work.versions) > 1 and self._codes(len(work.versions))[0].form.single:
            alone = [replace(work, versions=(version,)) for version in work.versions]
            return sorted(hit for one in alone for hit in self.scan(one, nonces))
        prepared = self._prepare(work)
        if len(nonces) < prepared.most:
            return self._scan_by_all(prepared, nonces)
        return self._scan_by(None, prepared, nonces)

    def _scan_by_all(self, prepared: "_Prepared", nonces: range) -> list[Hit]:
        """By every code, so that the self-test, whose scans are short, proves them all."""
        first, *others = (self._scan_by(code, prepared, nonces) for code in range(len(prepared.codes)))
        if any(other != first for other in others):
            names = " and ".join(search.form.name for search in prepared.codes)
            raise SelfTestFailed(f"numba: {names} disagree about nonces {nonces.start} to {nonces.stop - 1}")
        return first

    def _scan_by(self, code: int | None, prepared: "_Prepared", nonces: range) -> list[Hit]:
        """By this code, or by what suits each thread's core."""
        threads = min(self.threads, -(-len(nonces) // prepared.least))
        chunks = Pieces(nonces, threads, prepared.least, prepared.most)
        scan = partial(self._scan_chunks, code, prepared, chunks)
        helpers = [self._helpers.submit(scan) for _ in range(threads - 1)]
        hits = scan()
        for helper in helpers:
            if not helper.cancel():  # it has begun; else there is nothing left for it to do
                hits += helper.result()
        return sorted(hits)

    def close(self) -> None:
        """End the threads."""
        self._closed = True
        self._helpers.shutdown()

    def describe(self) -> str:
        """The forms in use, by name."""
        names = {search.form.name for codes in self._searches.values() for search in codes}
        return ", ".join(sorted(names)) or "not yet compiled"

    def form(self, versions: int) -> "Form":
        """The form for so many versions, on a core of its own."""
        return self._codes(versions)[0].form

    def _prepare(self, work: Work) -> "_Prepared":
        if self._prepared is None or self._prepared.work is not work:
            self._prepared = _Prepared(work, self._codes(len(work.versions)), self.threads)
        return self._prepared

    def _codes(self, versions: int) -> "tuple[Search, ...]":
        single = versions == 1
        if single not in self._searches:
            self._searches[single] = (load(self._form),) if self._form else with_crowded(fastest(versions))
        return self._searches[single]

    def _scan_chunks(self, code: int | None, prepared: "_Prepared", chunks: Pieces) -> list[Hit]:
        versions, hits = len(prepared.work.versions), list[Hit]()
        choice = self._thread.choices.setdefault(versions, Choice(len(prepared.codes)))
        try:
            for nonces in chunks:
                started = thread_seconds()
                hits += prepared.hits(choice.code if code is None else code, nonces, self._thread.entries)
                if len(nonces) >= prepared.most:
                    choice.learn((thread_seconds() - started) / (len(nonces) * versions))
        finally:
            chunks.stop()  # only if this thread has failed, or was interrupted, are there any left
        return hits


class _Thread(threading.local):
    """What each thread keeps for itself from scan to scan."""

    def __init__(self) -> None:
        from kernels.native import Entries

        self.entries = Entries()
        self.choices: dict[int, Choice] = {}
        """By the number of versions, as a hash's cost depends on it."""


class _Prepared:
    """A work as the threads need it."""

    def __init__(self, work: Work, codes: "tuple[Search, ...]", threads: int) -> None:
        self.work = work
        self.codes = codes
        self._words = [search.words(work.midstates, work.tail) for search in codes]
        self._mask = top_mask(work.target)
        versions, least = len(work.versions), LEAST_CHUNK * threads
        turn = max(max(TURN, 4 * least) // versions, 1)
        self.most = min(turn, *(search.nonces_in_chunk(versions) for search in codes))
        self.least = min(max(least // versions, 1), self.most)

    def hits(self, code: int, nonces: range, entries: "Entries") -> list[Hit]:
        """The candidates whose whole hash meets the target, by this one of the codes."""
        work, versions = self.work, self.work.versions
        search, words = self.codes[code], self._words[code]
        found = search.candidates(words, len(versions), nonces, self._mask, entries)
        candidates = (Hit(nonce, versions[index]) for nonce, index in found)
        return [hit for hit in candidates if _value(work.header_of(hit)) <= work.target]


def _value(header: bytes) -> int:
    return int.from_bytes(sha256(sha256(header).digest()).digest(), "little")


def top_mask(target: int) -> int:
    """The bits of a digest's last word that are zero in every hash that meets the target.

    The hash is a little-endian number, the word big-endian: its bytes are reversed.
    """
    zeros = 32 - (target >> 224).bit_length()
    top_bits = (1 << 32) - (1 << 32 - zeros)
    return int.from_bytes(top_bits.to_bytes(4, "big"), "little")


def open(selector: str | None, threads: int | None) -> Backend:
    """All cores that we may use, or `threads` of them. DeviceUnavailable without Numba."""
    if selector is not None:
        raise ValueError(f"numba has no device {selector!r}: there is one, called numba")
    check_threads(threads, MAX_THREADS)
    if reason := _why_not():
        raise DeviceUnavailable(reason)
    try:
        from kernels import native  # noqa: F401  as early as it can be said what is wrong with it
    except (ImportError, OSError) as error:
        raise DeviceUnavailable(f"llvmlite, Numba's compiler, cannot be loaded: {error}") from error
    return NumbaBackend(threads or _cores())


def devices() -> list[DeviceInfo]:
    """One: all cores together, with the forms that were found fastest."""
    if reason := _why_not():
        return [DeviceInfo("numba", False, "vector code for the CPU", reason)]
    from kernels import code_cache

    names = dict.fromkeys(known(versions) for versions in (1, SIBLINGS))
    forms = " and ".join(filter(None, names)) or "not yet compiled"
    return [DeviceInfo("numba", True, f"{_cores()} threads of {code_cache.cpu_model()}: {forms}")]


def _why_not() -> str:
    # Looked for, not imported: Numba takes longer to import than all the rest of a start.
    with suppress(ImportError, ValueError):
        if find_spec("numba") and find_spec("llvmlite"):
            return ""
    return "numba is not installed: pip install 'nonceforge[numba]'"


def _cores() -> int:
    # The affinity mask is what containers and taskset leave us of the machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_THREADS)
