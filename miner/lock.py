"""One writer per store: a lock on a file beside it, which also tells the writer's process id.

The system releases the lock however the process ends. On the store itself it
would get into the way of SQLite's own locks.
"""

import os
import sys
from pathlib import Path

from miner.errors import StoreError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class WriterLock:
    """Held from construction to `release`.

    StoreError that names the other process if it is held already, in this process included; OSError if
    the file system has no locks.
    """

    def __init__(self, store: Path) -> None:
        self._file = store.with_name(store.name + ".lock").open("a+", encoding="utf-8", errors="replace")
        try:
            _lock(self._file.fileno())
        except (BlockingIOError, PermissionError):
            self._file.seek(0)
            pid = self._file.read(20).strip()
            self._file.close()
            raise StoreError(
                f"{store} is in use by {f'process {pid}' if pid else 'another process'}:"
                " only one at a time may write to a block store"
            ) from None
        except BaseException:
            self._file.close()
            raise
        self._note(f"{os.getpid()}\n")

    def _note(self, text: str) -> None:
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()

    def release(self) -> None:
        """Let the next writer in. The file stays: removing it could part two who wait for it."""
        try:
            self._note("")
        finally:
            self._file.close()


def _lock(file: int) -> None:
    """Lock an open file for this process, or raise BlockingIOError or PermissionError at once."""
    if sys.platform == "win32":
        os.lseek(file, 1 << 20, os.SEEK_SET)  # behind the process id, which others may then still read
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
