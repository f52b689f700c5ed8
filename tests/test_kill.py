"""A process that is killed loses no block that it had said was accepted, and its store opens."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from miner.chain import Chain
from miner.header import from_display_hex
from miner.lock import WriterLock
from miner.store import SqliteStore
from tests.chains import REGTEST

ROOT = Path(__file__).resolve().parent.parent

RUNS = 30


class Said(NamedTuple):
    """What one child wrote before it died."""

    began: int
    """The height of the chain that it opened; -1 if it was killed before."""
    accepted: dict[bytes, int]
    """Hashes and heights of the blocks that it had on the disk."""


def killed_after(path: Path, blocks: int, seconds: float) -> Said:
    """Runs a child, and kills it `seconds` after it has accepted so many blocks (-1: after its start)."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.kill_child", path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with closing(child.stdout):
        lines = [child.stdout.readline() for _ in range(blocks + 1)]
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    assert child.wait() == -signal.SIGKILL
    whole = [line.split() for line in lines if line.endswith("\n")]
    began = int(whole[0][1]) if whole else -1
    return Said(began, {from_display_hex(hash_): int(height) for height, hash_ in whole[1:]})


def test_no_accepted_block_is_lost_and_every_store_opens_whenever_its_writer_is_killed(
    tmp_path: Path,
) -> None:
    """One chain, mined on by one process after the other, each killed at a random moment.

    Some moments are in the opening of the store, most in the milliseconds that one append takes.
    """
    dice = random.Random(20261122)
    path = tmp_path / "chain.sqlite"
    accepted: dict[bytes, int] = {}
    height = 0
    for run in range(RUNS):
        if run % 5 == 0:
            said = killed_after(path, -1, seconds=dice.uniform(0.0, 0.4))
        else:
            said = killed_after(path, dice.randrange(12), seconds=dice.uniform(0.0, 0.02))
        assert said.began in (-1, height)
        accepted |= said.accepted
        last_said = max(said.accepted.values(), default=height)
        height = height_by_opening_it(path, accepted)
        assert height in (last_said, last_said + 1)  # one more: on the disk, and not yet said so
    assert len(accepted) > 2 * RUNS


def test_a_store_whose_creation_was_killed_can_be_created(tmp_path: Path) -> None:
    dice = random.Random(20261123)
    for run in range(6):
        path = tmp_path / f"{run}.sqlite"
        said = killed_after(path, -1, seconds=dice.uniform(0.05, 0.3))
        assert height_by_opening_it(path, said.accepted) >= len(said.accepted)


def height_by_opening_it(path: Path, accepted: dict[bytes, int]) -> int:
    """The height of what a killed process left, in which every accepted block must be."""
    with SqliteStore(path, REGTEST) as store:
        chain = Chain(REGTEST, store)
        lost = [height for hash_, height in accepted.items() if chain.height_of(hash_) != height]
    assert lost == []
    return chain.height


def test_a_killed_writers_lock_is_free_though_its_process_id_stays(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    killed_after(path, 0, seconds=0.0)
    left = path.with_name("chain.sqlite.lock").read_text()
    assert left.strip().isdecimal()
    assert int(left) != os.getpid()
    WriterLock(path).release()
