"""The command `miner`: arguments in, exit status out.

0 done   1 failed   2 wrong usage   3 not verified   130 interrupted   143 terminated
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from miner import waiting
from miner.errors import MinerError, SelfTestFailed, StoreCorrupt

FAILED, USAGE, NOT_VERIFIED = 1, 2, 3


class Stopped(BaseException):
    """A signal asked the process to end. Not an Exception, so that nothing but `main` catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status. What users cause gets one sentence, never a traceback."""
    try:
        parser = make_parser()
    except ImportError as error:  # a foreign package in the place of one of ours says so, see miner/work.py
        return _complain("miner", error, FAILED)
    arguments = parser.parse_args(argv)
    _catch_signals()
    name = f"miner {arguments.command}"
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except Stopped as stop:
        return waiting.end(stop.status)
    except BrokenPipeError:
        # Whoever read our output has left (`| head`): no more of it, and no complaint from the interpreter.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (SelfTestFailed, StoreCorrupt) as error:
        return _complain(name, error, NOT_VERIFIED)
    except ValueError as error:
        return _complain(name, error, USAGE)
    except (MinerError, OSError) as error:
        return _complain(name, error, FAILED)


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command; `miner --help` and docs/cli.md are made from it."""
    from miner import __version__
    from miner.commands import bench, chain, devices, grind, kernel, mine

    parser = argparse.ArgumentParser(
        prog="miner",
        description="SHA-256d mining for your own chain, a Bitcoin node or a pool, on CPU and GPU.",
        epilog="Exit status: 0 done, 1 failed, 2 wrong usage, 3 not verified, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"nonceforge {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # In the order of the help. Each has `add(subparsers)`, which names its `run(arguments)`.
    for command in (mine, grind, devices, bench, chain, kernel):
        command.add(subparsers)
    return parser


def _catch_signals() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # SIGHUP: the terminal was closed; Windows has none
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # the second one ends the process at once
    raise Stopped(number)


def _complain(name: str, error: BaseException, status: int) -> int:
    print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
    return status
