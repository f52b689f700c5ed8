"""Where accepted blocks are kept: in memory, or in one SQLite file that survives a crash.

    table head    one row: format, network, genesis, how many blocks, the last seal, a checksum
    table block   number (1 = the first accepted), raw, seal

Both rows of a block are written in one transaction; `miner.seal` tells what they
are good for. See docs/decisions/0035 and 0036.
"""

import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import Self

from miner.errors import StoreCorrupt, StoreError
from miner.header import HEADER_SIZE, BlockHeader, display_hex, sha256d
from miner.lock import WriterLock
from miner.params import Params
from miner.seal import Head, first_head, seal

FORMAT = 1
"""The version of the layout above: SQLite's user_version. Other formats are refused."""

APPLICATION_ID = int.from_bytes(b"NONC", "big")
"""SQLite's application_id, by which `file` and we tell a block store from other databases."""

_TABLES = (
    "CREATE TABLE head (id INTEGER PRIMARY KEY, format INTEGER NOT NULL, network TEXT NOT NULL,"
    " genesis BLOB NOT NULL, blocks INTEGER NOT NULL, seal BLOB NOT NULL, checksum BLOB NOT NULL)",
    "CREATE TABLE block (number INTEGER PRIMARY KEY, raw BLOB NOT NULL, seal BLOB NOT NULL)",
)

_SURROUNDINGS = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "it, or its directory, is read-only",
    "SQLITE_CANTOPEN": "it, or a file beside it, cannot be opened",
    "SQLITE_IOERR": "the disk reports an error",
    "SQLITE_BUSY": "another program has it locked",
    "SQLITE_NOMEM": "memory is short",
}
"""SQLite's error names that blame the machine; all others mean a damaged file."""

_SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""The second: what SQLite says of a damaged schema quotes it, and may then not be text."""


class MemoryStore:
    """Blocks in memory, gone with the process."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def __len__(self) -> int:
        return len(self._blocks)

    def __bool__(self) -> bool:
        return True  # an empty store is a store

    def blocks(self) -> Iterator[bytes]:
        """Every block, in the order of `append`."""
        return iter(tuple(self._blocks))

    def append(self, raw: bytes) -> None:
        """Keep one more block."""
        self._blocks.append(bytes(raw))

    def close(self) -> None:
        """Nothing to do."""


