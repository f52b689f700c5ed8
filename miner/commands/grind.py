"""miner grind: solve one header. A drop-in for `bitcoin-util grind`."""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

from miner.errors import RuleError
from miner.grind import solve
from miner.waiting import wait_for
from miner.work import NONCES


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "grind",
        help="solve one header and print it",
        description="Find a nonce with which the header meets its own bits, and print the solved header. "
        "Only the nonce changes. Works as --grind-cmd of Bitcoin Core's contrib/signet/miner.",
    )
    parser.add_argument("header", metavar="HEADER_HEX", help="80 bytes as 160 hex digits, in hashing order")
    parser.add_argument(
        "--backend", default="auto", help="device, see `miner devices` (default: %(default)s)"
    )
    parser.add_argument(
        "--nonces", type=_nonces, default=NONCES, metavar="A:B", help="only nonces A to B - 1"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the solved header and nothing else; 1 if no nonce of the range solves it."""
    try:
        progress = _progress(arguments.nonces)
        search = partial(
            solve, arguments.header, None, arguments.backend, arguments.nonces, on_progress=progress
        )
        share = wait_for(search, lambda seconds: None)  # opening the device may compile for seconds
    except RuleError as error:  # bits that no header can have: the caller's mistake here
        raise ValueError(error.text) from error
    if share is None:
        # The words of bitcoin-util.
        print("Could not satisfy difficulty target", file=sys.stderr)
        return 1
    print(share.header.hex())
    return 0


def _nonces(text: str) -> range:
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) <= int(last) <= NONCES.stop):
        raise argparse.ArgumentTypeError(f"{text!r} is not A:B with 0 <= A <= B <= {NONCES.stop}")
    return range(int(first), int(last))


def _progress(nonces: range) -> Callable[[int], None] | None:
    """A line on the terminal after the first second; None if nobody is there to see it."""
    if not sys.stderr.isatty():
        return None
    started = last = time.monotonic()

    def show(nonce: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < 0.5 or now - started < 1:
            return
        last = now
        done = (nonce - nonces.start) / len(nonces)
        rate = (nonce - nonces.start) / (now - started) / 1e6
        print(
            f"\r{done:6.1%} of {len(nonces):,} nonces, {rate:.1f} MH/s ", end="", file=sys.stderr, flush=True
        )

    return show
