"""The search with its rounds in hardware: `sha256rnds2` for them, vectors for the message schedules.

The SHA extensions of x86 do two rounds per instruction, for one nonce at a time, one instruction per cycle.
Their schedule instructions are slow; but a schedule, once traced, is vector code, and vector code runs on the
*other* execution units. So the rounds of each nonce read W_t + K_t from memory, where vector code has put it
for several nonces at once, and both kinds of instruction are woven into one stream:

    first schedule    nonce -> W_t + K_t, t = 4 ... 63, shared by all versions      vectors
    first rounds      4 ... 63 of the first hash, from the host's state             sha256rnds2
    second schedule   the state after them -> W_t + K_t, t = 1 ... 60               vectors
    second rounds     1 ... 60 of the second hash: then e makes the top word        sha256rnds2

Rounds 3 and 0 need no instruction of their own: from a constant state they lead to an a and an e that are a
constant plus the nonce, or plus W_0. So both hashes have thirty `sha256rnds2`: sixty cycles per hash are the
bound, where the AVX-512 program needs ninety.

An *item* is a block of nonces with one version. The stages in one pass of the loop belong to different items,
each an item behind the stage before it, so that none waits for another: what one pass writes the next one
reads. Two sets of buffers take turns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from llvmlite import ir

from kernels.lane_rounds import (
    ABEF,
    CDGH,
    REGISTER,
    STEPS,
    UNIFORM_STEPS,
    Buffers,
    FirstHash,
    Pointers,
    SecondHash,
    first_pairs,
    is_constant,
    second_pairs,
)
from kernels.lane_schedule import PAIR, LaneSchedule, Step, transpose
from kernels.llvm import (
    I32,
    WORD,
    Code,
    IrWord,
    Lanes,
    Loop,
    constant,
    load,
    number,
    scan_builder,
    store,
)
from kernels.search import first_schedule, given, second_schedule
from kernels.sha256 import H0, rounds, words


class ShaForm:
    """`groups`: how many hashes run side by side, one group after the other, 2 * lanes in all.

    Each `sha256rnds2` waits four cycles for the one before it in its own hash, so four in turn are the
    least that keep the unit busy. With two registers each there is room for seven, and for more where
    AVX-512 has registers to which the others can move. Where a group ends the unit runs idle.
    `stretch`: woven steps that LLVM may rearrange among themselves; without a limit it is slower.
    `single`: for one version only; the first schedule is woven in, too.
    """

    def __init__(self, lanes: Lanes, groups: Sequence[int], stretch: int, single: bool = False) -> None:
        assert sum(groups) == 2 * lanes.count
        self.lanes = lanes
        self.groups = groups
        self.stretch = stretch
        self.single = single
        self.buffers = Buffers(lanes)

    @property
    def nonces_per_block(self) -> int:
        """One per lane."""
        return self.lanes.count

    def shared_words(self, tail: bytes) -> list[int]:
        """The pairs of the uniform steps, then the words of the first schedule's prologue."""
        program = first_schedule()
        uniforms, _ = program.prologue(given([], tail))
        known = dict(zip(program.uniforms, uniforms, strict=True))
        return [known.get(node, node.value) for node in program.outputs[: 2 * UNIFORM_STEPS]] + uniforms

    def version_words(self, midstate: Sequence[int], tail: bytes) -> list[int]:
        """The registers after round 3 as if the nonce were zero, then the second schedule's prologue."""
        state = rounds(midstate, (*words(tail), 0))
        _, (known,) = second_schedule().prologue(given([midstate], b""))
        return [state[i] for i in CDGH + ABEF] + known

    @property
    def shared_bytes(self) -> int:
        """Bytes of `shared_words`."""
        return PAIR * UNIFORM_STEPS + WORD * len(first_schedule().uniforms)

    @property
    def row_bytes(self) -> int:
        """Bytes of `version_words`."""
        return 2 * REGISTER + WORD * len(second_schedule().per_version[0])

    def module(self) -> ir.Module:
        """A module with the function `scan`."""
        # Two sets of buffers that take turns, and one for the first schedule that versions share.
        builder, scratch = scan_builder(3 * self.buffers.size)
        _Scan(self, builder, scratch).build()
        return builder.module


def weave(streams: Sequence[Sequence[Step]]) -> list[Step]:
    """The steps of all streams: each stream in order, and spread evenly over the whole."""
    places = [(i / len(stream), step) for stream in streams for i, step in enumerate(stream)]
    return [step for _, step in sorted(places, key=lambda place: place[0])]