class SqliteStore:
    """Blocks in a file. What `append` has returned from is on the disk, whatever ends the process.

    One writer per file, any number of readers beside it (`readonly`), in other processes too.
    StoreError if the file cannot be had or holds another network, StoreCorrupt if it is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], params: Params, *, readonly: bool = False) -> None:
        """Open the store at `path`; a missing one is created unless `readonly`."""
        self._path = _store_path(path, may_be_missing=not readonly)
        self._mutex = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._lock: WriterLock | None = None
        try:
            if self._path.exists():  # looked at first: it may not be ours, and a lock beside it be litter
                self._head = _head_of(self._path)
                self._require_network(params)
            if not readonly:
                with _in_words(self._path, "opened"):
                    self._open_to_write(params)
        except BaseException:
            self.close()
            raise

    def _open_to_write(self, params: Params) -> None:
        self._lock = WriterLock(self._path)
        if not self._path.exists():
            _create(self._path, first_head(params, FORMAT))
        if not os.access(self._path, os.W_OK):  # which SQLite would find out at the first checkpoint
            raise StoreError(f"{self._path} is read-only")
        self._connection = connection = _connect(self._path, "mode=rw")
        self._file = self._path.stat()
        for setting in ("journal_mode = WAL", "synchronous = FULL", "fullfsync = ON", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {setting}")
        # After every commit the blocks move on from the log into the file. SQLite takes a damaged log for
        # one that ends there: what only the log held would be lost without a word.
        connection.execute("PRAGMA wal_autocheckpoint = 1")
        connection.execute(
            "BEGIN IMMEDIATE"
        )  # refused now if it can only be read, and not at the first block
        connection.execute("ROLLBACK")
        self._head = _read_head(connection, self._path)

    def _require_network(self, params: Params) -> None:
        held, wanted = self._head, first_head(params, FORMAT)
        if (held.network, held.genesis) != (wanted.network, wanted.genesis):
            raise StoreError(
                f"{self._path} holds the chain of {held.network} (genesis {display_hex(held.genesis)}),"
                f" not of {wanted.network} (genesis {display_hex(wanted.genesis)})"
            )

    def __len__(self) -> int:
        """Blocks in the store, as of opening for a reader."""
        return self._head.blocks

    def __bool__(self) -> bool:
        return True  # an empty store is a store

    def blocks(self) -> Iterator[bytes]:
        """Every block, in the order of `append`, from one moment's view of the file.

        StoreCorrupt, naming the block, as soon as something is not what was written. Only when the
        iteration has ended is it known that nothing is missing.
        """
        number = 0
        try:
            with closing(_reader(self._path)) as connection:
                connection.execute("BEGIN")  # one snapshot, whatever a writer does meanwhile
                head = _read_head(connection, self._path)
                last = head.genesis
                rows = connection.execute("SELECT number, raw, seal FROM block ORDER BY number")
                for number, row in enumerate(rows, 1):
                    self._require_sealed(last, number, row)
                    last = row[2]
                    yield row[1]
                self._require_end(connection, head, number, last)
        except _SQLITE_ERRORS as error:
            raise _explained(error, self._path, f"read after block {number}") from error

    def _require_sealed(self, before: bytes, number: int, row: tuple[object, object, object]) -> None:
        found, raw, kept = row
        if found != number:
            raise StoreCorrupt(f"{self._path}: block {number} is missing (the next one is block {found})")
        if not isinstance(raw, bytes) or seal(before, number, raw) != kept:
            named = ""
            if isinstance(raw, bytes) and len(raw) >= HEADER_SIZE:
                named = f" (hash {display_hex(sha256d(raw[:HEADER_SIZE]))} as it stands)"
            raise StoreCorrupt(f"{self._path}: block {number}{named} is not what was written")

    def _require_end(self, connection: sqlite3.Connection, head: Head, number: int, last: bytes) -> None:
        if number < head.blocks:
            raise StoreCorrupt(f"{self._path}: block {number + 1} is missing: {head.blocks} were written")
        if (number, last) != (head.blocks, head.seal):
            raise StoreCorrupt(f"{self._path}: block {number} was not the last, block {head.blocks} was")
        # Damage that no block shows yet, and the next one would suffer from.
        (damage,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if damage != "ok":
            raise StoreCorrupt(f"{self._path}: damaged beside its blocks: {' '.join(damage.split())}")

    def append(self, raw: bytes) -> None:
        """Keep one more block; on return it is on the disk. StoreError if it is not; then nothing changed."""
        with self._mutex, _in_words(self._path, "written"):
            connection = self._connection
            if connection is None:
                raise StoreError(f"{self._path} is not open for writing")
            self._require_in_place()
            head = self._head.after(raw)
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO block VALUES (?, ?, ?)", (head.blocks, bytes(raw), head.seal))
                _write_head(connection, head)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self._head = head

    def _require_in_place(self) -> None:
        # A file that was removed goes on taking what is written to it, and is gone with the process.
        if not self._path.exists() or not os.path.samestat(self._path.stat(), self._file):
            raise StoreError(f"{self._path} was removed or replaced while in use")

    def close(self) -> None:
        """Let go of the file, for another writer to take. Twice is once."""
        with self._mutex:
            connection, self._connection = self._connection, None
            lock, self._lock = self._lock, None
            try:
                if connection is not None:
                    with _in_words(self._path, "closed"):
                        connection.close()
            finally:
                if lock is not None:
                    lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def network_of(path: str | os.PathLike[str]) -> str:
    """The name of the network whose chain the store at `path` holds; StoreError if there is no store."""
    return _head_of(_store_path(path, may_be_missing=False)).network


# -- the file ------------------------------------------------------------------------------------------


def _store_path(path: str | os.PathLike[str], *, may_be_missing: bool) -> Path:
    """Where the store really is, so that two names for one file share one lock."""
    found = Path(os.path.realpath(path))
    with _in_words(found, "opened"):
        if found.is_symlink():
            raise StoreError(f"{found} is a symbolic link that leads back to itself")
        if found.is_dir():
            raise StoreError(f"{found} is a directory, not a block store")
        if found.exists():
            if not found.is_file():
                raise StoreError(f"{found} is not a regular file, so it cannot be a block store")
            if found.stat().st_size == 0:  # SQLite would take it for a new database
                raise StoreCorrupt(f"{found} is empty: no block store, or one that lost all it held")
        elif not may_be_missing:
            raise StoreError(f"{found} does not exist")
        elif not found.parent.is_dir():
            raise StoreError(f"{found} cannot be created: {found.parent} is not a directory")
        elif _size(_beside(found, "-wal")) > 0:
            raise StoreError(f"{found} is missing, its log {found}-wal is not: remove it to start anew")
    return found


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _connect(path: Path, options: str) -> sqlite3.Connection:
    # isolation_level None: transactions begin where we say so. Threads take turns under a lock of ours.
    return sqlite3.connect(
        f"{path.as_uri()}?{options}", uri=True, isolation_level=None, check_same_thread=False
    )


def _reader(path: Path) -> sqlite3.Connection:
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        # Not mode=ro: that could not remove, when it is done, the files that it shares with a writer.
        connection = _connect(path, "mode=rw")
        connection.execute("PRAGMA query_only = ON")
        return connection
    # Where SQLite cannot make those files there is no writer either, unless they are there.
    alone = not _beside(path, "-wal").exists()
    return _connect(path, "immutable=1" if alone else "mode=ro")


def _create(path: Path, head: Head) -> None:
    """A new, empty store: at `path` it appears whole or not at all."""
    unfinished = _beside(path, ".new")
    for suffix in ("", "-journal", "-wal", "-shm"):  # of a process that was killed in here
        _beside(unfinished, suffix).unlink(missing_ok=True)
    with closing(_connect(unfinished, "mode=rwc")) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {head.format}")
        connection.execute("BEGIN")
        for table in _TABLES:
            connection.execute(table)
        _write_head(connection, head)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    unfinished.replace(path)
    if sys.platform != "win32":
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # the name, too, has to be on the disk
        finally:
            os.close(directory)


def _write_head(connection: sqlite3.Connection, head: Head) -> None:
    row = (*astuple(head), head.checksum)
    connection.execute("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?, ?, ?, ?)", row)


def _read_head(connection: sqlite3.Connection, path: Path) -> Head:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise StoreCorrupt(f"{path} is not a block store (application id {application:#x}), or is damaged")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    row = connection.execute("SELECT format, network, genesis, blocks, seal, checksum FROM head").fetchone()
    head = Head(*row[:5]) if row else None
    sound = head is not None and (head.checksum, head.format) == (row[5], version)
    if version != FORMAT:
        newer = f"{path} has format {version}, not {FORMAT}: it comes from a newer version of this program"
        raise StoreError(newer) if sound else StoreCorrupt(f"{newer}, or is damaged")
    if head is None or not sound:
        raise StoreCorrupt(f"{path}: the record of how many blocks there are is not what was written")
    return head


def _head_of(path: Path) -> Head:
    try:
        with _in_words(path, "opened"), closing(_reader(path)) as connection:
            return _read_head(connection, path)
    except StoreCorrupt as error:
        raise StoreCorrupt(f"{error}{_what_is_left(path)}") from error


def _what_is_left(path: Path) -> str:
    """For a damaged store, how many of its blocks are whole, in words; nothing for a file not ours."""
    ours, whole, last = False, 0, b""
    with suppress(*_SQLITE_ERRORS, TypeError, ValueError), closing(_reader(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")  # read what there is of a truncated file
        ours = connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        for number, raw, kept in connection.execute("SELECT number, raw, seal FROM block ORDER BY number"):
            before = (
                last or BlockHeader.parse(raw[:HEADER_SIZE]).previous
            )  # the genesis block, which the head knew
            if (number, kept) != (whole + 1, seal(before, number, raw)):
                break
            whole, last = number, kept
    found = f"its first {whole} blocks are whole, block {whole + 1} is" if whole else "block 1 is"
    return f"; {found} missing or damaged" if ours else ""


# -- errors --------------------------------------------------------------------------------------------


@contextmanager
def _in_words(path: Path, done: str) -> Iterator[None]:
    """Any error of SQLite or the system as a StoreError of one sentence."""
    try:
        yield
    except _SQLITE_ERRORS as error:
        raise _explained(error, path, done) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be {done}: {error.strerror or error}") from error


def _explained(error: Exception, path: Path, done: str) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    for known, why in _SURROUNDINGS.items():
        if name.startswith(known):
            return StoreError(f"{path} cannot be {done}: {why} ({error})")
    return StoreCorrupt(f"{path} cannot be {done}: it is damaged, or not a block store ({error})")
