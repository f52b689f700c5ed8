"""What a user feels besides the hash rate: starting, getting new work under way, checking a share."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.ground import KNOWN_BLOCKS
from miner.backends.python import PythonBackend
from miner.template import Payout, parse_template
from miner.work import SearchSpace, Share, Work

VECTORS = Path(__file__).parents[2] / "tests/vectors/gbt.json"
PAYOUT = Payout(bytes.fromhex("76a914" + "11" * 20 + "88ac"))


def test_import_of_miner(benchmark: Any) -> None:
    """A new interpreter that imports `miner`; the interpreter alone is about half of it."""
    command = [sys.executable, "-c", "import miner"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=10, warmup_rounds=1)


def test_building_a_work(benchmark: Any) -> None:
    """A nonce space of eight versions from a job, midstates included: what each new extranonce costs."""
    job = _template().job(PAYOUT, "1")
    versions = tuple(job.version ^ i << 13 for i in range(8))

    def build() -> object:
        return job.work(1, job.time, versions).midstates

    benchmark(build)


def test_template_to_first_hash(benchmark: Any) -> None:
    """From a node's JSON to the first nonce hashed, in pure Python: what a new tip costs at least."""
    raw, device = _raw_template(), PythonBackend()

    def first_hash() -> object:
        span = SearchSpace(parse_template(raw).job(PAYOUT, "1")).deal(0)
        assert span is not None
        return device.scan(span.work, span.nonces[:1])

    benchmark(first_hash)


def test_verification_of_a_share(benchmark: Any) -> None:
    """Hashing a hit again before anybody sees it."""
    block = KNOWN_BLOCKS[0]
    work = Work(block.header, (1 << 224) - 1)
    share = benchmark(lambda: Share(work, block.nonce, 1).hash_hex)
    assert share.startswith("00000000")


def _raw_template() -> dict[str, Any]:
    vectors = json.loads(VECTORS.read_text())
    raw: dict[str, Any] = max((v["template"] for v in vectors), key=lambda t: len(t["transactions"]))
    return raw


def _template() -> Any:
    return parse_template(_raw_template())
