"""The CUDA driver code against a stand-in CuPy whose cards execute the PTX that NVRTC really makes."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conformance import Conformance, check_close
from fake_cupy import (
    Card,
    CompileException,
    CUDADriverError,
    CUDARuntimeError,
    FakeCupy,
    OutOfMemoryError,
    installed,
)

from bench import nvidia_tools
from miner.backends import Backend, cuda, tuned
from miner.backends.launches import CAPACITY
from miner.backends.selftest import EASY, GENESIS, SMALL, hits_of
from miner.errors import DeviceFault, DeviceUnavailable
from miner.target import MAX_TARGET
from miner.work import Hit, Work

try:
    nvidia_tools.nvrtc()
except nvidia_tools.ToolMissing as missing:
    pytest.skip(str(missing), allow_module_level=True)


@contextmanager
def machine(
    *cards: Card, variant: str | None = "adds+shifts+rotates 1", count_error: Exception | None = None
) -> Iterator[FakeCupy]:
    """A machine with these cards, on which `variant` was found fastest before; None: nothing yet."""
    fake = FakeCupy(cards or [Card()], count_error=count_error)
    with pytest.MonkeyPatch.context() as patch, installed(fake, patch):
        if variant:
            patch.setattr(tuned, "recall", lambda key: variant)
        yield fake


def opened(variant: str) -> Iterator[Backend]:
    """A card on which this variant was found fastest."""
    with machine(variant=variant):
        backend = cuda.open(None, None)
    with closing(backend):
        yield backend


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    yield from opened("adds+shifts+rotates 1")


@pytest.fixture(scope="module")
def four() -> Iterator[Backend]:
    yield from opened("none 4")  # the placement that compiles soonest


class TestOneVersion(Conformance):
    pass


@pytest.mark.parametrize("place", range(4))
def test_a_real_block_is_found_whichever_version_it_has(four: Backend, place: int) -> None:
    versions, nonce = [2, 3, 4], GENESIS.hit.nonce
    versions.insert(place, GENESIS.hit.version)
    work = Work(GENESIS.header, GENESIS.work.target, tuple(versions))
    assert four.scan(work, range(nonce - 100, nonce + 100)) == [GENESIS.hit]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_any_number_of_versions_is_scanned_by_fours(four: Backend, count: int) -> None:
    work = Work(SMALL.header, EASY >> 3, tuple(range(0x20000000, 0x20000000 + count)))
    assert four.siblings == 4
    assert four.scan(work, range(5000, 5100)) == hits_of(work, range(5000, 5100))


def test_closing_is_final() -> None:
    with machine():
        check_close(cuda.open(None, None))


def test_two_launches_are_in_flight() -> None:
    with machine() as fake, closing(cuda.open(None, None)) as backend:
        backend._launches._hashes = 100  # ten launches
        work = Work(SMALL.header, EASY)
        assert backend.scan(work, range(1000)) == hits_of(work, range(1000))
        assert fake.cards[0].deepest == 2
        assert len({stream for stream, _, _ in fake.cards[0].launches}) == 2


def test_a_flood_of_hits_is_scanned_in_parts() -> None:
    nonces = range(3 * CAPACITY)
    with machine() as fake, closing(cuda.open(None, None)) as backend:
        hits = backend.scan(Work(GENESIS.header, MAX_TARGET), nonces)
        assert hits == [Hit(nonce, 1) for nonce in nonces]
        assert len(fake.cards[0].launches) > 1


# --- which card -------------------------------------------------------------------------------------------

# The second one's UUID holds a zero byte, at which CuPy cuts it off.
TWO = (Card(name="NVIDIA GeForce RTX 4090"), Card(name="NVIDIA A100-SXM4", uuid=b"\xab\xcd\x00" + bytes(13)))


@pytest.mark.parametrize(
    ("selector", "index"),
    [
        (None, 0),
        ("0", 0),
        ("1", 1),
        ("a100", 1),
        ("RTX 4090", 0),
        ("GPU-01020304", 0),
        ("gpu-abcd0012-77", 1),
    ],
)
def test_a_card_is_chosen_by_index_name_or_uuid(selector: str | None, index: int) -> None:
    with machine(*TWO), closing(cuda.open(selector, None)) as backend:
        assert backend.name == f"cuda:{index}"


def test_each_card_scans_on_its_own() -> None:
    work = Work(SMALL.header, EASY)
    with machine(Card(), Card(major=7, minor=5)) as fake:
        with closing(cuda.open("0", None)) as one, closing(cuda.open("1", None)) as two:
            assert one.scan(work, range(100)) == two.scan(work, range(100)) == hits_of(work, range(100))
        assert [len(card.launches) for card in fake.cards] == [1, 1]


@pytest.mark.parametrize("selector", ["2", "radeon", "GPU-ffffffff"])
def test_a_card_that_is_not_there_is_told_with_those_that_are(selector: str) -> None:
    with machine(*TWO), pytest.raises(DeviceUnavailable, match=r"cuda:0 to cuda:1|RTX 4090, NVIDIA A100"):
        cuda.open(selector, None)


def test_devices_describes_every_card_even_a_broken_one() -> None:
    broken = Card(fail={"properties": CUDARuntimeError(999)})
    with machine(Card(), broken):
        good, bad = cuda.devices()
    assert (good.name, good.available, good.gpu) == ("cuda:0", True, True)
    assert "Emulated 4090, 2 SM" in good.description
    assert "sm_89" in good.description
    assert (bad.name, bad.available) == ("cuda:1", False)
    assert "unknown error" in bad.reason


# --- errors -----------------------------------------------------------------------------------------------

NO_NVRTC = RuntimeError('Failure finding "libnvrtc.so.12": No such file: libnvrtc.so.12')


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (CUDARuntimeError(35), "too old"),
        (CUDARuntimeError(100), "CUDA_VISIBLE_DEVICES"),
        (CUDARuntimeError(999), "reboot"),
        (RuntimeError("CuPy failed to load libcuda.so.1: OSError"), "libcuda.so.1"),
    ],
    ids=str,
)
def test_a_driver_that_does_not_answer_makes_cuda_unavailable(error: Exception, advice: str) -> None:
    with machine(count_error=error):
        (info,) = cuda.devices()
        assert not info.available
        assert advice in info.reason
        with pytest.raises(DeviceUnavailable, match=advice):
            cuda.open(None, None)


def test_a_machine_without_cards_is_told() -> None:
    with machine() as fake:
        fake.cards.clear()
        with pytest.raises(DeviceUnavailable, match="no card"):
            cuda.open(None, None)


@pytest.mark.parametrize(
    ("step", "error", "advice"),
    [
        ("zeros", OutOfMemoryError("Out of memory allocating 65,544 bytes"), "no memory left"),
        ("pinned", CUDARuntimeError(2), "no memory left"),
        ("stream", CUDARuntimeError(46), "exclusively"),
        ("compile", NO_NVRTC, "NVRTC, the compiler, is missing"),
        ("compile", CompileException("nvrtc: error: invalid value"), "does not compile"),
        ("load", CUDADriverError(218), "PTX this new"),
    ],
    ids=str,
)
def test_what_fails_while_opening_is_unavailable(step: str, error: Exception, advice: str) -> None:
    with machine(Card(fail={step: error})), pytest.raises(DeviceUnavailable, match=advice):
        cuda.open(None, None)


@pytest.mark.parametrize(
    ("step", "error", "advice"),
    [
        ("launch", CUDADriverError(701), "more registers"),
        ("launch", CUDADriverError(2), "no memory left"),
        ("wait", CUDARuntimeError(719), "a launch failed"),
        ("wait", CUDARuntimeError(702), "took too long"),
        ("wait", CUDARuntimeError(700), "not its own"),
        ("wait", CUDARuntimeError(999), "unknown error"),
    ],
    ids=str,
)
def test_what_fails_while_mining_is_a_fault_of_that_card(step: str, error: Exception, advice: str) -> None:
    work = Work(SMALL.header, EASY)
    with machine(Card(), Card()) as fake:
        bad, good = cuda.open("0", None), cuda.open("1", None)
        fake.cards[0].fail[step] = error
        with pytest.raises(DeviceFault, match=rf"^cuda:0: .*{advice}"):
            bad.scan(work, range(100))
        bad.close()
        assert good.scan(work, range(100)) == hits_of(work, range(100))


def test_a_lost_card_can_still_be_closed() -> None:
    with machine() as fake, closing(cuda.open(None, None)) as backend:
        fake.cards[0].status = 719
        with pytest.raises(DeviceFault):
            backend.scan(Work(SMALL.header, EASY), range(10))


# --- without driver or CuPy -------------------------------------------------------------------------------


def test_a_machine_without_a_driver_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", no_library)
    monkeypatch.setattr("sys.platform", "linux")
    (info,) = cuda.devices()
    assert info.name == "cuda"
    assert "no NVIDIA driver here (libcuda.so.1 is not found)" in info.reason


def test_a_machine_with_a_driver_and_no_cupy_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_driver_reason", lambda: "")
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DeviceUnavailable, match=r"CuPy is not installed: pip install 'nonceforge\[cuda12\]'"):
        cuda.open(None, None)


# --- tuning -----------------------------------------------------------------------------------------------


def test_the_fastest_variant_is_timed_once_and_remembered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(tuned.FILE, str(tmp_path / "deep" / "tuning.json"))
    rates = {("adds+shifts", 1): 3.0, ("adds+shifts", 2): 4.0, ("adds+shifts", 4): 3.5}
    timed: list[tuple[str, int]] = []

    def rate(card: object, placement: str, versions: int) -> float:
        timed.append((placement, versions))
        return rates.get((placement, versions), 1.0)

    monkeypatch.setattr(cuda, "_rate", rate)
    monkeypatch.setattr(cuda._Card, "prepare", lambda card, siblings: None)
    with machine(variant=None):
        for _ in range(2):
            with closing(cuda.open(None, None)) as backend:
                assert (backend.siblings, backend.form) == (2, "adds+shifts, 2 versions")
    assert len(timed) == 4 + 2


def test_a_damaged_tuning_file_is_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "tuning.json"
    monkeypatch.setenv(tuned.FILE, str(file))
    for damage in ("", "[1]", '{"key": 5}', "\0\0"):
        file.write_text(damage)
        assert tuned.recall("key") is None
    tuned.remember("key", "value")
    assert tuned.recall("key") == "value"


def test_a_trial_counts_hashes_per_second() -> None:
    with machine(), closing(cuda.open(None, None)) as backend:
        assert backend._card is not None
        assert cuda._rate(backend._card, "none", 1) > 0
