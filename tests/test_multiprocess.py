"""The multiprocess backend: as exact as the others, and hard to kill."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from miner.backends import multiprocess, open_backend
from miner.backends.multiprocess import MAX_DEATHS, MultiprocessBackend
from miner.backends.python import PythonBackend
from miner.errors import DeviceFault, DeviceUnavailable
from miner.work import Hit, Work
from tests.conformance import Conformance, check_close, random_header

ROOT = Path(__file__).resolve().parent.parent
WORK = Work(random_header(1), (1 << 246) - 1)
"""One hash in 1,024 meets it."""
LONG = range(1 << 32)
"""Over an hour for any worker: never finished in a test."""


@pytest.fixture(scope="module")
def backend() -> Iterator[MultiprocessBackend]:
    with closing(MultiprocessBackend(2)) as backend:
        yield backend


@pytest.fixture
def own() -> Iterator[MultiprocessBackend]:
    """One to be treated badly."""
    with closing(MultiprocessBackend(2)) as backend:
        yield backend


class TestMultiprocess(Conformance):
    """Two processes are held to what all are held to."""


def pids(backend: MultiprocessBackend) -> list[int]:
    return [worker.process.pid for worker in backend._workers if worker]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "this will not happen any more"
        time.sleep(0.005)


def test_a_long_range_is_divided_without_a_seam(backend: MultiprocessBackend) -> None:
    nonces = range((1 << 31) - 50_001, (1 << 31) + 50_000)
    assert backend.scan(WORK, nonces) == PythonBackend().scan(WORK, nonces)


@pytest.mark.parametrize("versions", [1, 3, 3000])
@pytest.mark.parametrize("length", [1, 700, 3001])
def test_ranges_of_every_length_are_scanned_whole(
    backend: MultiprocessBackend, length: int, versions: int
) -> None:
    work = Work(WORK.header, WORK.target >> 8, tuple(range(versions)))
    nonces = range(5, 5 + min(length, 200_000 // versions))
    assert backend.scan(work, nonces) == PythonBackend().scan(work, nonces)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(own: MultiprocessBackend) -> None:
    nonces = range(200_000)
    first = pids(own)
    killer = threading.Timer(0.02, os.kill, (first[0], signal.SIGKILL))
    killer.start()
    hits = own.scan(WORK, nonces)
    killer.join()
    assert hits == PythonBackend().scan(WORK, nonces)
    assert own.scan(WORK, range(20_000)) == [hit for hit in hits if hit.nonce < 20_000]
    assert first[0] not in pids(own)


def test_a_worker_killed_between_scans_is_replaced(own: MultiprocessBackend) -> None:
    for _ in range(MAX_DEATHS + 2):  # again and again: each scan without a death pardons the earlier ones
        for pid in pids(own):
            os.kill(pid, signal.SIGKILL)
        assert own.scan(WORK, range(5000)) == PythonBackend().scan(WORK, range(5000))
        own.scan(WORK, range(5000))


def test_workers_that_keep_dying_are_a_fault(
    own: MultiprocessBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocess, "_BOOT", "raise SystemExit('no memory left')")
    for pid in pids(own):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(DeviceFault, match=f"{MAX_DEATHS + 1} worker processes died; the last: no memory"):
        own.scan(WORK, range(5000))


def test_workers_outlive_an_interrupt_from_the_keyboard(own: MultiprocessBackend) -> None:
    before = pids(own)
    for pid in before:
        os.kill(pid, signal.SIGINT)
    own.scan(WORK, range(5000))
    assert pids(own) == before


def test_an_interrupted_scan_leaves_nothing_for_the_next(own: MultiprocessBackend) -> None:
    timer = threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        own.scan(WORK, LONG)
    assert own.scan(WORK, range(5000)) == PythonBackend().scan(WORK, range(5000))


def test_closing_ends_a_scan_even_if_a_worker_hangs(own: MultiprocessBackend) -> None:
    processes = [worker.process for worker in own._workers if worker]
    os.kill(processes[0].pid, signal.SIGSTOP)
    faults = []

    def scan() -> None:
        try:
            own.scan(WORK, LONG)
        except DeviceFault as fault:
            faults.append(str(fault))

    thread = threading.Thread(target=scan)
    thread.start()
    time.sleep(0.05)
    own.close()
    thread.join()
    assert faults == ["the multiprocess backend was closed in a scan"]
    assert all(process.poll() is not None for process in processes)


def test_closing_ends_the_processes() -> None:
    backend = MultiprocessBackend(2)
    processes = [worker.process for worker in backend._workers if worker]
    check_close(backend)
    assert [process.poll() is None for process in processes] == [False, False]


def test_a_process_that_cannot_be_started_makes_it_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DeviceUnavailable, match=r"a worker process cannot be started: .*No such file"):
        open_backend("multiprocess")


def test_a_worker_that_dies_at_once_makes_it_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocess, "_BOOT", "import no_such_module")
    with pytest.raises(DeviceUnavailable, match=r"cannot be started: .*No module named 'no_such_module'"):
        open_backend("multiprocess")


def test_something_else_than_a_worker_makes_it_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocess, "_BOOT", "print('Welcome to my shell! It is a nice day.')")
    with pytest.raises(DeviceUnavailable, match="is no Python"):
        open_backend("multiprocess")


def test_a_worker_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocess, "_BOOT", "import time; time.sleep(600)")
    monkeypatch.setattr(multiprocess, "START_SECONDS", 0.2)
    with pytest.raises(DeviceUnavailable, match="cannot be started"):
        open_backend("multiprocess")


@pytest.mark.parametrize("executable", ["", None])
def test_without_an_interpreter_it_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(DeviceUnavailable, match="take python or numba"):
        open_backend("multiprocess")
    assert not multiprocess.devices()[0].available


def test_in_a_frozen_program_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(DeviceUnavailable, match="not run by a Python"):
        open_backend("multiprocess")


@pytest.mark.parametrize("spec", ["multiprocess:", "multiprocess:0"])
def test_it_has_no_numbered_devices(spec: str) -> None:
    with pytest.raises(ValueError, match="there is one"):
        open_backend(spec)


def test_it_takes_as_many_processes_as_it_is_told() -> None:
    with closing(multiprocess.open(None, 3)) as backend:
        assert len(pids(backend)) == 3  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"257 threads: not 1 \.\.\. 256"):
        multiprocess.open(None, 257)


def run_script(tmp_path: Path, text: str) -> "subprocess.Popen[str]":
    """A user's script, in a directory of its own."""
    script = tmp_path / "script.py"
    script.write_text(text)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, script], env=environment, stdout=pipe, stderr=pipe, text=True)


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = """
from miner.backends import open_backend
from miner.work import Work
backend = open_backend("multiprocess", threads=2)
print(backend.scan(Work(bytes(80), (1 << 256) - 1), range(2)))
backend.close()
"""
    with run_script(tmp_path, script) as process:
        out, err = process.communicate(timeout=60)
    assert (out, err) == (f"{[Hit(0, 0), Hit(1, 0)]}\n", "")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc which processes live")
def test_workers_die_with_a_parent_that_is_killed_in_a_scan(tmp_path: Path) -> None:
    script = """
from miner.backends import open_backend
from miner.work import Work
backend = open_backend("multiprocess", threads=2)
print(*(worker.process.pid for worker in backend._workers), flush=True)
backend.scan(Work(bytes(80), 0), range(2**32))
"""
    with run_script(tmp_path, script) as process:
        assert process.stdout
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert [alive(pid) for pid in workers] == [True, True]
        process.kill()
    wait_for(lambda: not any(alive(pid) for pid in workers))


def test_a_forgotten_close_does_not_keep_a_program_from_ending(tmp_path: Path) -> None:
    script = """
import threading
from miner.backends import open_backend
from miner.work import Work
backend = open_backend("multiprocess", threads=2)
threading.Thread(target=backend.scan, args=(Work(bytes(80), 0), range(2**32)), daemon=True).start()
"""
    with run_script(tmp_path, script) as process:
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
