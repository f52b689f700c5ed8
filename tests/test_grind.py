"""solve(), and `miner grind` as Bitcoin Core's signet miner calls it."""

import itertools
import subprocess
import sys
import time

import pytest

from miner.backends.python import PythonBackend
from miner.errors import DeviceFault, RuleError
from miner.grind import solve
from miner.header import BlockHeader
from tests.fakes import Liar
from tests.test_work import GENESIS, GENESIS_NONCE

NEAR = range(GENESIS_NONCE - 900, GENESIS_NONCE + 100)


def miner(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "miner", *arguments], capture_output=True, text=True, timeout=120, input=stdin
    )


@pytest.mark.parametrize("header", [GENESIS, GENESIS.hex(), BlockHeader.parse(GENESIS)])
def test_solve_finds_the_genesis_nonce_in_a_header_of_any_form(header: bytes | str | BlockHeader) -> None:
    share = solve(header, nonces=NEAR)
    assert share is not None
    assert share.nonce == GENESIS_NONCE
    assert share.header == GENESIS


def test_solve_says_none_when_the_range_holds_no_solution() -> None:
    assert solve(GENESIS, nonces=range(1000)) is None
    assert solve(GENESIS, nonces=range(0)) is None


def test_solve_takes_another_target_than_the_headers_own() -> None:
    share = solve(GENESIS, target=1 << 250, nonces=range(10_000))
    assert share is not None
    assert share.value <= 1 << 250


def test_solve_gives_up_after_its_timeout() -> None:
    began = time.monotonic()
    assert solve(GENESIS, target=1, backend="python", timeout=0.2) is None
    assert time.monotonic() - began < 2


def test_solve_leaves_a_backend_that_was_passed_in_open() -> None:
    backend = PythonBackend()
    for _ in range(2):
        assert solve(GENESIS, backend=backend, nonces=NEAR) is not None


def test_solve_never_returns_a_lie() -> None:
    with pytest.raises(DeviceFault, match="liar returned a false hit"):
        solve(GENESIS, backend=Liar("liar"), nonces=NEAR)


def test_solve_refuses_bits_that_stand_for_no_target() -> None:
    with pytest.raises(RuleError, match="bad-diffbits"):
        solve(GENESIS[:72] + bytes(4) + GENESIS[76:])


@pytest.mark.parametrize("nonces", [range(0, 10, 2), range(-1, 5), range((1 << 32) + 1)])
def test_solve_refuses_nonces_that_are_no_range_of_uint32(nonces: range) -> None:
    with pytest.raises(ValueError, match="not a range"):
        solve(GENESIS, nonces=nonces)


def test_solve_reports_how_far_it_is() -> None:
    seen: list[int] = []
    solve(GENESIS, target=1, backend="python", nonces=range(100, 50_000), on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 50_000


def test_grind_prints_the_solved_header_and_nothing_else() -> None:
    unsolved = BlockHeader.parse(GENESIS).with_nonce(0).hex()
    done = miner("grind", "--nonces", f"{NEAR.start}:{NEAR.stop}", unsolved)
    assert (done.returncode, done.stdout, done.stderr) == (0, GENESIS.hex() + "\n", "")


def test_grind_on_exhaustion_says_what_bitcoin_util_says() -> None:
    done = miner("grind", GENESIS.hex(), "--nonces", "0:1000")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Could not satisfy difficulty target\n"


def test_grind_calibrates_as_the_signet_miner_does() -> None:
    # contrib/signet/miner, do_calibrate: nBits 1e3ea75f, a few headers that differ.
    for time_ in (0, 1):
        header = BlockHeader(0, bytes(32), bytes(32), time_, 0x1E3EA75F, 0).hex()
        done = miner("grind", header)
        assert done.returncode == 0, done.stderr
        solved = BlockHeader.from_hex(done.stdout.strip())
        assert int.from_bytes(solved.hash, "little") <= 0x3EA75F << 8 * 27
        assert solved.hex()[:152] == header[:152]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["00"], 2, "160 hex digits, not 2"),
        (["zz" * 80], 2, "other characters"),
        ([" 0" * 80], 2, "other characters"),
        ([GENESIS.hex(), "--nonces", "5"], 2, "A:B"),
        ([GENESIS.hex(), "--nonces", "9:5"], 2, "A:B"),
        ([GENESIS.hex(), "--nonces", "0:4294967297"], 2, "4294967296"),
        ([GENESIS.hex(), "--backend", "abacus"], 2, "abacus"),
        ([(GENESIS[:72] + bytes(4) + GENESIS[76:]).hex()], 2, "bits 00000000"),
        ([(GENESIS[:72] + b"\xff\xff\xff\xff" + GENESIS[76:]).hex()], 2, "bits ffffffff"),
    ],
)
def test_grind_refuses_nonsense_in_one_sentence(arguments: list[str], status: int, words: str) -> None:
    done = miner("grind", *arguments)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_grind_loads_nothing_that_a_small_target_does_not_need() -> None:
    program = (
        "import sys; from miner.cli import main; main(['grind', sys.argv[1], '--nonces', sys.argv[2]]);"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, GENESIS.hex(), f"{NEAR.start}:{NEAR.stop}"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    loaded = set(done.stderr.split())
    heavy = {
        "numpy",
        "numba",
        "llvmlite",
        "cupy",
        "pyopencl",
        "rich",
        "sqlite3",
        "asyncio",
        "multiprocessing",
    }
    assert not loaded & heavy, loaded & heavy
    assert GENESIS.hex() in done.stdout


def test_the_public_names_are_few_and_all_there() -> None:
    import miner as root

    assert len(root.__all__) <= 25
    for name in root.__all__:
        assert getattr(root, name) is not None
    assert len(list(itertools.chain(root.__all__))) == len(set(root.__all__))


def test_importing_the_package_loads_none_of_it() -> None:
    program = (
        "import sys, miner; print(*(m for m in sys.modules if m.startswith(('miner.', 'kernels', 'numpy'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == ""
