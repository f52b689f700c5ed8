"""The search with the rounds in hardware: `sha256rnds2` for them, vectors for the message schedules.

The SHA extensions of x86 do two rounds per instruction, a nonce at a time, one instruction per cycle. Their
schedule instructions are slow; but a schedule, once traced (`kernels.search.first_schedule`), is vector code that
runs on the *other* execution units. So each nonce's rounds read W_t + K_t from memory, where vector code has put
it for several nonces at once, and both kinds of instruction are woven into one stream:

    first schedule    nonce -> W_t + K_t, t = 4 ... 63, shared by all versions       vectors
    first rounds      4 ... 63 of the first hash, from the host's state after 0-3    sha256rnds2
    second schedule   that state -> W_t + K_t, t = 1 ... 60                          vectors
    second rounds     1 ... 60 of the second hash: e is then the top word            sha256rnds2

Rounds 3 and 0 need no instruction: with a constant state, a and e after them are a constant plus the nonce, plus
W_0. So both hashes have thirty `sha256rnds2`, sixty in all, and sixty cycles per hash are the bound.

An *item* is a block of nonces with one version. The stages of one pass of the loop belong to different items,
each a pass later than the stage before it: none waits for another, and a buffer is read a pass after it is
written. Two sets of buffers take turns.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

from llvmlite import ir

from kernels.llvm import (
    BYTES,
    I1,
    I32,
    I64,
    SCAN,
    WORD,
    Code,
    IrWord,
    Lanes,
    candidate_lanes,
    constant,
    intrinsic,
    load,
    nonces,
    number,
    record,
    store,
)
from kernels.program import Node, Op, Program
from kernels.search import first_schedule, given, second_schedule
from kernels.sha256 import H0, rounds, words

V4, V2, V4_BYTES = ir.VectorType(I32, 4), ir.VectorType(I64, 2), 16

STRETCH = 16
"""Woven steps that LLVM may rearrange among themselves."""

PAIR = 8
"""Bytes of the two words W_t + K_t that one `sha256rnds2` reads."""

FIRST_PAIRS = range(4, 64, 2)
SECOND_PAIRS = range(1, 61, 2)
"""The first round of each pair of rounds, in the first and in the second hash."""

UNIFORM_PAIRS = range(4, 18, 2)
"""The pairs of the first hash that do not depend on the nonce: padding, W_16 and W_17."""

# Intel's order of the working variables in the two registers, lowest word first.
CDGH, ABEF = (7, 6, 3, 2), (5, 4, 1, 0)


@dataclass(frozen=True)
class Layout:
    """Where a block of nonces keeps what its stages hand on; offsets in bytes, from the start of a set."""

    lanes: int

    @property
    def vector(self) -> int:
        return WORD * self.lanes

    @property
    def nonces(self) -> int:
        """One vector."""
        return 0

    @property
    def first_pairs(self) -> int:
        """A row of pairs, two vectors, for each two rounds that are not uniform."""
        return self.nonces + self.vector

    @property
    def states(self) -> int:
        """The working variables after the first hash: eight vectors, see `slot`."""
        return self.first_pairs + 2 * self.vector * (len(FIRST_PAIRS) - len(UNIFORM_PAIRS))

    @property
    def w0(self) -> int:
        """One vector: W_0 of the second hash."""
        return self.states + 8 * self.vector

    @property
    def second_pairs(self) -> int:
        """As `first_pairs`; the rows of constant pairs stay empty."""
        return self.w0 + self.vector

    @property
    def tops(self) -> int:
        """Two vectors: for each lane the words f and e at the end."""
        return self.second_pairs + 2 * self.vector * len(SECOND_PAIRS)

    @property
    def set_bytes(self) -> int:
        """Bytes of one set of buffers, whole cache lines."""
        return -(-(self.tops + 2 * self.vector) // 64) * 64

    def pair(self, row: int, lane: int) -> int:
        """Offset of a lane's pair in rows of pairs: as the unpack instructions leave it."""
        quarter, place = divmod(lane, 4)
        return 2 * self.vector * row + self.vector * (place >> 1) + PAIR * (2 * quarter + (place & 1))

    def slot(self, lane: int) -> int:
        """Offset of a lane's register in four vectors: lane 4q + i in quarter q of vector i, to be transposed."""
        quarter, place = divmod(lane, 4)
        return self.vector * place + 16 * quarter


