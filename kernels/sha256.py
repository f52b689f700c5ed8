"""SHA-256 as FIPS 180-4 states it, over any 32-bit word.

The same lines run on three kinds of word:

* a Python int in `range(2**32)`: one hash, for hosts and midstates;
* a NumPy `uint32` array of one dimension or more: many hashes at once;
* a `kernels.trace.Word`: nothing is hashed, what is done to the word is recorded.

A word needs `+ ^ & | ~ << >>`. Arrays and traced words wrap at 32 bits by themselves; ints do not, so
the two operations that can carry out of a word (`add` and the left shift in `rotr`) cut ints back.

Source: FIPS PUB 180-4, Secure Hash Standard (2015); section numbers below are its own.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from math import isqrt
from typing import Any, TypeAlias

Word: TypeAlias = Any
"""A Python int below 2**32, a NumPy `uint32` array or a `kernels.trace.Word`; constants are always ints."""

Note: TypeAlias = Callable[[int, Mapping[str, Word]], None]
"""Called as `note(t, words)` with the named intermediate words of step t: to print them, or to name them."""

MASK = 0xFFFFFFFF


def _primes() -> Iterator[int]:
    return (n for n in count(2) if all(n % p for p in range(2, isqrt(n) + 1)))


def _cube_root(n: int) -> int:
    """The greatest integer whose cube is at most n."""
    root: int = round(n ** (1 / 3))  # a float is exact to 53 bits, the root has at most 36
    return root - (root**3 > n) + ((root + 1) ** 3 <= n)


K = tuple(_cube_root(p << 96) & MASK for p in islice(_primes(), 64))
"""4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64 primes."""

H0 = tuple(isqrt(p << 64) & MASK for p in islice(_primes(), 8))
"""5.3.3: the first 32 bits of the fractional parts of the square roots of the first 8 primes."""


def add(*terms: Word) -> Word:
    """3.2: addition modulo 2**32."""
    total, *rest = terms
    for term in rest:
        total = total + term
        if isinstance(total, int):
            total &= MASK
    return total


def shr(x: Word, n: int) -> Word:
    """3.2: the right shift SHR^n(x)."""
    return x >> n


def rotr(x: Word, n: int) -> Word:
    """3.2: the right rotation ROTR^n(x), 0 < n < 32."""
    turned = x >> n | x << 32 - n
    return turned & MASK if isinstance(turned, int) else turned


def Ch(x: Word, y: Word, z: Word) -> Word:
    """4.1.2 (4.2): x chooses between y and z."""
    return (x & y) ^ (~x & z)


def Maj(x: Word, y: Word, z: Word) -> Word:
    """4.1.2 (4.3): the majority of three."""
    return (x & y) ^ (x & z) ^ (y & z)


def Sigma0(x: Word) -> Word:
    """4.1.2 (4.4)."""
    return rotr(x, 2) ^ rotr(x, 13) ^ rotr(x, 22)


def Sigma1(x: Word) -> Word:
    """4.1.2 (4.5)."""
    return rotr(x, 6) ^ rotr(x, 11) ^ rotr(x, 25)


def sigma0(x: Word) -> Word:
    """4.1.2 (4.6)."""
    return rotr(x, 7) ^ rotr(x, 18) ^ shr(x, 3)


def sigma1(x: Word) -> Word:
    """4.1.2 (4.7)."""
    return rotr(x, 17) ^ rotr(x, 19) ^ shr(x, 10)


def padding(length: int) -> bytes:
    """5.1.1: what follows a message of `length` bytes: a one bit, zeros, the bit length in 64 bits."""
    return b"\x80" + bytes((55 - length) % 64) + (8 * length).to_bytes(8, "big")


def words(data: bytes) -> tuple[int, ...]:
    """3.1: the big-endian 32-bit words of data, whose length is a multiple of four."""
    return tuple(int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4))


def schedule(block: Iterable[Word], note: Note | None = None) -> Iterator[Word]:
    """6.2.2, step 1: the message schedule W_0 ... W_63 of 16 words, each made when it is asked for."""
    window = deque(block, maxlen=16)  # W_{t-16} ... W_{t-1}
    yield from tuple(window)
    for t in range(16, 64):
        s1, s0 = sigma1(window[-2]), sigma0(window[-15])
        W = add(window[-16], s0, window[-7], s1)
        if note:
            note(t, {"sigma1": s1, "sigma0": s0, "W": W})
        window.append(W)
        yield W


def rounds(
    state: Sequence[Word], W: Iterable[Word], note: Note | None = None, first: int = 0
) -> tuple[Word, ...]:
    """6.2.2, steps 2 and 3: the working variables a ... h after one round for each word of W."""
    a, b, c, d, e, f, g, h = state
    for t, W_t in enumerate(W, first):
        S1, ch, S0, maj = Sigma1(e), Ch(e, f, g), Sigma0(a), Maj(a, b, c)
        T1 = add(W_t, K[t], h, ch, S1)
        T2 = add(maj, S0)
        h, g, f, e = g, f, e, add(d, T1)
        d, c, b, a = c, b, a, add(T1, T2)
        if note:
            note(t, {"Sigma1": S1, "Ch": ch, "Sigma0": S0, "Maj": maj, "T1": T1, "T2": T2, "e": e, "a": a})
    return a, b, c, d, e, f, g, h


def compress(state: Sequence[Word], block: Sequence[Word], note: Note | None = None) -> tuple[Word, ...]:
    """6.2.2: the next intermediate hash value, eight words, from the last one and a block of sixteen."""
    # 6.2.2, step 4: H(i) = working variables + H(i-1).
    return tuple(add(v, H) for v, H in zip(rounds(state, schedule(block, note), note), state, strict=True))


def sha256(message: bytes) -> bytes:
    """6.2: the digest, 32 bytes."""
    M, state = words(message + padding(len(message))), H0
    for i in range(0, len(M), 16):
        state = compress(state, M[i : i + 16])
    return b"".join(word.to_bytes(4, "big") for word in state)
