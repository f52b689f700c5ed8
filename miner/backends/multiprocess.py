"""The definition on every core: worker processes that run the python backend.

The workers are started as `python -c` with two pipes, not by the library
`multiprocessing`: its `spawn` imports the caller's script again, which then has
to be guarded by `if __name__ == "__main__"` (docs/decisions/0043-workers-over-pipes.md).

A range is cut into pieces of some milliseconds. One thread for each worker
takes the next piece, passes it on and waits for the hits, so a slower core gets
fewer of them. A worker that dies is replaced, and its piece scanned
again.
"""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from miner.backends.pieces import Pieces
from miner.backends.protocol import Backend, DeviceInfo, check_nonces, check_threads
from miner.backends.worker import HELLO, read_exactly, read_hits, write_request
from miner.errors import DeviceFault, DeviceUnavailable
from miner.work import Hit, Work

MAX_WORKERS = 256
"""More processes than cores gain nothing, and each takes three of our file descriptors."""

MAX_DEATHS = 4
"""Workers replaced without a scan in between that all survived."""

LEAST_PIECE, MOST_PIECE = 1 << 10, 1 << 15
"""Hashes: 1 ms, against 0.1 ms for the way there and back, and 30 ms, the longest that a worker lives on
after its parent."""

START_SECONDS = 30.0
"""A worker that is not ready by then is given up; on an idle machine it takes 0.1."""

_BOOT = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "  # first: Ctrl-C is for the parent
    "sys.path.insert(0, sys.argv[1]); from miner.backends.worker import main; main()"
)
_ROOT = str(Path(__file__).parents[2])


class Worker:
    """One process: what goes wrong with it is an OSError, EOFError or ValueError (pipes closed by `kill`)."""

    def __init__(self) -> None:
        # -P, -S: neither the current directory nor site-packages; the standard library is enough.
        command = [sys.executable, "-P", "-S", "-c", _BOOT, _ROOT]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
        self._requests = cast(BinaryIO, self.process.stdin)
        self._answers = cast(BinaryIO, self.process.stdout)
        self._errors = cast(BinaryIO, self.process.stderr)
        self._lock = threading.Lock()
        self._ready = False
        self._death = ""

    def wait_until_ready(self) -> None:
        """Return when it has said so, once. OSError if it dies instead, or takes too long and is killed."""
        if self._ready:
            return
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.daemon = True
        timer.start()
        try:
            if (said := read_exactly(self._answers, len(HELLO))) != HELLO:
                raise OSError(f"{sys.executable} is no Python: it says {said!r}")
        except EOFError as error:
            raise OSError(self.kill()) from error
        finally:
            timer.cancel()
        self._ready = True

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """What the python backend says."""
        write_request(self._requests, work, nonces)
        return read_hits(self._answers)

    def kill(self) -> str:
        """End it, whatever it is doing; what it died of, its own last words if it had any."""
        self.process.kill()
        with self._lock:  # the one who closes the backend, and the thread that waited for an answer
            if not self._death:
                status = self.process.wait()
                words = self._errors.read().decode(errors="replace").strip()
                self._death = words.rpartition("\n")[2] or f"exit status {status}"
                for pipe in (self._requests, self._answers, self._errors):
                    with suppress(OSError):  # what was buffered for it has nobody to read it
                        pipe.close()
        return self._death


