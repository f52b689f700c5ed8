"""A store gives back exactly what was put in, or says in one sentence why it cannot."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miner.errors import StoreCorrupt, StoreError
from miner.header import sha256d
from miner.params import network
from miner.store import APPLICATION_ID, FORMAT, MemoryStore, SqliteStore, network_of

REGTEST = network("regtest")


def a_block(number: int) -> bytes:
    """Something of a small block's size; a store cares for no more than the first one's parent."""
    parent = REGTEST.genesis_header.hash if number == 1 else sha256d(b"%d" % (number - 1))
    return bytes(4) + parent + b"".join(sha256d(b"%d %d" % (number, part)) for part in range(6))


def filled(path: Path, count: int) -> Path:
    with SqliteStore(path, REGTEST) as store:
        for number in range(1, count + 1):
            store.append(a_block(number))
    return path


def contents(path: Path) -> list[bytes]:
    with SqliteStore(path, REGTEST, readonly=True) as store:
        return list(store.blocks())


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def one_sentence(error: pytest.ExceptionInfo[StoreError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert not isinstance(error.value, sqlite3.Error)
    return text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chain.sqlite"


# -- what goes in comes out ----------------------------------------------------------------------------


def test_a_new_store_is_empty(path: Path) -> None:
    with SqliteStore(path, REGTEST) as store:
        assert (list(store.blocks()), len(store)) == ([], 0)


@settings(max_examples=10, deadline=None)
@given(blocks=st.lists(st.binary(max_size=9000), max_size=8), openings=st.integers(1, 3))
def test_both_stores_give_back_what_was_appended_in_order(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[bytes], openings: int
) -> None:
    path = tmp_path_factory.mktemp("store") / "chain.sqlite"
    memory = MemoryStore()
    for opening in range(openings):
        with SqliteStore(path, REGTEST) as store:
            for block in blocks[opening::openings]:
                store.append(block)
                memory.append(block)
            assert list(store.blocks()) == list(memory.blocks())
            assert len(store) == len(memory)


def test_blocks_are_on_the_disk_before_the_store_is_closed(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    with SqliteStore(path, REGTEST) as store:
        for number in (1, 2, 3):
            store.append(a_block(number))
        shutil.copy(path, copy)  # without its log: checkpointed after every append
    assert contents(copy) == [a_block(1), a_block(2), a_block(3)]


def test_threads_may_append_at_the_same_time(path: Path) -> None:
    with SqliteStore(path, REGTEST) as store:

        def append_ten(first: int) -> None:
            for number in range(first, first + 10):
                store.append(a_block(number))

        threads = [threading.Thread(target=append_ten, args=(first,)) for first in (0, 100, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(store.blocks()) == sorted(a_block(n + i) for n in (0, 100, 200) for i in range(10))


def test_the_file_says_what_it_is(path: Path) -> None:
    filled(path, 1)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert network_of(path) == "regtest"


def test_closing_leaves_no_log_behind_and_may_be_repeated(path: Path) -> None:
    store = SqliteStore(path, REGTEST)
    store.append(a_block(1))
    store.close()
    store.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["chain.sqlite", "chain.sqlite.lock"]
    with pytest.raises(StoreError, match="not open for writing"):
        store.append(a_block(2))


# -- readers and writers -------------------------------------------------------------------------------


def test_a_second_writer_is_told_the_first_ones_process(path: Path) -> None:
    with (
        SqliteStore(path, REGTEST),
        pytest.raises(StoreError, match=f"in use by process {os.getpid()}:") as error,
    ):
        SqliteStore(path, REGTEST)
    one_sentence(error)
    SqliteStore(path, REGTEST).close()  # the lock went with its holder


def test_another_process_is_told_so_too(path: Path) -> None:
    code = (
        "import sys; from miner.store import SqliteStore; from miner.params import network\n"
        "from miner.errors import StoreError\n"
        "try: SqliteStore(sys.argv[1], network('regtest'))\n"
        "except StoreError as error: sys.exit(str(error))"
    )
    with SqliteStore(path, REGTEST):
        child = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
        )
    assert child.returncode == 1
    assert child.stderr.strip() == (
        f"{path} is in use by process {os.getpid()}: only one at a time may write to a block store"
    )


def test_two_names_of_one_store_share_its_lock(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    other.symlink_to(path)
    with SqliteStore(path, REGTEST), pytest.raises(StoreError, match="in use"):
        SqliteStore(other, REGTEST)


def test_readers_see_what_is_there_while_the_writer_goes_on(path: Path) -> None:
    with SqliteStore(path, REGTEST) as writer:
        writer.append(a_block(1))
        with SqliteStore(path, REGTEST, readonly=True) as reader:
            reading = reader.blocks()
            assert next(reading) == a_block(1)
            writer.append(a_block(2))
            assert list(reading) == []  # one moment's view
            assert list(reader.blocks()) == [a_block(1), a_block(2)]
            writer.append(a_block(3))
        assert list(writer.blocks()) == [a_block(1), a_block(2), a_block(3)]


def test_a_reader_cannot_write_and_makes_no_file(path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        SqliteStore(path, REGTEST, readonly=True)
    assert list(path.parent.iterdir()) == []
    filled(path, 1)
    before = sorted(path.parent.iterdir())
    assert contents(path) == [a_block(1)]
    assert sorted(path.parent.iterdir()) == before
    with (
        SqliteStore(path, REGTEST, readonly=True) as store,
        pytest.raises(StoreError, match="not open for writing"),
    ):
        store.append(a_block(2))


# -- other files ---------------------------------------------------------------------------------------


def test_a_store_of_another_network_is_refused_by_name(path: Path) -> None:
    filled(path, 1)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"holds the chain of regtest .*, not of local ") as error:
        SqliteStore(path, network("local"))
    one_sentence(error)
    assert path.read_bytes() == before
    assert contents(path) == [a_block(1)]  # and its lock is free again


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n" + bytes(500)), "not a block store"),
        (lambda path: path.write_text("[mine]\nnetwork = local\n" * 300), "not a block store"),
        (lambda path: edit(path, "CREATE TABLE photos (id)"), "not a block store"),
        (lambda path: path.symlink_to(path), "symbolic link"),
        (lambda path: os.mkfifo(path), "not a regular file"),
    ],
)
def test_a_foreign_file_is_refused_and_left_alone(
    path: Path, make: Callable[[Path], object], says: str, readonly: bool
) -> None:
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=says) as error:
        SqliteStore(path, REGTEST, readonly=readonly)
    assert str(path) in one_sentence(error)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert before is None or path.read_bytes() == before


def test_a_newer_format_is_refused_as_newer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer_program:
        newer_program.setattr("miner.store.FORMAT", 2)
        filled(path, 2)
    with pytest.raises(
        StoreError, match=r"format 2, not 1: it comes from a newer version of this program$"
    ) as error:
        SqliteStore(path, REGTEST)
    assert not isinstance(error.value, StoreCorrupt)


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere is not a directory"):
        SqliteStore(tmp_path / "nowhere" / "chain.sqlite", REGTEST)


def test_a_log_without_its_store_is_not_thrown_away(path: Path) -> None:
    log = path.with_name("chain.sqlite-wal")
    log.write_bytes(b"what a killed process left")
    with pytest.raises(StoreError, match="is missing, its log"):
        SqliteStore(path, REGTEST)
    log.write_bytes(b"")
    SqliteStore(path, REGTEST).close()


def test_what_is_left_of_an_unfinished_creation_is_replaced(path: Path) -> None:
    for suffix in (".new", ".new-journal", ".new-wal", ".new-shm"):
        path.with_name(path.name + suffix).write_bytes(b"half a store")
    assert contents(filled(path, 1)) == [a_block(1)]


# -- a disk that does not help -------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Every write beyond `size` bytes of a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 1000, 8192, 20_000, 40_000])
def test_an_append_that_fails_changes_nothing_and_the_next_one_works(path: Path, size: int) -> None:
    with SqliteStore(path, REGTEST) as store:
        store.append(a_block(1))
        with files_of_at_most(size), pytest.raises(StoreError, match="cannot be written: the disk") as error:
            store.append(bytes(100_000))
        one_sentence(error)
        assert list(store.blocks()) == [a_block(1)]
        store.append(a_block(2))
        assert (list(store.blocks()), len(store)) == ([a_block(1), a_block(2)], 2)
    assert contents(path) == [a_block(1), a_block(2)]


def test_a_full_disk_is_called_one(path: Path) -> None:
    with SqliteStore(path, REGTEST) as store:
        assert store._connection is not None
        store._connection.execute("PRAGMA max_page_count = 8")
        with pytest.raises(StoreError, match="the disk is full") as error:
            store.append(bytes(100_000))
        one_sentence(error)
        assert list(store.blocks()) == []


def test_a_store_that_cannot_be_created_leaves_nothing_in_the_way(path: Path) -> None:
    with files_of_at_most(1000), pytest.raises(StoreError, match="cannot be opened: the disk"):
        SqliteStore(path, REGTEST)
    assert not path.exists()
    assert contents(filled(path, 1)) == [a_block(1)]


def test_a_store_removed_under_its_writer_takes_no_more_blocks(path: Path) -> None:
    with SqliteStore(path, REGTEST) as store:
        path.rename(path.with_name("elsewhere.sqlite"))
        with pytest.raises(StoreError, match="removed or replaced while in use"):
            store.append(a_block(1))


READ_ONLY = """
import os, sys
from miner.errors import StoreError
from miner.params import network
from miner.store import SqliteStore
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)  # root may write anywhere
for name in sys.argv[1:]:
    for readonly in (False, True):
        try:
            with SqliteStore(name, network("regtest"), readonly=readonly) as store:
                print(len(list(store.blocks())))
        except StoreError as error:
            print(error)
