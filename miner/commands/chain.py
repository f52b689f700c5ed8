"""miner chain: look at the local chain, and verify it or any file of headers."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from miner.errors import RuleError, StoreError
from miner.header import HEADER_SIZE, BlockHeader, display_hex, from_display_hex
from miner.params import NETWORKS, Params, network
from miner.target import bits_to_target, difficulty

if TYPE_CHECKING:
    from miner.block import Block
    from miner.chain import Chain

NOT_VERIFIED = 3
"""The exit status when something was looked at and found wrong."""


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command and its four actions."""
    parser = subparsers.add_parser(
        "chain",
        help="inspect, verify and export the local chain",
        description="Look at a chain that `miner mine` keeps. Reading it while it is being mined is fine.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    info = actions.add_parser(
        "info", help="height, tip, difficulty, work", description="Say what the chain holds."
    )
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)
    verify = actions.add_parser(
        "verify", help="check every block again, or every header of a file",
        description="Check every rule on every block of the chain; exit status 3 if one is broken.",
    )  # fmt: skip
    verify.add_argument(
        "--headers", metavar="FILE", help="instead of the chain: a file of raw 80-byte headers"
    )
    verify.add_argument(
        "--height", type=int, default=0, metavar="H", help="height of the file's first header"
    )
    verify.set_defaults(run=_verify)
    show = actions.add_parser("show", help="one block as JSON", description="Print one block as JSON.")
    show.add_argument("block", nargs="?", metavar="HEIGHT|HASH", help="which one (default: the tip)")
    show.set_defaults(run=_show)
    export = actions.add_parser(
        "export", help="all blocks as hex, one per line",
        description="Print the blocks from height 1 on as hex, one per line: what submitblock takes.",
    )  # fmt: skip
    export.set_defaults(run=_export)
    for action in (info, verify, show, export):
        add_chain_arguments(action)


def add_chain_arguments(parser: argparse.ArgumentParser) -> None:
    """--chain and --network, for every command that opens a chain."""
    parser.add_argument("--chain", metavar="FILE", help="where it is kept (default: a file per network in "
                        "$XDG_DATA_HOME/nonceforge)")  # fmt: skip
    parser.add_argument(
        "--network",
        choices=sorted(NETWORKS),
        metavar="N",
        help=f"whose rules: {', '.join(sorted(NETWORKS))} (default: the file's, for a new one local)",
    )


def chain_path(arguments: argparse.Namespace) -> Path:
    """--chain, or the network's own file in the user's data directory, which is made if need be."""
    if arguments.chain is not None:
        return Path(arguments.chain)
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "nonceforge"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{home} cannot be made to keep the chain in: {error.strerror}") from error
    return home / f"{arguments.network or 'local'}.sqlite"


@contextmanager
def open_chain(path: Path, params: Params, *, readonly: bool = False) -> "Iterator[Chain]":
    """The chain in a file, every block of it verified."""
    from miner.chain import Chain
    from miner.store import SqliteStore

    with SqliteStore(path, params, readonly=readonly) as store:
        done = _progress(f"verifying {path}", len(store))
        yield Chain(params, store, progress=done)


@contextmanager
def _reading(arguments: argparse.Namespace) -> "Iterator[tuple[Chain, Path]]":
    from miner.store import network_of

    path = chain_path(arguments)
    if not path.exists():
        raise StoreError(f"there is no chain in {path} yet: `miner mine` makes one")
    params = network(arguments.network or network_of(path))
    with open_chain(path, params, readonly=True) as chain:
        yield chain, path