class _Scan:
    """The loop. A stage of delay d works on item `turn` - d, in the set of buffers of that item's parity."""

    def __init__(self, form: ShaForm, builder: ir.IRBuilder, scratch: ir.Value) -> None:
        self.form = form
        self.buffers = form.buffers
        self.args = builder.function.args
        self.shared = self.args[4]
        self.scratch = scratch
        self.builder = builder
        self.code = Code(builder, form.lanes)
        # A limit for LLVM's schedulers that is no instruction: they would undo the weaving.
        kind = ir.FunctionType(ir.VoidType(), [ir.MetaDataType()])
        self.limit = ir.Function(builder.module, kind, "llvm.codeview.annotation")
        self.limit_name = builder.module.add_metadata(["woven"])

    def build(self) -> None:
        start, blocks, versions, mask, shared, entries = self.args
        builder, zero = self.builder, number(0)
        # Delays: of the first rounds; of the second rounds; of the result.
        first, second, last = (1, 3, 4) if self.form.single else (0, 2, 3)
        turns = builder.add(builder.mul(blocks, versions), number(last))
        rows = builder.gep(shared, [number(self.form.shared_bytes)])

        loop = Loop(builder, "turn", [zero, zero, rows, rows, start, zero])
        turn, version, row, row_before, nonce, count = loop.variables
        sets = [self._set(turn, parity) for parity in (0, 1)]
        streams = [self._second_schedule(row_before, sets[(first + 1) % 2])]
        if self.form.single:
            at = Pointers(shared, row, sets[first % 2], sets[first % 2], sets[second % 2])
            streams.append(self._first_schedule(nonce, sets[0]))
        else:
            common = builder.gep(self.scratch, [number(2 * self.buffers.size)])
            at = Pointers(shared, row, common, sets[first % 2], sets[second % 2])
            with builder.if_then(builder.icmp_unsigned("==", version, zero)):
                self._run([self._first_schedule(nonce, common)])
        self._run([self._rounds(at), *streams])

        item = builder.sub(turn, number(last))
        count = self.code.record(self._tops(sets[last % 2]), mask, entries, count, item)
        turn, version = builder.add(turn, number(1)), builder.add(version, number(1))
        is_last = builder.icmp_unsigned("==", version, versions)
        version = builder.select(is_last, zero, version)
        following = builder.select(is_last, rows, builder.gep(row, [number(self.form.row_bytes)]))
        step = builder.select(is_last, number(self.form.nonces_per_block, I32), number(0, I32))
        more = builder.icmp_unsigned("<", turn, turns)
        loop.again(more, [turn, version, following, row, builder.add(nonce, step), count])
        builder.ret(count)

    def _run(self, streams: Sequence[Iterator[Step]]) -> None:
        for i, step in enumerate(weave([list(stream) for stream in streams])):
            if i % self.form.stretch == 0:
                self.builder.call(self.limit, [self.limit_name])
            step()

    def _set(self, turn: ir.Value, parity: int) -> Any:
        """The set of the items that are an even (0) or odd (1) number of turns away."""
        index = self.builder.and_(self.builder.add(turn, number(parity)), number(1))
        return self.builder.gep(self.scratch, [self.builder.mul(index, number(self.buffers.size))])

    def _rounds(self, at: Pointers) -> Iterator[Step]:
        lanes = range(self.form.lanes.count)
        waiting = iter(
            [kind(self.code, self.buffers, at, lane) for kind in (FirstHash, SecondHash) for lane in lanes]
        )
        for size in self.form.groups:
            group = list(islice(waiting, size))
            yield from (one.begin for one in group)
            yield from (partial(one.step, i) for i in range(STEPS) for one in group)
            yield from (one.finish for one in group)

    def _first_schedule(self, nonce: ir.Value, target: ir.Value) -> Iterator[Step]:
        program, row = first_schedule(), self.buffers.row
        varying = first_pairs()[UNIFORM_STEPS:]
        # Not woven, it has the units to itself: then `vpternlogd` is best for all logic.
        woven = self.form.single and self.code.lanes.plain_xor
        code = Code(self.builder, replace(self.code.lanes, plain_xor=woven))
        rows = {pair: self.buffers.first_rows + row * i for i, pair in enumerate(varying)}
        schedule = LaneSchedule(code, rows)

        def begin() -> None:
            uniforms = self.builder.gep(self.shared, [number(PAIR * UNIFORM_STEPS)])
            schedule.values |= self.code.broadcast_all(program.uniforms, uniforms)
            nonces = schedule.values[program.varying[0]] = self.code.nonces(nonce)
            store(self.builder, nonces.value, target, self.buffers.nonces, self.code.lanes.bytes)

        yield begin
        yield from schedule.steps(program.body, target)

    def _second_schedule(self, words: ir.Value, target: ir.Value) -> Iterator[Step]:
        program, row = second_schedule(), self.buffers.row
        rows = {
            pair: self.buffers.second_rows + row * i
            for i, pair in enumerate(second_pairs())
            if not is_constant(pair)
        }
        schedule = LaneSchedule(self.code, rows)

        def begin() -> None:
            known = self.builder.gep(words, [number(2 * REGISTER)])
            schedule.values |= self.code.broadcast_all(program.per_version[0], known)
            inputs = {node.name: node for node in program.varying}
            for register, order in enumerate((ABEF, CDGH)):
                for variable, vector in zip(order, self._states(target, register), strict=True):
                    schedule.values[inputs[f"v_{variable}"]] = IrWord(self.code, vector)

        def keep_w0() -> None:
            w0 = schedule.values[program.outputs[0]].value
            store(self.builder, w0, target, self.buffers.w0, self.code.lanes.bytes)

        yield begin
        yield from schedule.steps(program.body, target)
        yield keep_w0

    def _states(self, base: ir.Value, register: int) -> list[ir.Value]:
        """The four working variables of one register, each a vector of all lanes."""
        lanes = self.code.lanes
        offsets = (self.buffers.states + lanes.bytes * (4 * register + i) for i in range(4))
        return transpose(self.code, [load(self.builder, base, o, lanes.type, lanes.bytes) for o in offsets])

    def _tops(self, base: ir.Value) -> IrWord:
        """The last digest word of each lane: e, and what 6.2.2, step 4 adds to it."""
        lanes = self.code.lanes
        offsets = (self.buffers.ends + lanes.bytes * half for half in (0, 1))
        low, high = (load(self.builder, base, offset, lanes.type, PAIR) for offset in offsets)
        e = self.builder.shuffle_vector(low, high, constant(range(1, 2 * lanes.count, 2)))
        return IrWord(self.code, e) + H0[7]
