"""The nonce search: SHA-256(SHA-256(header)) of all but the nonce, as a `Program`.

A header is 80 bytes, so two blocks: bytes 0-63, which the host compresses to a *midstate* for each
version, and a second one with the *tail* (bytes 64-75), the nonce and padding. The second hash takes the 32
bytes of the first. The answer is the last word of the second digest: a hash is compared with a target as a
little-endian number, so its top 32 bits are that word with its bytes reversed.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice

from kernels.program import Program
from kernels.sha256 import H0, K, add, compress, padding, schedule, words
from kernels.trace import Tracer

VERSIONS = (1, 2, 4, 8)
"""How many sibling versions a search may have."""

HEADER_BYTES, DIGEST_BYTES = 80, 32


@cache
def search(versions: int = 1) -> Program:
    """The program that maps a nonce to the last word of each version's hash.

    Its varying input is `nonce`: word 3 of the second block, the header's last four bytes read *big-endian*.
    Its prologue is given `tail_0` ... `tail_2` and `midstate_0_v0` ...; `given` makes them.
    Its outputs are uint32, one per version: the last word of the digest. The hash, as a number, is below
    2**224 if it is zero; its 32 most significant bits are this word with its bytes reversed.
    """
    if versions not in VERSIONS:
        raise ValueError(f"{versions} versions: a search has one of {VERSIONS}")
    tracer = Tracer()
    nonce = tracer.input("nonce", varying=True)
    tail = [tracer.input(f"tail_{i}") for i in range(3)]
    first_block = (*tail, nonce, *words(padding(HEADER_BYTES)))
    tops = []
    for v in range(versions):
        midstate = [tracer.input(f"midstate_{i}_v{v}", version=v) for i in range(8)]
        digest = compress(midstate, first_block, tracer.note("h1", v))
        for i, word in enumerate(digest):
            tracer.name(word, f"h2_W_{i}", v)
        second_block = (*digest, *words(padding(DIGEST_BYTES)))
        tops.append(compress(H0, second_block, tracer.note("h2", v))[7])
        tracer.name(tops[-1], "top", v)
    return tracer.program(tops)


def given(midstates: Sequence[Sequence[int]], tail: bytes) -> Mapping[str, int]:
    """The prologue's inputs: one midstate of eight uint32 per version, and header bytes 64-75."""
    named = {f"tail_{i}": word for i, word in enumerate(words(tail))}
    for v, midstate in enumerate(midstates):
        named |= {f"midstate_{i}_v{v}": word for i, word in enumerate(midstate)}
    return named


@cache
def first_schedule() -> Program:
    """The words of the first hash as its rounds read them, for CPUs that have the rounds in hardware.

    From the `nonce` (as in `search`) to W_t + K_t, t = 4 ... 63, uint32; given `tail_0` ... `tail_2`.
    """
    tracer = Tracer()
    nonce = tracer.input("nonce", varying=True)
    tail = [tracer.input(f"tail_{i}") for i in range(3)]
    W = list(schedule((*tail, nonce, *words(padding(HEADER_BYTES))), tracer.note("h1", 0)))
    return tracer.program([add(W[t], K[t]) for t in range(4, 64)])


@cache
def second_schedule() -> Program:
    """The words of the second hash, as `first_schedule`.

    From the working variables `v_0` ... `v_7` at the end of the first hash to W_0 and then W_t + K_t,
    t = 1 ... 60, uint32; given `midstate_0_v0` ... `midstate_7_v0`.
    """
    tracer = Tracer()
    v = [tracer.input(f"v_{i}", varying=True) for i in range(8)]
    midstate = [tracer.input(f"midstate_{i}_v0", version=0) for i in range(8)]
    digest = [add(x, H) for x, H in zip(v, midstate, strict=True)]
    W = list(islice(schedule((*digest, *words(padding(DIGEST_BYTES))), tracer.note("h2", 0)), 61))
    return tracer.program([W[0], *(add(W[t], K[t]) for t in range(1, 61))])