def _info(arguments: argparse.Namespace) -> int:
    with _reading(arguments) as (chain, path):
        tip = chain.tip
        facts: dict[str, object] = {
            "network": chain.params.name,
            "file": str(path),
            "height": chain.height,
            "tip": tip.hash_hex,
            "time": tip.time,
            "bits": f"{tip.bits:08x}",
            "difficulty": difficulty(bits_to_target(tip.bits)),
            "chain_work": f"{chain.chain_work:064x}",
            "side_blocks": len(chain) - chain.height - 1,
        }
    if arguments.json:
        print(json.dumps(facts, indent=2))
    else:
        facts["time"] = f"{tip.time} ({time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(tip.time))})"
        for name, value in facts.items():
            print(f"{name.replace('_', ' '):<12} {value}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    if arguments.headers is not None:
        return _verify_headers(
            Path(arguments.headers), network(arguments.network or "mainnet"), arguments.height
        )
    began = time.monotonic()
    with _reading(arguments) as (chain, path):
        seconds = time.monotonic() - began
        side = len(chain) - chain.height - 1
        words = f" and {side} on side branches" if side else ""
        print(
            f"verified {chain.height + 1} blocks{words} of {chain.params.name} in {seconds:.1f} s:"
            " every rule holds"
        )
        print(f"tip {chain.height} {chain.tip.hash_hex}, kept in {path}")
    return 0


def _verify_headers(path: Path, params: Params, height: int) -> int:
    from miner.rules import verify_headers

    if height < 0:
        raise ValueError(f"--height {height} is below 0")
    raw = path.read_bytes()
    count, rest = divmod(len(raw), HEADER_SIZE)
    if not count or rest:
        raise ValueError(f"{path} has {len(raw)} bytes, not a whole number of {HEADER_SIZE}-byte headers")
    began, last = time.monotonic(), None
    bits = retargets = medians = 0
    done = _progress(f"verifying {path}", count)
    headers = (raw[i : i + HEADER_SIZE] for i in range(0, len(raw), HEADER_SIZE))
    try:
        for last in verify_headers(headers, params, height, int(time.time())):
            bits += last.bits_checked
            retargets += last.retarget_checked
            medians += last.median_checked
            done(last.height - height + 1)
    except RuleError as error:
        print(f"miner chain: NOT VERIFIED: {error}", file=sys.stderr)
        return NOT_VERIFIED
    assert last is not None
    seconds = time.monotonic() - began
    print(
        f"verified {count} headers of {params.name}, heights {height} to {last.height}, in {seconds:.1f} s"
        f" ({count / max(seconds, 1e-9):,.0f} a second)"
    )
    # A run from the middle of a chain lacks the ancestors that some rules need.
    tested = f"bits: {bits}, {retargets} retargets among them; median time: {medians}"
    print(f"proof of work and links: all; {tested}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    with _reading(arguments) as (chain, _):
        block = _find(chain, arguments.block)
        height = chain.height_of(block.header.hash)
        print(json.dumps(_describe(block, height), indent=2))
    return 0


def _find(chain: "Chain", which: str | None) -> "Block":
    if which is None:
        return chain.block_at(chain.height)
    if which.isdecimal() and len(which) < 64:
        if int(which) > chain.height:
            raise ValueError(f"height {which[:20]} is above the tip, {chain.height}")
        return chain.block_at(int(which))
    block = chain.block(from_display_hex(which))
    if block is None:
        raise ValueError(f"no block {which} in this chain")
    return block


def _describe(block: "Block", height: int | None) -> dict[str, object]:
    header: BlockHeader = block.header
    coinbase = block.transactions[0]
    return {
        "hash": header.hash_hex,
        "height": height,  # null: on a side branch
        "version": f"{header.version:08x}",
        "previous": display_hex(header.previous),
        "merkle_root": display_hex(header.merkle_root),
        "time": header.time,
        "bits": f"{header.bits:08x}",
        "difficulty": difficulty(bits_to_target(header.bits)),
        "nonce": header.nonce,
        "transactions": [display_hex(txid) for txid in block.txids],
        "coinbase_script": coinbase.inputs[0].script.hex(),
        "coinbase_outputs": [{"value": out.value, "script": out.script.hex()} for out in coinbase.outputs],
    }


def _export(arguments: argparse.Namespace) -> int:
    with _reading(arguments) as (chain, _):
        for height in range(1, chain.height + 1):
            print(bytes(chain.block_at(height)).hex())
    return 0


def _progress(what: str, total: int) -> Callable[[int], None]:
    """Shows how far it is on a terminal, from the second second on."""
    if not sys.stderr.isatty():
        return lambda done: None
    started = last = time.monotonic()

    def show(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total and last > started:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        elif now - started > 1 and now - last > 0.2:
            last = now
            print(f"\r{what}: {done:,} of {total:,}", end="", file=sys.stderr, flush=True)

    return show