"""


def as_somebody_else(*paths: Path) -> list[str]:
    """What becomes of each path when a user who is not root opens it to write, then to read."""
    command = [sys.executable, "-c", READ_ONLY, *map(str, paths)]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    return child.stdout.splitlines()


def test_what_is_read_only_can_be_read_and_says_at_once_why_it_cannot_be_written_to(tmp_path: Path) -> None:
    locked, free = tmp_path / "archive", tmp_path / "free"
    for directory in (locked, free):
        directory.mkdir()
        filled(directory / "chain.sqlite", 3).chmod(0o444)
        (directory / "chain.sqlite.lock").unlink()
    for directory in locked.parents:
        if directory.stat().st_mode & 0o077 == 0:  # pytest's own are closed to others, however many there are
            directory.chmod(0o755)
    free.chmod(0o777)
    locked.chmod(0o555)
    new, old, fixed = locked / "new.sqlite", locked / "chain.sqlite", free / "chain.sqlite"
    said = as_somebody_else(new, old, fixed)
    locked.chmod(0o755)
    assert said == [
        f"{new} cannot be opened: Permission denied",
        f"{new} does not exist",
        f"{old} cannot be opened: Permission denied",
        "3",
        f"{fixed} is read-only",
        "3",
    ]


# -- damage --------------------------------------------------------------------------------------------

ALTERATIONS = [
    (
        "UPDATE block SET raw = zeroblob(90) WHERE number = 3",
        r"block 3 \(hash [0-9a-f]{64} as it stands\) is",
    ),
    ("UPDATE block SET raw = 'text' WHERE number = 3", "block 3 is not what was written"),
    ("UPDATE block SET seal = zeroblob(32) WHERE number = 5", r"block 5 \(hash .*\) is not what was written"),
    ("DELETE FROM block WHERE number = 1", r"block 1 is missing \(the next one is block 2\)"),
    ("DELETE FROM block WHERE number = 4", "block 4 is missing"),
    ("DELETE FROM block WHERE number > 4", "block 5 is missing: 6 were written"),
    ("DELETE FROM block", "block 1 is missing: 6 were written"),
    ("INSERT INTO block SELECT 7, raw, seal FROM block WHERE number = 6", "block 7 .*is not what"),
    ("UPDATE block SET number = 9 WHERE number = 6", "block 6 is missing"),
    ("UPDATE head SET blocks = 5", "record of how many blocks"),
    ("UPDATE head SET network = 'local'", "record of how many blocks"),
    ("DELETE FROM head", "record of how many blocks"),
    ("DROP TABLE block", "it is damaged"),
    ("DROP TABLE head", "it is damaged"),
    ("PRAGMA application_id = 5", "is not a block store"),
]


@pytest.mark.parametrize(("statement", "says"), ALTERATIONS)
def test_whatever_is_altered_is_named(path: Path, statement: str, says: str) -> None:
    filled(path, 6)
    edit(path, statement)
    with pytest.raises(StoreCorrupt, match=says) as error, SqliteStore(path, REGTEST) as store:
        list(store.blocks())
    one_sentence(error)


def test_two_blocks_that_changed_places_are_noticed(path: Path) -> None:
    filled(path, 6)
    for swap in (
        "number = -2 WHERE number = 2",
        "number = 2 WHERE number = 3",
        "number = 3 WHERE number = -2",
    ):
        edit(path, f"UPDATE block SET {swap}")
    with pytest.raises(StoreCorrupt, match="block 2 "):
        contents(path)


class Damaged:
    """Damages one store in many ways, and tells what became of it."""

    def __init__(self, path: Path, count: int) -> None:
        self.good = filled(path, count).read_bytes()
        self.blocks = [a_block(number) for number in range(1, count + 1)]
        self.path = path

    def survives(self, damaged: bytes, *, readonly: bool = False) -> bool:
        """Whether it reads as if nothing had happened; False if refused. Anything else is an error."""
        self.path.write_bytes(damaged)
        try:
            with SqliteStore(self.path, REGTEST, readonly=readonly) as store:
                assert list(store.blocks()) == self.blocks
        except StoreCorrupt as error:
            assert "\n" not in str(error)  # noqa: PT017 - refusal is one of two right answers
            return False
        finally:
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        return True


@pytest.mark.parametrize(("readonly", "step"), [(True, 13), (False, 61)])
def test_one_flipped_bit_anywhere_is_noticed_or_touches_no_block(
    path: Path, readonly: bool, step: int
) -> None:
    damaged = Damaged(path, 9)
    # All of SQLite's file header, and a prime step through the rest.
    for place in (*range(100), *range(100, len(damaged.good), step)):
        flipped = bytearray(damaged.good)
        flipped[place] ^= 1 << place % 8
        damaged.survives(bytes(flipped), readonly=readonly)


def test_one_flipped_bit_in_any_block_is_noticed(path: Path) -> None:
    damaged = Damaged(path, 3)
    for block in damaged.blocks:
        start = damaged.good.index(block)
        for place in range(start, start + len(block), 5):
            flipped = bytearray(damaged.good)
            flipped[place] ^= 1 << place % 8
            assert not damaged.survives(bytes(flipped), readonly=True)


def test_a_truncated_store_is_refused_at_every_length(path: Path) -> None:
    damaged = Damaged(path, 20)
    size = len(damaged.good)
    for length in (*range(0, 200, 19), *range(200, size, 307), size - 1):
        assert not damaged.survives(damaged.good[:length]), length


def test_a_truncated_store_says_which_block_is_the_first_lost(path: Path) -> None:
    path.write_bytes(filled(path, 200).read_bytes()[:-20_000])
    with pytest.raises(
        StoreCorrupt, match=r"its first (\d+) blocks are whole, block \d+ is missing"
    ) as error:
        SqliteStore(path, REGTEST)
    whole = int(one_sentence(error).split("its first ")[1].split()[0])
    assert 100 < whole < 190
    with pytest.raises(StoreCorrupt, match=f"its first {whole} blocks"):
        network_of(path)


def test_a_head_that_is_lost_says_that_the_blocks_are_not(path: Path) -> None:
    filled(path, 5)
    edit(path, "DELETE FROM head")
    with pytest.raises(StoreCorrupt, match="its first 5 blocks are whole"):
        SqliteStore(path, REGTEST)


def test_a_tail_of_zeros_is_refused(path: Path) -> None:
    damaged = Damaged(path, 20)
    size = len(damaged.good)
    for length in (*range(512, size, 509), size - 1):
        assert not damaged.survives(damaged.good[:length] + bytes(size - length)), length


def test_what_follows_the_store_in_its_file_does_no_harm(path: Path) -> None:
    damaged = Damaged(path, 5)
    damaged.survives(damaged.good + bytes(4096))
    damaged.survives(damaged.good + os.urandom(5000))


# -- killed between two writes -------------------------------------------------------------------------


class Moments:
    """The files of a store before, during and after its last append, as a killed process may leave them."""

    def __init__(self, path: Path, count: int) -> None:
        log = path.with_name(path.name + "-wal")
        self.path, self.log_path = path, log
        with SqliteStore(path, REGTEST) as store:
            for number in range(1, count):
                store.append(a_block(number))
            self.before = path.read_bytes()
            assert store._connection is not None
            store._connection.execute("PRAGMA wal_autocheckpoint = 0")
            store.append(a_block(count))
            assert path.read_bytes() == self.before
            self.log = log.read_bytes()
        self.after = path.read_bytes()
        self.old = [a_block(number) for number in range(1, count)]
        self.new = [*self.old, a_block(count)]

    def left(self, store: bytes, log: bytes) -> list[bytes]:
        self.path.write_bytes(store)
        self.log_path.write_bytes(log)
        with SqliteStore(self.path, REGTEST) as opened:
            return list(opened.blocks())


def test_killed_while_the_log_is_written_the_block_is_there_or_not(path: Path) -> None:
    moments = Moments(path, 9)
    seen = [
        moments.left(moments.before, moments.log[:length])
        for length in (*range(0, len(moments.log), 397), len(moments.log) - 1, len(moments.log))
    ]
    assert seen[-1] == moments.new
    assert all(blocks in (moments.old, moments.new) for blocks in seen)
    assert seen.index(moments.new) > 1  # no sooner than it was complete


def test_killed_while_the_log_moves_into_the_file_the_block_is_there(path: Path) -> None:
    moments = Moments(path, 9)
    size = max(len(moments.before), len(moments.after))
    for written in range(0, size + 1, 512):
        torn = moments.after[:written] + moments.before[written:]
        assert moments.left(torn, moments.log) == moments.new, written
        torn = moments.before[:written].ljust(written, b"\0") + moments.after[written:]
        assert moments.left(torn, moments.log) == moments.new, written


def test_a_flipped_bit_in_the_log_of_a_killed_process_loses_nothing(path: Path) -> None:
    with SqliteStore(path, REGTEST) as store:
        for number in range(1, 8):
            store.append(a_block(number))
        left, log = path.read_bytes(), path.with_name(path.name + "-wal").read_bytes()
    for place in range(0, len(log), 101):
        flipped = bytearray(log)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(left)
        path.with_name(path.name + "-wal").write_bytes(bytes(flipped))
        with SqliteStore(path, REGTEST) as store:
            assert list(store.blocks()) == [a_block(number) for number in range(1, 8)]
