"""The process that the multiprocess backend starts on each core, and the bytes the two exchange.

It is the python backend behind two pipes: a scan comes in on standard input,
its hits go out on standard output. It ends when its input does, which is also
what happens when the parent dies, by whatever signal.

    request   80s header, 32s target, Q start, Q stop, I count, then count * I versions
    answer    I count, then count * (I nonce, I version)

Integers are little-endian. The answer to nothing is `HELLO`: the worker is ready.
"""

import os
import struct
import sys
from typing import BinaryIO

from miner.backends.python import PythonBackend
from miner.work import Hit, Work

HELLO = b"nonceforge worker\n"
"""The first bytes of a worker; whatever else was started in its place says something else."""

_REQUEST = struct.Struct("<80s32sQQI")
_COUNT = struct.Struct("<I")
_HIT = struct.Struct("<II")


def write_request(pipe: BinaryIO, work: Work, nonces: range) -> None:
    """Ask for a scan."""
    target, versions = work.target.to_bytes(32, "little"), work.versions
    pipe.write(_REQUEST.pack(work.header, target, nonces.start, nonces.stop, len(versions)))
    pipe.write(struct.pack(f"<{len(versions)}I", *versions))
    pipe.flush()


def read_request(pipe: BinaryIO) -> tuple[Work, range] | None:
    """The next scan; None if there will be none."""
    if not (first := pipe.read(_REQUEST.size)):
        return None
    header, target, start, stop, count = _REQUEST.unpack(first)
    versions = struct.unpack(f"<{count}I", read_exactly(pipe, 4 * count))
    return Work(header, int.from_bytes(target, "little"), versions), range(start, stop)


def write_hits(pipe: BinaryIO, hits: list[Hit]) -> None:
    """Answer a scan."""
    pipe.write(_COUNT.pack(len(hits)))
    pipe.write(b"".join(_HIT.pack(*hit) for hit in hits))
    pipe.flush()


def read_hits(pipe: BinaryIO) -> list[Hit]:
    """The answer to a scan. EOFError if the worker died over it."""
    (count,) = _COUNT.unpack(read_exactly(pipe, _COUNT.size))
    return [Hit(*pair) for pair in _HIT.iter_unpack(read_exactly(pipe, _HIT.size * count))]


def read_exactly(pipe: BinaryIO, size: int) -> bytes:
    """`size` bytes; EOFError if the pipe ends before."""
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError(f"the pipe ended after {len(data)} of {size} bytes")
    return data


def main() -> None:
    """Serve scans until the input ends. SIGINT is the parent's business, see `multiprocess`."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a stray print must not be taken for an answer
    backend = PythonBackend()
    try:
        answers.write(HELLO)
        answers.flush()
        while request := read_request(requests):
            write_hits(answers, backend.scan(*request))
    except (BrokenPipeError, EOFError):  # the parent is gone
        os._exit(0)