class ShaForm:
    """The search with SHA instructions. `single`: for one version; the first schedule is woven in, too."""

    def __init__(self, lanes: Lanes, groups: Sequence[int], single: bool = False) -> None:
        self.lanes = lanes
        self.groups = groups
        """How many hashes run side by side, in turn: each waits four cycles for its own last result."""
        self.single = single
        self.layout = Layout(lanes.count)
        assert sum(groups) == 2 * lanes.count

    @property
    def nonces_per_block(self) -> int:
        """Nonces in a block: `scan` counts in these."""
        return self.lanes.count

    @property
    def scratch_bytes(self) -> int:
        """Two sets of buffers, and one more for what versions share."""
        return 3 * self.layout.set_bytes

    def shared_words(self, tail: bytes) -> list[int]:
        """The uniform pairs, then the words of the first schedule's prologue."""
        program = first_schedule()
        uniforms, _ = program.prologue(given([], tail))
        known = dict(zip(program.uniforms, uniforms, strict=True))
        outputs = islice(program.outputs, 2 * len(UNIFORM_PAIRS))
        return [known.get(node, node.value) for node in outputs] + uniforms

    def version_words(self, midstate: Sequence[int], tail: bytes) -> list[int]:
        """The state after round 3 for nonce zero, in the order of the registers; the second prologue's words."""
        state = rounds(midstate, (*words(tail), 0))
        _, (known,) = second_schedule().prologue(given([midstate], b""))
        return [state[i] for i in CDGH + ABEF] + known

    def module(self) -> ir.Module:
        """A module with the function `scan`."""
        module = ir.Module()
        _ShaScan(self, ir.Function(module, SCAN, "scan")).build()
        return module


Step: TypeAlias = Callable[[], None]


def weave(*streams: Sequence[Step]) -> list[Step]:
    """The steps of all streams: each stream in order, and spread evenly over the whole."""
    places = [(i / len(stream), step) for stream in streams for i, step in enumerate(stream)]
    return [step for _, step in sorted(places, key=lambda place: place[0])]


class _Hash:
    """One hash of one lane on its way through sixty rounds, two at a step."""

    def __init__(self, builder: ir.IRBuilder, layout: Layout, lane: int) -> None:
        self.builder = builder
        self.layout = layout
        self.lane = lane
        self.cdgh: Any = None
        self.abef: Any = None

    def begin(self) -> None:
        """Load the state."""
        raise NotImplementedError

    def pair(self, row: int) -> Any:
        """The two words W_t + K_t of a step, in the lower half of a register."""
        raise NotImplementedError

    def finish(self) -> None:
        """Store the state."""
        raise NotImplementedError

    def _begin(self, cdgh: ir.Value, abef: ir.Value, addends: ir.Value) -> None:
        """From a state to whose a and e this lane's word of `addends` is still to be added."""
        four = Code(self.builder, Lanes(4))
        word = load(self.builder, addends, WORD * self.lane, I32)
        added = (IrWord(four, abef) + four.broadcast(word)).value
        self.abef = self.builder.select(constant([0, 1, 0, 1], I1), added, abef)  # f, e, b, a
        self.cdgh = cdgh

    def step(self, row: int) -> None:
        """Two rounds: what was a, b, e, f becomes c, d, g, h."""
        after = intrinsic(self.builder, "llvm.x86.sha256rnds2", [self.cdgh, self.abef, self.pair(row)])
        self.cdgh, self.abef = self.abef, after

    def _read(self, base: ir.Value, offset: int) -> Any:
        both = load(self.builder, base, offset, I64)
        half = self.builder.insert_element(ir.Constant(V2, ir.Undefined), both, number(0, I32))
        return self.builder.bitcast(half, V4)


@dataclass
class _Places:
    """Where the stages of one pass read and write."""

    words: ir.Value
    row: ir.Value
    """The words of the first rounds' version."""
    first: ir.Value
    """The set with the nonces and the first schedule that the first rounds read."""
    states: ir.Value
    """The set into which they write."""
    second: ir.Value
    """The set that the second rounds read."""