class MultiprocessBackend:
    """The python backend in `count` processes, all of them started at once."""

    name = "multiprocess"
    form = "hashlib in worker processes"

    def __init__(self, count: int) -> None:
        self.threads = count
        self._workers: list[Worker | None] = []  # None: to be started when it is needed
        self._deaths = 0
        self._closed = False
        self._lock = threading.Lock()
        try:
            while len(self._workers) < count:
                self._workers.append(Worker())
            for place in range(count):
                self._worker(place)
        except OSError as error:
            self.close()
            raise DeviceUnavailable(f"a worker process cannot be started: {error}") from error
        except BaseException:
            self.close()
            raise

    def scan(self, work: Work, nonces: range) -> list[Hit]:
        """Every (nonce, version) whose header hash meets work.target, sorted.

        DeviceFault if workers keep dying, or if the backend is closed meanwhile.
        """
        if self._closed:
            raise ValueError("the multiprocess backend is closed")
        check_nonces(nonces)
        deaths = self._deaths
        least, most = (hashes // len(work.versions) or 1 for hashes in (LEAST_PIECE, MOST_PIECE))
        workers = min(len(self._workers), -(-len(nonces) // least))
        hits = self._scan_pieces(work, Pieces(nonces, workers, least, most), workers)
        if self._deaths == deaths:
            self._deaths = 0
        return sorted(hits)

    def close(self) -> None:
        """End the workers. They hold nothing that could be lost, so nothing is waited for."""
        with self._lock:
            self._closed = True
        self._kill_workers()

    def _scan_pieces(self, work: Work, pieces: Pieces, workers: int) -> list[Hit]:
        hits: list[Hit] = []
        errors: list[BaseException] = []

        def serve(place: int) -> None:
            for piece in pieces:
                hits.extend(self._scan_piece(place, work, piece, pieces))

        def serve_in_a_thread(place: int) -> None:
            try:
                serve(place)
            except BaseException as error:  # noqa: BLE001 - the top of a thread; it is raised below
                pieces.stop()
                errors.append(error)

        threads: list[threading.Thread] = []
        try:
            for place in range(1, workers):
                threads.append(threading.Thread(target=serve_in_a_thread, args=(place,), daemon=True))
                threads[-1].start()
            serve(0)
            for thread in threads:
                thread.join()
            if errors:
                raise errors[0]
        except BaseException:  # Ctrl-C too
            # A worker that still owes an answer would give it to the next scan.
            pieces.stop()
            self._kill_workers()
            for thread in threads:
                thread.join()
            raise
        return hits

    def _scan_piece(self, place: int, work: Work, nonces: range, pieces: Pieces) -> list[Hit]:
        while True:
            try:
                return self._worker(place).scan(work, nonces)
            except (OSError, EOFError, ValueError) as error:
                if pieces.stopped:
                    return []  # whoever stopped it says why
                self._bury(place, error)

    def _worker(self, place: int) -> Worker:
        if (worker := self._workers[place]) is None:
            with self._lock:  # so that none is started behind the back of `close`
                if self._closed:
                    raise DeviceFault("the multiprocess backend was closed in a scan")
                worker = self._workers[place] = Worker()
        worker.wait_until_ready()
        return worker

    def _bury(self, place: int, error: Exception) -> None:
        worker, self._workers[place] = self._workers[place], None
        cause = worker.kill() if worker else error
        with self._lock:
            if self._closed:
                raise DeviceFault("the multiprocess backend was closed in a scan")
            self._deaths += 1
            if self._deaths > MAX_DEATHS:
                raise DeviceFault(f"{self._deaths} worker processes died; the last: {cause}") from error

    def _kill_workers(self) -> None:
        workers = [worker for worker in self._workers if worker]
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.kill()
        self._workers = [None] * len(self._workers)


def open(selector: str | None, threads: int | None) -> Backend:
    """A worker process for each core that we may use, or `threads` of them.

    ValueError for a selector or too many threads; DeviceUnavailable if no process can be started.
    """
    if selector is not None:
        raise ValueError(f"multiprocess has no device {selector!r}: there is one, called multiprocess")
    check_threads(threads, MAX_WORKERS)
    if reason := _why_not():
        raise DeviceUnavailable(reason)
    return MultiprocessBackend(threads or _cores())


def devices() -> list[DeviceInfo]:
    """One: all cores together."""
    reason = _why_not()
    return [DeviceInfo("multiprocess", not reason, f"hashlib in {_cores()} worker processes", reason)]


def _why_not() -> str:
    # The command of a frozen program starts that program once more, and so on.
    if getattr(sys, "frozen", False) or not sys.executable:
        return "this program is not run by a Python that could run the workers; take python or numba"
    return ""


def _cores() -> int:
    # The affinity mask is what containers and taskset leave us of the machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)
