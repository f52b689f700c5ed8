"""One scan as launches: what every device that runs a generated kernel has in common.

A device is a `Launcher`: it starts a launch in one of two slots and later hands over what that launch
found. This module cuts a scan into launches of about a time slice, keeps both slots busy so that the device
never waits for Python, splits what overflowed the result buffer, and decides about every candidate with
hashlib: a device filters on the top 32 bits of the hash alone.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from miner.errors import DeviceFault
from miner.header import sha256d
from miner.work import Hit, Work

SLOTS = 2
"""Launches in flight: one runs while the host reads the other's results."""

CAPACITY = 8192
"""(nonce, version) pairs that a result buffer holds: 64 KiB, a few microseconds to copy."""

RESULT_WORDS = 2 + 2 * CAPACITY
"""uint32 in a result buffer: the number of hits, one unused, then the pairs (kernels/scan.cu)."""

FIRST_COUNT, MAX_COUNT = 1 << 16, 1 << 30
"""Nonces of the first launch, and of any."""

SLICE_SECONDS = 0.025
"""What a launch should take. A display driver kills what blocks a card for two seconds (Windows' default)."""


class Launch(NamedTuple):
    """A piece of a scan: some versions of a work, by their place in it, and a range of nonces."""

    versions: tuple[int, ...]
    nonces: range


@dataclass(frozen=True)
class Question:
    """What a launcher needs to know of a launch."""

    midstates: tuple[tuple[int, ...], ...]
    """One for each version of the launch."""
    tail: bytes
    nonces: range
    top: int
    """The top 32 bits of the target: a hash is a candidate if its own are at most that."""


class Launcher(Protocol):
    """Runs a kernel. Errors of the device leave both functions as DeviceFault."""

    def start(self, slot: int, question: Question) -> None:
        """Begin a launch; returns at once. The slot is free, or has been finished."""

    def finish(self, slot: int) -> Sequence[int]:
        """Wait for the launch in this slot: its result buffer, `RESULT_WORDS` uint32."""


class Launches:
    """Scans with any launcher."""

    def __init__(
        self, launcher: Launcher, groups: Sequence[int], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """`groups`: how many versions its kernels take, among them 1."""
        self._launcher, self._groups, self._clock = launcher, sorted(groups, reverse=True), clock
        self._hashes = float(FIRST_COUNT)  # that fill a slice, as far as is known

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """Every hit, sorted."""
        hits: list[Hit] = []
        for launch, found, pairs in self._finished(work, nonces):
            if found > len(pairs):
                assert found > CAPACITY
                continue  # its parts are on their way
            hits += self._verified(work, launch, pairs)
        return sorted(hits)

    def _finished(self, work: Work, nonces: range) -> Iterator[tuple[Launch, int, Any]]:
        """All launches of a scan, each with the number of candidates and those that were kept."""
        waiting, running = deque(self._groups_of(work, nonces)), deque[tuple[int, Launch]]()
        free, last = deque(range(SLOTS)), self._clock()
        while waiting or running:
            while waiting and free:
                launch, rest = self._cut(waiting.popleft())
                if rest.nonces:
                    waiting.appendleft(rest)
                self._launcher.start(free[0], self._question(work, launch))
                running.append((free.popleft(), launch))
            slot, launch = running.popleft()
            words = self._launcher.finish(slot)
            free.append(slot)
            now = self._clock()
            self._learn(launch, now - last)
            last = now
            found, kept = self._read(launch, words)
            if found > CAPACITY:
                waiting.extendleft(_parts(launch, found))
            yield launch, found, kept

    def _groups_of(self, work: Work, nonces: range) -> Iterator[Launch]:
        """The versions in as few groups as there are kernels for."""
        start = 0
        while start < len(work.versions) and nonces:
            size = next(g for g in self._groups if g <= len(work.versions) - start)
            yield Launch(tuple(range(start, start + size)), nonces)
            start += size

    def _cut(self, launch: Launch) -> tuple[Launch, Launch]:
        """What fits into one slice, and the rest."""
        count = min(max(int(self._hashes) // len(launch.versions), 1), MAX_COUNT)
        cut = min(launch.nonces.start + count, launch.nonces.stop)
        first, rest = range(launch.nonces.start, cut), range(cut, launch.nonces.stop)
        return launch._replace(nonces=first), launch._replace(nonces=rest)

    def _question(self, work: Work, launch: Launch) -> Question:
        midstates = tuple(work.midstates[v] for v in launch.versions)
        return Question(midstates, work.tail, launch.nonces, work.target >> 224)

    def _learn(self, launch: Launch, seconds: float) -> None:
        """Grow fourfold at most: the first launches are all overhead, and a watchdog waits for the last."""
        hashes = len(launch.nonces) * len(launch.versions)
        if hashes * 2 < self._hashes:
            return  # the end of a range says little
        fitting = hashes * SLICE_SECONDS / max(seconds, 1e-6)
        self._hashes = min(max(fitting, 256.0), self._hashes * 4)

    def _read(self, launch: Launch, words: Sequence[int]) -> tuple[int, list[tuple[int, int]]]:
        """How many candidates, and those in the buffer; DeviceFault for what no launch can answer."""
        found, most = int(words[0]), len(launch.nonces) * len(launch.versions)
        if found > most:
            raise DeviceFault(f"the device reports {found} hits among {most} hashes")
        flat = [int(word) for word in words[2 : 2 + 2 * min(found, CAPACITY)]]
        return found, list(zip(flat[::2], flat[1::2], strict=True))

    def _verified(self, work: Work, launch: Launch, pairs: list[tuple[int, int]]) -> list[Hit]:
        """The candidates that are hits; DeviceFault for one that was not asked for."""
        hits = []
        for nonce, place in pairs:
            if nonce not in launch.nonces or place >= len(launch.versions):
                raise DeviceFault(f"the device answers nonce {nonce}, version {place}: not in the launch")
            hit = Hit(nonce, work.versions[launch.versions[place]])
            if int.from_bytes(sha256d(work.header_of(hit)), "little") <= work.target:
                hits.append(hit)
        return hits


def _parts(launch: Launch, found: int) -> list[Launch]:
    """The same nonces in so many pieces that each should fit the buffer; at least two."""
    pieces = max(2, -(-found * 5 // (CAPACITY * 4)))
    step = max(1, -(-len(launch.nonces) // pieces))
    starts = range(launch.nonces.start, launch.nonces.stop, step)
    return [launch._replace(nonces=range(at, min(at + step, launch.nonces.stop))) for at in starts]