class _FirstHash(_Hash):
    def __init__(self, builder: ir.IRBuilder, layout: Layout, lane: int, places: _Places) -> None:
        super().__init__(builder, layout, lane)
        self.places = places

    def begin(self) -> None:
        cdgh, abef = (load(self.builder, self.places.row, offset, V4) for offset in (0, V4_BYTES))
        self._begin(cdgh, abef, self.builder.gep(self.places.first, [number(self.layout.nonces)]))

    def pair(self, row: int) -> Any:
        if row < len(UNIFORM_PAIRS):
            return self._read(self.places.words, PAIR * row)
        row -= len(UNIFORM_PAIRS)
        return self._read(self.places.first, self.layout.first_pairs + self.layout.pair(row, self.lane))

    def finish(self) -> None:
        slot = self.layout.states + self.layout.slot(self.lane)
        store(self.builder, self.abef, self.places.states, slot, V4_BYTES)
        store(self.builder, self.cdgh, self.places.states, slot + 4 * self.layout.vector, V4_BYTES)


class _SecondHash(_FirstHash):
    def begin(self) -> None:
        state = rounds(H0, [0])
        cdgh, abef = (constant(state[i] for i in order) for order in (CDGH, ABEF))
        self._begin(cdgh, abef, self.builder.gep(self.places.second, [number(self.layout.w0)]))

    def pair(self, row: int) -> Any:
        pair = second_pair(row)
        if not any(node.varying for node in pair):
            return constant([*(node.value for node in pair), 0, 0])
        return self._read(self.places.second, self.layout.second_pairs + self.layout.pair(row, self.lane))

    def finish(self) -> None:
        halves = self.builder.bitcast(self.abef, V2)
        low = self.builder.extract_element(halves, number(0, I32))  # f and e
        store(self.builder, low, self.places.second, self.layout.tops + PAIR * self.lane, PAIR)


def first_pair(row: int) -> tuple[Node, Node]:
    """The words W_t + K_t of a step of the first hash."""
    x, y = first_schedule().outputs[2 * row : 2 * row + 2]
    return x, y


def second_pair(row: int) -> tuple[Node, Node]:
    """The words W_t + K_t of a step of the second hash, before whose t = 1 there is W_0."""
    x, y = second_schedule().outputs[2 * row + 1 : 2 * row + 3]
    return x, y


class _Schedule:
    """A schedule as steps: each lowers one operation, or stores a pair of rows that is complete."""

    def __init__(self, code: Code, layout: Layout, pairs: Sequence[tuple[Node, Node]], offset: int) -> None:
        self.code = code
        self.layout = layout
        self.rows = {
            pair: offset + 2 * layout.vector * row
            for row, pair in enumerate(pairs)
            if any(node.varying for node in pair)
        }
        self.values: dict[Node, IrWord] = {}

    def uniforms(self, nodes: Sequence[Node], base: ir.Value) -> None:
        """Take prologue words from memory."""
        for i, node in enumerate(nodes):
            self.values[node] = self.code.broadcast(load(self.code.builder, base, WORD * i, I32))

    def steps(self, body: Sequence[Node], target: ir.Value) -> Iterator[Step]:
        """All of it, writing rows into the set at `target`."""
        waiting = {node: pair for pair in self.rows for node in pair if node.varying}
        left = {pair: sum(node.varying for node in pair) for pair in self.rows}
        for node in body:
            yield partial(self._lower, node)
            if node in waiting:
                pair = waiting[node]
                left[pair] -= 1
                if not left[pair]:
                    yield partial(self._store, pair, target)

    def value(self, node: Node) -> IrWord:
        """A word that has been made, or a constant."""
        return self.values[node] if node in self.values else self.code.splat(node.value)

    def _lower(self, node: Node) -> None:
        self.values[node] = self.code.lower(node, [self.value(arg) for arg in node.args])

    def _store(self, pair: tuple[Node, Node], target: ir.Value) -> None:
        x, y = (self.value(node).value for node in pair)
        for half in (0, 1):
            row = self.code.builder.shuffle_vector(x, y, unpack(self.code.lanes.count, 1, half))
            offset = self.rows[pair] + half * self.layout.vector
            store(self.code.builder, row, target, offset, self.layout.vector)


