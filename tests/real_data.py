"""Real headers and blocks, and published vectors, from tests/vectors (its README names each source)."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from miner.header import HEADER_SIZE
from miner.params import MAINNET, NETWORKS, TESTNET3, Params

VECTORS = Path(__file__).parent / "vectors"

NOW = 1_800_000_000
"""A clock for rules that need one: January 2027, after every header here."""


def vectors(name: str) -> Any:
    """The content of tests/vectors/NAME.json."""
    return json.loads((VECTORS / f"{name}.json").read_text())


class HeaderRun(NamedTuple):
    """Consecutive headers of a public chain."""

    params: Params
    first_height: int
    headers: list[bytes]


def header_run(params: Params, *names: str) -> HeaderRun:
    """One run out of the named files of tests/vectors/headers, which follow each other."""
    raw = b"".join((VECTORS / "headers" / f"{name}.bin").read_bytes() for name in names)
    headers = [raw[at : at + HEADER_SIZE] for at in range(0, len(raw), HEADER_SIZE)]
    return HeaderRun(params, int(names[0].split("_")[-2]), headers)


@cache
def mainnet_runs() -> tuple[HeaderRun, HeaderRun]:
    """Heights 0 ... 18143 and 822528 ... 826560."""
    early = header_run(MAINNET, "mainnet_headers_0_4031", "mainnet_headers_4032_18143")
    return early, header_run(MAINNET, "mainnet_headers_822528_826560")


@cache
def bsv_runs() -> tuple[HeaderRun, HeaderRun]:
    """Chains with Bitcoin's header and proof of work, and difficulty rules of their own."""
    return (
        header_run(MAINNET, "bsv_mainnet_headers_886001_887000"),
        header_run(TESTNET3, "bsv_testnet_headers_1602530_1602710"),
    )


class RealBlock(NamedTuple):
    """A block that was mined, and where."""

    params: Params
    height: int
    raw: bytes
    hash_hex: str | None
    """As its source calls it; None for those packed many to a file."""
    commits: bool
    """Whether the coinbase commits to witnesses."""

    def __str__(self) -> str:
        return f"{self.params.name}-{self.height}"


def framed(raw: bytes) -> Iterator[bytes]:
    """The blocks of a .framed file: each after its length, uint32 little-endian."""
    while raw:
        size = int.from_bytes(raw[:4], "little")
        yield raw[4 : 4 + size]
        raw = raw[4 + size :]


@cache
def real_blocks() -> tuple[RealBlock, ...]:
    """153 blocks (mainnet 9 twice) of three networks, from the first to those of 2024."""
    return tuple(_blocks())


def _blocks() -> Iterator[RealBlock]:
    for entry in json.loads((VECTORS / "blocks" / "index.json").read_text()):
        raw = (VECTORS / "blocks" / entry["file"]).read_bytes()
        # Block 3802509 of "testnet" is testnet3's; the synthetic ones follow mainnet's first block.
        params = NETWORKS.get(entry["network"], TESTNET3 if entry["network"] == "testnet" else MAINNET)
        if entry["file"].endswith(".framed"):
            heights = _heights_of_the_small_blocks(entry["height"], entry["height_to"])
            for height, block in zip(heights, framed(raw), strict=True):
                yield RealBlock(params, height, block, None, commits=False)
        else:
            commits = bool(entry.get("witness_commitment"))
            yield RealBlock(params, entry["height"], raw, entry["hash"], commits)


def _heights_of_the_small_blocks(first: int, last: int) -> list[int]:
    return [height for height in range(first, last + 1) if height != 10]  # the file lacks block 10
