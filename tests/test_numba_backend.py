"""Every form that this CPU can run finds exactly what hashlib finds, and no file on disk is just believed."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conformance import Conformance, check_close, random_header, random_versions

import kernels
from kernels import code_cache, native
from miner.backends import forms, numba
from miner.backends.choice import ALONE, BESIDE, Choice
from miner.backends.numba import NumbaBackend, top_mask
from miner.backends.protocol import Backend
from miner.backends.selftest import EASY, GENESIS, hits_of, self_test
from miner.errors import DeviceUnavailable, SelfTestFailed
from miner.target import MAX_TARGET, bits_to_target
from miner.work import Hit, Work


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile here what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NONCEFORGE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(
    scope="module",
    params=[*native.supported(), None],
    ids=lambda form: form.name if form else "the fastest on two threads",
)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    form: native.Form | None = request.param
    with closing(NumbaBackend(1 if form else 2, form)) as backend:
        yield backend


class TestEveryForm(Conformance):
    pass


@pytest.fixture(scope="module")
def quickest() -> Iterator[NumbaBackend]:
    """Two threads of the form that is found fastest."""
    with closing(NumbaBackend(2)) as backend:
        yield backend


def test_threads_share_a_range_and_lose_nothing(quickest: NumbaBackend) -> None:
    work = Work(random_header(3), bits_to_target(0x1F00FFFF), random_versions(3, 5))
    nonces = range(5, 5 + 300_001)
    with closing(NumbaBackend(1)) as alone:
        hits = alone.scan(work, nonces)
    assert hits
    assert quickest.scan(work, nonces) == hits


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 33])
def test_any_alignment_of_start_and_length(backend: Backend, length: int) -> None:
    work = Work(GENESIS.header, EASY)
    for start in range(17):
        assert backend.scan(work, range(start, start + length)) == hits_of(work, range(start, start + length))


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_the_last_nonces_of_all(backend: Backend, count: int) -> None:
    work, nonces = Work(random_header(9), EASY, random_versions(9, count)), range((1 << 32) - 37, 1 << 32)
    assert backend.scan(work, nonces) == hits_of(work, nonces)


def test_more_versions_than_a_call_has_entries_are_scanned_block_by_block(backend: Backend) -> None:
    versions = tuple(range(300))
    work = Work(random_header(1), MAX_TARGET >> 6, versions)
    assert backend.scan(work, range(20)) == hits_of(work, range(20))


def test_a_difficulty_above_one_is_searched_for_real(quickest: NumbaBackend) -> None:
    # Block 0 asked for difficulty 1 and met 2,536.
    value = int("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f", 16)
    nonces = range(GENESIS.hit.nonce - 99_999, GENESIS.hit.nonce + 99_999)
    for target, hits in [(0xFFFF << 208, 1), (0xFFFF << 197, 1), (value, 1), (value - 1, 0)]:
        assert quickest.scan(Work(GENESIS.header, target), nonces) == [GENESIS.hit] * hits


@pytest.mark.parametrize(
    ("target", "mask"),
    [
        (MAX_TARGET, 0),
        (MAX_TARGET >> 1, 0x00000080),
        (bits_to_target(0x207FFFFF), 0x00000080),
        (0x00FFFFFF << 224, 0x000000FF),
        (1 << 224, 0xFEFFFFFF),
        ((1 << 224) - 1, 0xFFFFFFFF),
        (0, 0xFFFFFFFF),
    ],
)
def test_the_mask_is_the_zeros_that_a_target_asks_for(target: int, mask: int) -> None:
    assert top_mask(target) == mask


def test_it_names_the_forms_in_use(quickest: NumbaBackend) -> None:
    names = {form.name for form in native.supported()}
    quickest.scan(Work(GENESIS.header, EASY), range(10))
    assert set(quickest.describe().split(", ")) <= names
    (info,) = numba.devices()
    assert info.available
    assert any(name in info.description for name in names)


def test_closing_it_ends_it() -> None:
    check_close(numba.open(None, 2))
    check_close(numba.open(None, 1))


@pytest.mark.parametrize(("selector", "threads"), [("0", None), (None, 0), (None, 257)])
def test_selectors_and_wrong_thread_numbers_are_refused(selector: str | None, threads: int | None) -> None:
    with pytest.raises(ValueError, match=r"numba has no device '0'|threads: not 1 \.\.\. 256"):
        numba.open(selector, threads)


@pytest.mark.parametrize("library", ["numba", "llvmlite"])
def test_without_numba_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DeviceUnavailable, match=r"^numba is not installed: pip install '.*\[numba\]'$"):
        numba.open(None, None)
    (info,) = numba.devices()
    assert not info.available
    assert "pip install" in info.reason


def test_a_compiler_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kernels, "native")
    monkeypatch.setitem(sys.modules, "kernels.native", None)
    with pytest.raises(DeviceUnavailable, match=r"^llvmlite, Numba's compiler, cannot be loaded: "):
        numba.open(None, None)


def test_a_thread_that_fails_stops_the_others_and_is_heard(quickest: NumbaBackend) -> None:
    work = Work(GENESIS.header, EASY)
    quickest.scan(work, range(10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native.Search, "candidates", _broken)
        with pytest.raises(OSError, match="out of order"):
            quickest.scan(work, range(1_000_000))
    assert quickest.scan(work, range(10)) == hits_of(work, range(10))


@pytest.mark.parametrize("threads", [1, 2, 7, 64, 256])
def test_any_number_of_threads_finds_the_same(threads: int) -> None:
    work, form = Work(random_header(4), bits_to_target(0x1F00FFFF)), native.supported()[-1]
    nonces = range(11, 11 + 1_000_003)
    with closing(NumbaBackend(1, form)) as alone, closing(NumbaBackend(threads, form)) as many:
        expected = alone.scan(work, nonces)
        assert len(expected) > 5
        assert many.scan(work, nonces) == expected
        assert many.scan(work, nonces[:100]) == [hit for hit in expected if hit.nonce < nonces[100]]


def test_the_more_threads_the_longer_the_shortest_chunk() -> None:
    codes, work = (forms.load(native.supported()[-1]),), Work(GENESIS.header, 0)
    least = [numba._Prepared(work, codes, threads).least for threads in (2, 16, 64)]
    assert least == [1 << 12, 1 << 15, 1 << 17]
    assert all(p.least <= p.most for p in (numba._Prepared(work, codes, t) for t in (1, 2, 64, 256)))


@pytest.mark.parametrize("caller_fails", [True, False])
def test_whichever_thread_fails_it_is_heard(caller_fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, us = numba._Prepared.hits, threading.get_ident()

    def hits(*arguments: Any) -> list[Hit]:
        if (threading.get_ident() == us) == caller_fails:
            raise RuntimeError("broken")
        return sound(*arguments)

    monkeypatch.setattr(numba._Prepared, "hits", hits)
    form = native.supported()[-1]
    with closing(NumbaBackend(2, form)) as backend, pytest.raises(RuntimeError, match="broken"):
        backend.scan(Work(GENESIS.header, 0), range(1 << 24))  # long enough for both to begin


def test_helpers_that_are_late_are_not_waited_for() -> None:
    work, form = Work(GENESIS.header, EASY), native.supported()[-1]
    release = threading.Event()
    with closing(NumbaBackend(2, form)) as backend:
        backend._helpers.submit(release.wait)
        try:
            assert backend.scan(work, range(20_000)) == hits_of(work, range(20_000))
        finally:
            release.set()


@pytest.mark.parametrize("wrong", [0, 1])
def test_the_self_test_proves_every_code(wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [form for form in native.supported() if not form.single]
    searches = [forms.load(plain[0]), forms.load(plain[-1])]
    monkeypatch.setattr(numba, "with_crowded", lambda search: tuple(searches))
    with closing(NumbaBackend(2)) as backend:
        self_test(backend)
        monkeypatch.setattr(searches[wrong], "candidates", lambda *_: [])
        with pytest.raises(SelfTestFailed, match="disagree about nonces"):
            self_test(backend)


def test_codes_may_change_from_turn_to_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Restless(Choice):
        def learn(self, cost: float) -> None:
            self.code = ALONE + BESIDE - self.code

    monkeypatch.setattr(numba, "Choice", Restless)
    monkeypatch.setattr(numba, "TURN", 1 << 12)
    searches = [forms.load(form) for form in native.supported() if not form.single][:2]
    monkeypatch.setattr(numba, "with_crowded", lambda search: tuple(searches))
    work = Work(random_header(9), bits_to_target(0x1F7FFFFF), random_versions(9, 3))
    nonces = range(7, 7 + 50_001)
    with closing(NumbaBackend(2)) as backend:
        assert backend.scan(work, nonces) == hits_of(work, nonces)
        assert len(set(backend.describe().split(", "))) == 2


def _broken(*_: object) -> list[tuple[int, int]]:
    raise OSError("out of order")


# What is kept on disk.


@pytest.fixture
def small_form() -> native.Form:
    """The form that takes least time to load."""
    return native.supported()[0]


def hits_with(form: native.Form) -> list[Hit]:
    with closing(NumbaBackend(1, form)) as backend:
        return backend.scan(Work(GENESIS.header, EASY), range(50))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def test_compiled_code_is_kept_and_not_made_twice(
    small_form: native.Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NONCEFORGE_CACHE", str(tmp_path))
    hits = hits_with(small_form)
    (message,) = caplog.messages
    assert message.startswith(f"numba: compiling {small_form.name} for this CPU")
    caplog.clear()
    monkeypatch.setattr(native, "compile_form", _broken)
    assert hits_with(small_form) == hits
    assert caplog.messages == []


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_flipped_bit_in_the_cache_is_noticed(
    small_form: native.Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    code = code_cache.recall(small_form.name) or native.compile_form(small_form)
    monkeypatch.setenv("NONCEFORGE_CACHE", str(tmp_path))
    code_cache.keep(small_form.name, code)
    assert code_cache.recall(small_form.name) == code
    (path,) = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert code_cache.recall(small_form.name) is None
    assert hits_with(small_form) == hits_of(Work(GENESIS.header, EASY), range(50))
    assert code_cache.recall(small_form.name) == code  # mended


@pytest.mark.parametrize("length", [0, 10, 32, 1000])
def test_a_cut_file_is_not_loaded(
    small_form: native.Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setenv("NONCEFORGE_CACHE", str(tmp_path))
    code_cache.keep(small_form.name, bytes(2000))
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert code_cache.recall(small_form.name) is None


def test_another_form_s_or_another_machine_s_file_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NONCEFORGE_CACHE", str(tmp_path))
    code_cache.keep("one", b"code")
    (path,) = files(tmp_path)
    path.rename(path.with_name(path.name.replace("one", "two")))
    assert code_cache.recall("two") is None
    code_cache.keep("one", b"code")
    monkeypatch.setattr(code_cache, "fingerprint", lambda: "another")
    assert code_cache.recall("one") is None
    next(p for p in files(tmp_path) if p.name.startswith("one")).rename(tmp_path / "one-another")
    assert code_cache.recall("one") is None


def test_a_cache_that_cannot_be_written_is_done_without(
    small_form: native.Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("NONCEFORGE_CACHE", str(tmp_path / "file"))
    assert hits_with(small_form) == hits_of(Work(GENESIS.header, EASY), range(50))


def test_a_user_without_a_home_is_served_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("NONCEFORGE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    code_cache.keep("one", b"code")
    assert code_cache.recall("one") is None


def test_two_processes_may_compile_at_once(tmp_path: Path) -> None:
    program = (
        "from kernels import native; from miner.backends import numba; from miner.work import Work;"
        "b = numba.NumbaBackend(1, native.supported()[0]);"
        "print(len(b.scan(Work(bytes(80), 2**256 - 1), range(50))))"
    )
    environment = os.environ | {"NONCEFORGE_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0] for process in both] == ["50\n", "50\n"]
    assert len(files(tmp_path)) == 1
