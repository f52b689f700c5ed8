"""The rounds of one lane's hashes: thirty `sha256rnds2` on words that a schedule has left in memory."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from llvmlite import ir

from kernels.lane_schedule import PAIR, Pair, pair_offset, slot_offset
from kernels.llvm import I1, I32, I64, WORD, Code, IrWord, Lanes, constant, intrinsic, load, number, store
from kernels.search import first_schedule, second_schedule
from kernels.sha256 import H0, rounds

FOUR, TWO, REGISTER = ir.VectorType(I32, 4), ir.VectorType(I64, 2), 16
"""An SSE register as words, as pairs, and its bytes."""

CDGH, ABEF = (7, 6, 3, 2), (5, 4, 1, 0)
"""Which working variables the two registers hold, lowest word first: Intel's order, read from the right."""

STEPS = 30
"""Steps of two rounds that each hash needs."""

UNIFORM_STEPS = 7
"""Steps of the first hash whose words do not depend on the nonce: t = 4 ... 17."""


@cache
def first_pairs() -> list[Pair]:
    """The words W_t + K_t of the first hash's steps."""
    outputs = first_schedule().outputs
    return list(zip(outputs[::2], outputs[1::2], strict=True))


@cache
def second_pairs() -> list[Pair]:
    """The words W_t + K_t of the second hash's steps; before that of t = 1 there is W_0."""
    outputs = second_schedule().outputs[1:]
    return list(zip(outputs[::2], outputs[1::2], strict=True))


def is_constant(pair: Pair) -> bool:
    """Whether its words are padding."""
    return not any(node.varying for node in pair)


@dataclass(frozen=True)
class Buffers:
    """One set of buffers: byte offsets of what its stages hand on."""

    lanes: Lanes

    nonces = 0
    """One vector."""

    @cached_property
    def first_rows(self) -> int:
        """A row of pairs for each step of the first hash that is not uniform."""
        return self.nonces + self.lanes.bytes

    @cached_property
    def states(self) -> int:
        """Eight vectors: the registers after the first hash, ABEF of all lanes, then CDGH."""
        return self.first_rows + self.row * (STEPS - UNIFORM_STEPS)

    @cached_property
    def w0(self) -> int:
        """One vector: W_0 of the second hash."""
        return self.states + 8 * self.lanes.bytes

    @cached_property
    def second_rows(self) -> int:
        """A row for each step of the second hash; those of constants stay empty."""
        return self.w0 + self.lanes.bytes

    @cached_property
    def ends(self) -> int:
        """Two vectors: of each lane the words f and e at the end."""
        return self.second_rows + self.row * STEPS

    @property
    def row(self) -> int:
        """Bytes of a row: a pair for each lane."""
        return PAIR * self.lanes.count

    @cached_property
    def size(self) -> int:
        """Bytes of the whole set, a number of cache lines."""
        return -(-(self.ends + 2 * self.lanes.bytes) // 64) * 64


@dataclass(frozen=True)
class Pointers:
    """What the rounds of one pass read and write."""

    shared: ir.Value
    """The shared words."""
    row: ir.Value
    """The words of the first hash's version."""
    first: ir.Value
    """The set of buffers with the first hash's nonces and rows."""
    states: ir.Value
    """The set for its states."""
    second: ir.Value
    """The set of the second hash."""


class FirstHash:
    """The first hash of one lane on its way through its steps."""

    def __init__(self, code: Code, buffers: Buffers, at: Pointers, lane: int) -> None:
        self.builder = code.builder
        self.buffers = buffers
        self.at = at
        self.lane = lane
        self.lanes = code.lanes.count
        self.cdgh: Any = None
        self.abef: Any = None

    def begin(self) -> None:
        """The host's state, and the nonce."""
        cdgh, abef = (load(self.builder, self.at.row, offset, FOUR) for offset in (0, REGISTER))
        self._begin(cdgh, abef, self.at.first, self.buffers.nonces)

    def _begin(self, cdgh: ir.Value, abef: ir.Value, base: ir.Value, offset: int) -> None:
        """A state to whose a and e this lane's word of a vector is still to be added."""
        four = Code(self.builder, Lanes(4))
        word = load(self.builder, base, offset + WORD * self.lane, I32)
        added = (IrWord(four, abef) + four.broadcast(word)).value
        self.abef = self.builder.select(constant([0, 1, 0, 1], I1), added, abef)  # f, e, b, a
        self.cdgh = cdgh

    def step(self, i: int) -> None:
        """Two rounds: what was a, b, e, f becomes c, d, g, h."""
        after = intrinsic(self.builder, "llvm.x86.sha256rnds2", [self.cdgh, self.abef, self.pair(i)])
        self.cdgh, self.abef = self.abef, after

    def pair(self, i: int) -> Any:
        """The words of a step, in the lower half of a register."""
        if i < UNIFORM_STEPS:
            return self._read(self.at.shared, PAIR * i)
        return self._read_row(self.at.first, self.buffers.first_rows, i - UNIFORM_STEPS)

    def _read_row(self, base: ir.Value, rows: int, row: int) -> Any:
        return self._read(base, rows + self.buffers.row * row + pair_offset(self.lanes, self.lane))

    def _read(self, base: ir.Value, offset: int) -> Any:
        both = load(self.builder, base, offset, I64)
        half = self.builder.insert_element(ir.Constant(TWO, ir.Undefined), both, number(0, I32))
        return self.builder.bitcast(half, FOUR)

    def finish(self) -> None:
        """Keep the state for the second schedule."""
        slot = self.buffers.states + slot_offset(self.lanes, self.lane)
        store(self.builder, self.abef, self.at.states, slot, REGISTER)
        store(self.builder, self.cdgh, self.at.states, slot + REGISTER * self.lanes, REGISTER)


class SecondHash(FirstHash):
    """The second hash of one lane."""

    def begin(self) -> None:
        """The constant initial state after round 0, and W_0."""
        state = rounds(H0, [0])
        cdgh, abef = (constant(state[i] for i in order) for order in (CDGH, ABEF))
        self._begin(cdgh, abef, self.at.second, self.buffers.w0)

    def pair(self, i: int) -> Any:
        """The words of a step, in the lower half of a register."""
        pair = second_pairs()[i]
        if is_constant(pair):
            return constant([*(node.value for node in pair), 0, 0])
        return self._read_row(self.at.second, self.buffers.second_rows, i)

    def finish(self) -> None:
        """Keep f and e."""
        ends = self.builder.extract_element(self.builder.bitcast(self.abef, TWO), number(0, I32))
        store(self.builder, ends, self.at.second, self.buffers.ends + PAIR * self.lane, PAIR)
