"""The commands as a user runs them: a process, its output, its exit status, its signals."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from miner.block import Block
from miner.header import sha256d
from tests.test_grind import miner

MAINNET_HEADERS = Path(__file__).parent / "vectors" / "headers" / "mainnet_headers_0_4031.bin"


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "miner", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A chain of 20 regtest blocks, mined once for all the tests that only look at it."""
    path = str(tmp_path_factory.mktemp("chain") / "regtest.sqlite")
    done = miner(
        "mine", "--network", "regtest", "--chain", path, "--blocks", "20", "--backend", "python", "--json"
    )
    assert done.returncode == 0, done.stderr
    return path


def test_mine_stops_after_the_blocks_that_were_asked_for_and_goes_on_the_next_time(tmp_path: Path) -> None:
    path = str(tmp_path / "chain.sqlite")
    for total in (3, 6):
        done = miner("mine", "--network", "regtest", "--chain", path, "--blocks", "3", "--backend", "python")
        assert done.returncode == 0, done.stderr
        assert f"block {total} accepted" in done.stdout
        assert f"the chain is kept in {path}" in done.stdout
        assert json.loads(miner("chain", "info", "--json", "--chain", path).stdout)["height"] == total


def test_mine_as_json_is_one_object_per_line_and_its_headers_are_true(tmp_path: Path) -> None:
    path = str(tmp_path / "chain.sqlite")
    done = miner(
        "mine", "--network", "regtest", "--chain", path, "--blocks", "4", "--backend", "python", "--json"
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events][0::1][0] == "start"
    assert events[-1]["event"] == "end"
    verdicts = [event for event in events if event["event"] == "verdict"]
    assert [verdict["height"] for verdict in verdicts] == [1, 2, 3, 4]
    for verdict in verdicts:
        assert verdict["outcome"] == "accepted"
        assert sha256d(bytes.fromhex(verdict["header"]))[::-1].hex() == verdict["hash"]
    assert events[-1]["verdicts"]["accepted"] == 4


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_mining_within_a_second_with_a_summary(
    tmp_path: Path, number: int, status: int
) -> None:
    path = str(tmp_path / "chain.sqlite")
    process = start("mine", "--chain", path, "--backend", "python")
    assert process.stdout is not None
    assert "mining on local chain" in process.stdout.readline()
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    seconds = time.monotonic() - began
    assert process.returncode == status, err
    assert "hashes" in out
    assert "Traceback" not in err
    assert seconds < 1.5  # a second, and half of one for a machine that does other things
    assert miner("chain", "verify", "--chain", path).returncode == 0


def test_a_reader_that_leaves_ends_the_process_without_a_complaint(chain: str) -> None:
    done = subprocess.run(
        f"{sys.executable} -m miner chain export --chain {chain} | head -1 >/dev/null;"
        "echo ${PIPESTATUS[0]}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141")


def test_chain_info_show_and_verify_agree(chain: str) -> None:
    info = json.loads(miner("chain", "info", "--json", "--chain", chain).stdout)
    shown = json.loads(miner("chain", "show", "--chain", chain).stdout)
    assert (info["height"], info["tip"]) == (20, shown["hash"])
    by_hash = json.loads(miner("chain", "show", shown["previous"], "--chain", chain).stdout)
    assert by_hash == json.loads(miner("chain", "show", "19", "--chain", chain).stdout)
    assert "verified 21 blocks of regtest" in miner("chain", "verify", "--chain", chain).stdout


def test_chain_export_prints_blocks_that_link(chain: str) -> None:
    lines = miner("chain", "export", "--chain", chain).stdout.split()
    blocks = [Block.parse(bytes.fromhex(line)) for line in lines]
    assert len(blocks) == 20
    for parent, child in pairwise(blocks):
        assert child.header.previous == parent.header.hash


def test_a_flipped_bit_in_the_store_is_told_with_status_3(chain: str, tmp_path: Path) -> None:
    raw = bytearray(Path(chain).read_bytes())
    block = bytes.fromhex(miner("chain", "export", "--chain", chain).stdout.split()[7])
    raw[bytes(raw).index(block) + 100] ^= 1
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(raw)
    done = miner("chain", "verify", "--chain", str(damaged))
    assert done.returncode == 3
    assert "8" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_miner_on_one_file_is_told_who_has_it(tmp_path: Path) -> None:
    path = str(tmp_path / "chain.sqlite")
    first = start("mine", "--chain", path, "--backend", "python")
    assert first.stdout is not None
    first.stdout.readline()
    second = miner("mine", "--chain", path, "--backend", "python")
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=30)
    assert second.returncode == 1
    assert str(first.pid) in second.stderr


