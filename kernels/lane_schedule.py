"""A message schedule in lanes, its words laid out for SHA instructions, which take them lane by lane.

`sha256rnds2` reads two words, W_t + K_t and W_t+1 + K_t+1, from 64 bits: a *pair*. A schedule is vector code,
a word of many lanes at a time, so two words that make pairs are interleaved before they are stored: a *row*
of pairs, two vectors long.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

from llvmlite import ir

from kernels.llvm import Code, IrWord, constant, store
from kernels.program import Node

PAIR = 8
"""Bytes of a pair."""

Pair: TypeAlias = tuple[Node, Node]
"""The two words of a pair, as a program makes them."""

Step: TypeAlias = Callable[[], None]
"""Appends a few instructions."""


def pair_offset(lanes: int, lane: int) -> int:
    """Where in a row a lane's pair is, in bytes: as the unpack instructions leave it."""
    quarter, place = divmod(lane, 4)
    return PAIR * (lanes // 2 * (place >> 1) + 2 * quarter + (place & 1))


class LaneSchedule:
    """Lowers a schedule step by step, so that other code can be woven in between."""

    def __init__(self, code: Code, rows: dict[Pair, int]) -> None:
        """`rows`: byte offsets of the rows; pairs of constants need none."""
        self.code = code
        self.rows = rows
        self.values: dict[Node, IrWord] = {}

    def steps(self, body: Sequence[Node], target: ir.Value) -> Iterator[Step]:
        """A step for each operation, and one for each row as soon as it is complete."""
        row_of = {node: pair for pair in self.rows for node in pair if node.varying}
        missing = {pair: sum(node.varying for node in pair) for pair in self.rows}
        for node in body:
            yield partial(self._lower, node)
            if node in row_of:
                missing[row_of[node]] -= 1
                if not missing[row_of[node]]:
                    yield partial(self._store, row_of[node], target)

    def _value(self, node: Node) -> IrWord:
        return self.values[node] if node in self.values else self.code.splat(node.value)

    def _lower(self, node: Node) -> None:
        self.values[node] = self.code.lower(node, [self._value(arg) for arg in node.args])

    def _store(self, pair: Pair, target: ir.Value) -> None:
        x, y = (self._value(node).value for node in pair)
        lanes = self.code.lanes
        for half in (0, 1):
            interleaved = self.code.builder.shuffle_vector(x, y, constant(unpack(lanes.count, 1, half)))
            store(self.code.builder, interleaved, target, self.rows[pair] + half * lanes.bytes, lanes.bytes)


def unpack(lanes: int, words: int, half: int) -> list[int]:
    """The shuffle of `vpunpckl` (half 0) and `vpunpckh` (half 1) for groups of 1 or 2 words.

    Of each quarter of two vectors, that half's groups, from the one and the other in turn.
    """
    groups = 4 // words // 2
    return [
        source * lanes + 4 * quarter + (half * groups + group) * words + word
        for quarter in range(lanes // 4)
        for group in range(groups)
        for source in (0, 1)
        for word in range(words)
    ]


def slot_offset(lanes: int, lane: int) -> int:
    """Where in four vectors that are to be transposed a lane keeps its four words, in bytes."""
    quarter, place = divmod(lane, 4)
    return 4 * lanes * place + 16 * quarter


def transpose(code: Code, vectors: Sequence[ir.Value]) -> list[ir.Value]:
    """From four words of each lane, side by side as `slot_offset` says: word 0 of all lanes, word 1, ..."""

    def mix(x: ir.Value, y: ir.Value, words: int, half: int) -> ir.Value:
        return code.builder.shuffle_vector(x, y, constant(unpack(code.lanes.count, words, half)))

    a, b, c, d = vectors
    halves = [(mix(a, b, 1, half), mix(c, d, 1, half)) for half in (0, 1)]
    return [mix(x, y, 2, half) for x, y in halves for half in (0, 1)]
