"""A driver that stays in its own code for half a minute keeps nobody from leaving."""

import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from miner.live import LiveView
from miner.view import Json, Plain
from miner.waiting import end, wait_for

STUCK = """
import ctypes, sys
from miner.backends import numba

def open(selector, threads):
    ctypes.CDLL(None).sleep(30)

numba.open = open
numba.devices = lambda: [numba.DeviceInfo("numba", True, "stuck in its driver")]
from {module} import main
sys.exit(main(sys.argv[1:]))
"""


def test_what_the_call_returns_and_raises_is_passed_on() -> None:
    assert wait_for(lambda: 42, lambda seconds: None) == 42
    assert wait_for(lambda: None, lambda seconds: None) is None
    with pytest.raises(ZeroDivisionError):
        wait_for(lambda: 1 // 0, lambda seconds: None)


def test_it_tells_how_long_it_has_been() -> None:
    release, told = threading.Event(), list[float]()

    def on_wait(seconds: float) -> None:
        told.append(seconds)
        if len(told) == 3:
            release.set()

    assert wait_for(release.wait, on_wait)
    assert told[:3] == [0.0, 0.25, 0.5]


def test_whoever_waits_may_leave_and_the_call_is_left_behind() -> None:
    release = threading.Event()

    def on_wait(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_for(release.wait, on_wait)
    release.set()
    time.sleep(0.05)
    assert end(130) == 130  # it has ended meanwhile: the interpreter may go down as usual


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("miner.cli", ["mine", "--backend", "numba"]),
        ("miner.cli", ["grind", "00" * 80, "--backend", "numba"]),
        ("miner.cli", ["devices", "--test"]),
        ("bench.__main__", ["--backend", "numba"]),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals, and sleep in the C library, as POSIX has them")
def test_ctrl_c_ends_a_command_whose_device_is_stuck_in_its_driver(
    module: str, arguments: list[str], tmp_path: Path
) -> None:
    if arguments[0] == "mine":
        arguments = [*arguments, "--chain", str(tmp_path / "chain.sqlite")]
    if arguments[0] == "grind":  # a header that passes all checks: regtest's bits
        arguments[1] = "00" * 72 + "ffff7f20" + "00" * 4
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK.format(module=module), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(2.5)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - began < 1.5
    assert "Traceback" not in err


def test_a_log_says_now_and_then_that_a_device_is_still_opening() -> None:
    now, out = [0.0], io.StringIO()
    plain, as_json = Plain(out, lambda: now[0]), Json(out, lambda: now[0])
    for quarter in range(4 * 25):
        now[0] = quarter / 4
        plain.opening("cuda", now[0])
        as_json.opening("cuda", now[0])
    lines = out.getvalue().splitlines()
    assert lines[0] == "opening cuda for 10 s now"
    assert json.loads(lines[1]) == {"event": "opening", "device": "cuda", "seconds": 10.0}
    assert len(lines) == 4


def test_a_terminal_shows_a_line_that_is_gone_when_the_device_is_open() -> None:
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=80))
    view.opening("cuda[0]", 3.0)
    time.sleep(0.3)  # it is drawn several times a second
    view.opened()
    view.opened()
    assert "opening cuda[0] ... 3 s" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")  # the cursor is back
