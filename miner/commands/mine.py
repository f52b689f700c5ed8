"""miner mine: the local chain, a Bitcoin node or a pool, with a view of what happens."""

import argparse
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from miner.address import address_to_script
from miner.backends import Backend, open_backend
from miner.commands.chain import add_chain_arguments, chain_path, open_chain
from miner.params import NETWORKS, Params, network
from miner.waiting import wait_for

if TYPE_CHECKING:
    from miner.engine import Engine, Event, WorkSource
    from miner.view import View

TICK_SECONDS = 0.2
"""Between two pictures of the live view."""

TAG = b"/nonceforge/"
"""Stands in every coinbase that we make for a node."""

ANYONE_CAN_SPEND = b"\x51"
"""OP_TRUE: what the local chain pays to if nobody says otherwise. Its coins are play money."""


class Place(NamedTuple):
    """Where to mine, and where what was mined is kept."""

    source: "WorkSource"
    kept: str


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "mine",
        help="mine on the local chain, a node or a pool",
        description="Mine until --blocks are accepted, or Ctrl-C.",
    )
    parser.add_argument(
        "source", nargs="?", metavar="SOURCE",
        help="nothing: the local chain; http(s)://[user:pass@]host:port: a Bitcoin node; "
        "stratum+tcp:// or stratum+ssl://[user[:pass]@]host:port: a pool; several with commas between: "
        "the next if one fails",
    )  # fmt: skip
    parser.add_argument(
        "--backend", default="auto", metavar="B[,B...]", help="devices (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: one per core)")
    parser.add_argument(
        "--blocks", type=_positive, metavar="N", help="stop after N accepted blocks (or shares)"
    )
    add_chain_arguments(parser)
    pay = parser.add_mutually_exclusive_group()
    pay.add_argument("--address", metavar="A", help="pay the reward to this address")
    pay.add_argument("--script", metavar="HEX", help="pay the reward to this output script")
    parser.add_argument(
        "--cookie", metavar="FILE", help="the node's .cookie file, instead of user and password"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per event")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0 when --blocks were accepted."""
    from miner.engine import Engine

    view = _make_view(arguments.json)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with _open_place(arguments) as place:
        devices = _open_devices(arguments, view)
        with Engine(devices, on_event=events.put) as engine:
            view.begin(place.source.name, [device.name for device in devices])
            try:
                return _mine(engine, place, arguments.blocks, view, events)
            finally:
                engine.close()
                view.end(engine.stats(), place.kept)


def _mine(
    engine: "Engine", place: Place, blocks: int | None, view: "View", events: "queue.SimpleQueue[Event]"
) -> int:
    run = engine.run(place.source, blocks)
    while not run.ended:
        verdict = run.get(TICK_SECONDS)
        while not events.empty():
            view.event(events.get())
        if verdict is not None:
            view.verdict(verdict)
        view.tick(engine.stats(), *_state(place.source))
    run.get(0)  # raises what the run died of
    return 0


def _make_view(as_json: bool) -> "View":
    from miner.view import Json, Plain

    if as_json:
        return Json()
    if not sys.stdout.isatty():
        return Plain()
    from rich.console import Console

    from miner.live import LiveView

    return LiveView(Console())


def _open_devices(arguments: argparse.Namespace, view: "View") -> list[Backend]:
    names = [name.strip() for name in arguments.backend.split(",")]
    if len(set(names)) < len(names):
        raise ValueError(f"--backend {arguments.backend} names a device twice")
    devices: list[Backend] = []
    try:
        for name in names:
            opening = partial(open_backend, name, threads=arguments.threads)
            devices.append(wait_for(opening, partial(view.opening, name)))
    except BaseException:
        for device in devices:
            device.close()
        raise
    finally:
        view.opened()
    return devices


@contextmanager
def _open_place(arguments: argparse.Namespace) -> Iterator[Place]:
    if arguments.source is None:
        with _local_place(arguments) as place:
            yield place
    else:
        yield Place(_remote_source(arguments), "")


@contextmanager
def _local_place(arguments: argparse.Namespace) -> Iterator[Place]:
    from miner.sources.local import LocalSource

    params = network(arguments.network or "local")
    script = _reward_script(arguments, [params]) or ANYONE_CAN_SPEND
    path = chain_path(arguments)
    with open_chain(path, params) as chain:
        yield Place(LocalSource(chain, script=script), f"the chain is kept in {path}")


def _remote_source(arguments: argparse.Namespace) -> "WorkSource":
    from miner.sources.opening import is_pool, open_node, open_pool
    from miner.template import Payout

    if arguments.chain is not None:
        raise ValueError("--chain is for the local chain: a node or pool keeps its own")
    if is_pool(arguments.source):
        if arguments.address or arguments.script:
            raise ValueError("--address and --script are for nodes: a pool pays the user in its address")
        return open_pool(arguments.source)
    # An address says what kind it is, not always of which network: the node will know.
    networks = [network(arguments.network)] if arguments.network else list(NETWORKS.values())
    script = _reward_script(arguments, networks)
    if script is None:
        raise ValueError("mining for a node needs --address or --script: where is the reward to go?")
    cookie = Path(arguments.cookie) if arguments.cookie else None
    return open_node(arguments.source, Payout(script, tag=TAG), cookie=cookie)


def _reward_script(arguments: argparse.Namespace, networks: list[Params]) -> bytes | None:
    if arguments.address is not None:
        return _address_script(arguments.address, networks)
    if arguments.script is None:
        return None
    try:
        return bytes.fromhex(arguments.script)
    except ValueError:
        raise ValueError(f"--script {arguments.script[:80]!r} is not hex") from None


def _address_script(address: str, networks: list[Params]) -> bytes:
    """By the first network that has such an address; the reason of the first if none has."""
    refusals = []
    for params in networks:
        try:
            return address_to_script(address, params)
        except ValueError as error:
            refusals.append(error)
    raise refusals[0]


def _state(source: "WorkSource") -> tuple[str, str]:
    """A node's or pool's word on itself, and the rate that a pool's shares prove. A chain has no moods."""
    from miner.view import format_rate

    status = str(getattr(source, "status", ""))
    estimate = source.inferred() if hasattr(source, "inferred") else None
    if estimate is None:
        return status, ""
    low, high = format_rate(estimate.low), format_rate(estimate.high)
    return status, f"{format_rate(estimate.rate)} by accepted shares (95 %: {low} to {high})"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