def unpack(lanes: int, words: int, half: int) -> ir.Constant:
    """The shuffle that `vpunpck` does: in each quarter, the low or high groups of words of two vectors, in turn."""
    groups = 4 // words // 2
    return constant(
        source * lanes + 4 * quarter + (half * groups + group) * words + word
        for quarter in range(lanes // 4)
        for group in range(groups)
        for source in (0, 1)
        for word in range(words)
    )


def transpose(code: Code, vectors: Sequence[ir.Value]) -> list[ir.Value]:
    """Four vectors whose quarter q holds words 0 ... 3 of some lane: word 0 of all lanes, word 1, ..."""
    shuffle, lanes = code.builder.shuffle_vector, code.lanes.count
    a, b, c, d = vectors
    pairs = [(shuffle(a, b, unpack(lanes, 1, h)), shuffle(c, d, unpack(lanes, 1, h))) for h in (0, 1)]
    return [shuffle(x, y, unpack(lanes, 2, half)) for x, y in pairs for half in (0, 1)]


class _ShaScan:
    """The loop. A stage of delay d works on item `turn` - d, in the set of buffers of that item's parity."""

    def __init__(self, form: ShaForm, function: ir.Function) -> None:
        self.form = form
        self.layout = form.layout
        self.args = function.args
        names = ("entry", "turn", "schedule", "body", "end")
        self.entry, self.head, self.schedule, self.body, self.end = map(function.append_basic_block, names)
        self.builder = ir.IRBuilder(self.entry)
        self.code = Code(self.builder, form.lanes)
        # A boundary for LLVM's schedulers that is no instruction: they would undo the weaving.
        kind = ir.FunctionType(ir.VoidType(), [ir.MetaDataType()])
        self.boundary = ir.Function(function.module, kind, "llvm.codeview.annotation")
        self.boundary_name = function.module.add_metadata(["woven"])

    def build(self) -> None:
        start, blocks, versions, mask, words, scratch, entries = self.args
        builder, single, zero, one = self.builder, self.form.single, number(0), number(1)
        depth = 3 if single else 2  # the delay of the second rounds
        items = builder.mul(blocks, versions)
        builder.cbranch(builder.icmp_unsigned(">", items, zero), self.head, self.end)

        builder.position_at_end(self.head)
        turn, version, version_before, count = (builder.phi(I64) for _ in range(4))
        nonce = builder.phi(I32)
        sets = [self._set(scratch, turn, parity) for parity in (0, 1)]
        new_block = builder.icmp_unsigned("==", version, zero)
        builder.cbranch(new_block, self.schedule, self.body)
        builder.position_at_end(self.schedule)
        for step in () if single else self._first_schedule(nonce, words, self._first_set(scratch)):
            step()
        builder.branch(self.body)

        builder.position_at_end(self.body)
        delay = 1 if single else 0  # of the first rounds
        first = sets[delay] if single else self._first_set(scratch)
        places = _Places(words, self._row(words, version), first, sets[delay], sets[depth % 2])
        before = sets[(delay + 1) % 2]
        streams = [
            list(self._rounds(places)),
            list(self._second_schedule(self._row(words, version_before), before)),
        ]
        if single:
            streams.append(list(self._first_schedule(nonce, words, sets[0])))
        for i, step in enumerate(weave(*streams)):
            if i % STRETCH == 0:
                builder.call(self.boundary, [self.boundary_name])
            step()

        item = builder.sub(turn, number(depth))
        lanes = candidate_lanes(self.code, self._tops(places.second), mask)
        real = builder.select(builder.icmp_signed(">=", item, zero), lanes, zero)
        count_next = record(builder, entries, count, item, real)
        turn_next, version_next = builder.add(turn, one), builder.add(version, one)
        wrapped = builder.icmp_unsigned("==", version_next, versions)
        version_next = builder.select(wrapped, zero, version_next)
        step_size = builder.select(wrapped, number(self.form.nonces_per_block, I32), number(0, I32))
        nonce_next = builder.add(nonce, step_size)
        more = builder.icmp_unsigned("<", turn_next, builder.add(items, number(depth)))
        builder.cbranch(more, self.head, self.end)
        loop = ((turn, zero, turn_next), (version, zero, version_next), (version_before, zero, version),
                (count, zero, count_next), (nonce, start, nonce_next))
        for phi, initial, after in loop:
            phi.add_incoming(initial, self.entry)
            phi.add_incoming(after, self.body)

        builder.position_at_end(self.end)
        found = builder.phi(I64)
        found.add_incoming(zero, self.entry)
        found.add_incoming(count_next, self.body)
        builder.ret(found)

    def _set(self, scratch: ir.Value, turn: ir.Value, parity: int) -> Any:
        """The set of the items whose number differs from `turn` by an even (0) or odd (1) number."""
        index = self.builder.and_(self.builder.add(turn, number(parity)), number(1))
        return self.builder.gep(scratch, [self.builder.mul(index, number(self.layout.set_bytes))])

    def _first_set(self, scratch: ir.Value) -> Any:
        """Where all versions read the first schedule: a third set."""
        return self.builder.gep(scratch, [number(2 * self.layout.set_bytes)])

    def _row(self, words: ir.Value, version: ir.Value) -> Any:
        row_bytes = WORD * (len(CDGH + ABEF) + len(second_schedule().per_version[0]))
        shared = WORD * (2 * len(UNIFORM_PAIRS) + len(first_schedule().uniforms))
        offset = self.builder.add(self.builder.mul(version, number(row_bytes)), number(shared))
        return self.builder.gep(words, [offset])

    def _rounds(self, places: _Places) -> Iterator[Step]:
        hashes = [
            kind(self.builder, self.layout, lane, places)
            for kind in (_FirstHash, _SecondHash)
            for lane in range(self.form.lanes.count)
        ]
        waiting = iter(hashes)
        for size in self.form.groups:
            group = list(islice(waiting, size))
            yield from (one.begin for one in group)
            for row in range(len(FIRST_PAIRS)):
                yield from (partial(one.step, row) for one in group)
            yield from (one.finish for one in group)

    def _first_schedule(self, nonce: ir.Value, words: ir.Value, target: ir.Value) -> Iterator[Step]:
        program, uniform = first_schedule(), len(UNIFORM_PAIRS)
        pairs = [first_pair(row) for row in range(uniform, len(FIRST_PAIRS))]
        schedule = _Schedule(self.code, self.layout, pairs, self.layout.first_pairs)

        def begin() -> None:
            counted = nonces(self.code, nonce)
            store(self.builder, counted.value, target, self.layout.nonces, self.layout.vector)
            schedule.values[program.varying[0]] = counted
            schedule.uniforms(program.uniforms, self.builder.gep(words, [number(WORD * 2 * uniform)]))

        yield begin
        yield from schedule.steps(program.body, target)

    def _second_schedule(self, row: ir.Value, target: ir.Value) -> Iterator[Step]:
        program = second_schedule()
        pairs = [second_pair(row) for row in range(len(SECOND_PAIRS))]
        schedule = _Schedule(self.code, self.layout, pairs, self.layout.second_pairs)

        def begin() -> None:
            schedule.uniforms(program.per_version[0], self.builder.gep(row, [number(WORD * len(CDGH + ABEF))]))
            inputs = {node.name: node for node in program.varying}
            for register, order in enumerate((ABEF, CDGH)):
                offset = self.layout.states + 4 * self.layout.vector * register
                vectors = [
                    load(self.builder, target, offset + self.layout.vector * i, self.code.lanes.type, self.layout.vector)
                    for i in range(4)
                ]
                for place, vector in zip(order, transpose(self.code, vectors), strict=True):
                    schedule.values[inputs[f"v_{place}"]] = IrWord(self.code, vector)

        def keep_w0() -> None:
            w0 = schedule.values[program.outputs[0]].value
            store(self.builder, w0, target, self.layout.w0, self.layout.vector)

        yield begin
        yield from schedule.steps(program.body, target)
        yield keep_w0

    def _tops(self, place: ir.Value) -> IrWord:
        """The last digest word of each lane: e and the constant that 6.2.2, step 4 adds to it."""
        low, high = (
            load(self.builder, place, self.layout.tops + half * self.layout.vector, self.code.lanes.type, PAIR)
            for half in (0, 1)
        )
        e = self.builder.shuffle_vector(low, high, constant(range(1, 2 * self.form.lanes.count, 2)))
        return IrWord(self.code, e) + H0[7]