def test_real_headers_verify_retargets_included() -> None:
    done = miner(
        "chain", "verify", "--headers", str(MAINNET_HEADERS), "--network", "mainnet", "--height", "0"
    )
    assert done.returncode == 0, done.stderr
    assert "verified 4032 headers of mainnet, heights 0 to 4031" in done.stdout
    assert "bits: 4031, 1 retargets among them; median time: 4031" in done.stdout


def test_a_flipped_bit_in_a_file_of_headers_is_told_with_status_3(tmp_path: Path) -> None:
    raw = bytearray(MAINNET_HEADERS.read_bytes())
    raw[80 * 1234 + 40] ^= 4
    (tmp_path / "headers.bin").write_bytes(raw)
    done = miner("chain", "verify", "--headers", str(tmp_path / "headers.bin"), "--network", "mainnet")
    assert done.returncode == 3
    assert "1234" in done.stderr
    assert "high-hash" in done.stderr


def test_a_file_that_holds_no_whole_number_of_headers_is_told(tmp_path: Path) -> None:
    (tmp_path / "headers.bin").write_bytes(bytes(81))
    done = miner("chain", "verify", "--headers", str(tmp_path / "headers.bin"))
    assert done.returncode == 2
    assert "81 bytes" in done.stderr


def test_after_a_test_the_forms_that_were_compiled_for_it_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NONCEFORGE_CACHE", str(tmp_path))
    before, after = (json.loads(miner("devices", "--json", *more).stdout) for more in ((), ("--test",)))
    words = [row["description"] for rows in (before, after) for row in rows if row["name"] == "numba"]
    assert "not yet compiled" in words[0]
    assert "not yet compiled" not in words[1]


def test_devices_lists_every_kind_with_a_reason_where_it_cannot_be_used() -> None:
    rows = json.loads(miner("devices", "--json").stdout)
    names = {row["name"].split(":")[0] for row in rows}
    assert {"python", "multiprocess", "numpy", "numba", "cuda", "opencl"} <= names
    for row in rows:
        assert row["available"] or row["reason"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["mine", "--blocks", "0"], 2, "at least 1"),
        (["mine", "--backend", "abacus"], 2, "abacus"),
        (["mine", "--backend", "python,python"], 2, "twice"),
        (["mine", "--threads", "0", "--backend", "python"], 2, "threads"),
        (["mine", "--script", "zz"], 2, "not hex"),
        (["mine", "--address", "bc1qnonsense"], 2, "bc1qnonsense"),
        (["mine", "gopher://x", "--script", "51"], 2, "does not start with http"),
        (["chain", "show", "99999"], 2, "above the tip"),
        (["chain", "show", "abc"], 2, "64 hex digits"),
        (["chain", "verify", "--headers", "/nonexistent"], 1, "/nonexistent"),
        (["chain"], 2, "ACTION"),
        ([], 2, "COMMAND"),
    ],
)
def test_a_users_mistake_gets_one_sentence(
    arguments: list[str], status: int, words: str, chain: str, tmp_path: Path
) -> None:
    if arguments[:1] == ["chain"] and len(arguments) > 1 and "--headers" not in arguments:
        arguments = [*arguments, "--chain", chain]
    if arguments[:1] == ["mine"] and "gopher://x" not in arguments:
        arguments = [*arguments, "--chain", str(tmp_path / "chain.sqlite")]
    done = miner(*arguments)
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_bench_is_ours_whatever_the_current_directory_holds(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__main__.py").write_text("print('somebody else')")
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "miner", "bench", "--help"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python -m bench")


def test_a_chain_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = miner("chain", "info", "--chain", str(tmp_path / "none.sqlite"))
    assert done.returncode == 1
    assert "there is no chain in" in done.stderr


def test_a_foreign_package_called_kernels_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("")
    root = str(Path(__file__).resolve().parent.parent)
    # -S: without what an editable installation puts between the name and its folder.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "miner", "devices"],
        cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path}:{root}"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert str(tmp_path / "kernels") in done.stderr
    assert "is not Nonceforge's" in done.stderr
    assert len(done.stderr.splitlines()) == 1
