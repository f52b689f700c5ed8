"""Program -> LLVM: straight-line vector code, one nonce per lane, in a loop over nonces and versions.

An `IrWord` is one more kind of word that `kernels.program.evaluate` runs on: doing arithmetic with it appends
LLVM instructions. Only what a CPU does better than its generic operations is said here: `vpternlogd` for any
function of three words (compilers do not find Maj by themselves).

Every form of the search is one function with the signature `SCAN`:

    uint64 scan(uint32 start, uint64 blocks, uint64 versions, uint32 mask,
                const uint32 *words, void *scratch, uint64 *candidates)

It hashes nonces start ... start + blocks * lanes - 1 (modulo 2**32), each with every version, and writes one
entry for each block and version that has candidates: lanes whose last digest word has no bit of `mask` set.
An entry is (block * versions + version) << 32 | lanes, lane 0 in bit 0. `words` are the prologue's: first the
shared ones, then a row for each version. The number of entries is returned; there is room for
blocks * versions + 1 of them in `candidates`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from llvmlite import ir

from kernels.program import XOR3, Node, Op, Program, evaluate
from kernels.search import given, search

I1, I32, I64, BYTES = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()

SCAN = ir.FunctionType(I64, [I32, I64, I64, I32, BYTES, BYTES, BYTES])

WORD = 4
"""Bytes of a word."""


def constant(values: Iterable[int], of: ir.IntType = I32) -> ir.Constant:
    """A vector constant."""
    items = list(values)
    return ir.Constant(ir.VectorType(of, len(items)), items)


def number(value: int, of: ir.IntType = I64) -> ir.Constant:
    """A scalar constant, an int64 unless said otherwise."""
    return ir.Constant(of, value)


@dataclass(frozen=True)
class Lanes:
    """How one vector instruction set wants its code."""

    count: int
    """32-bit words per vector."""
    ternary: bool = False
    """Whether `vpternlogd` exists for vectors of this length."""
    plain_xor: bool = False
    """Keep `vpternlogd` for Ch and Maj: where SHA instructions need the pipe that it runs on."""

    @property
    def type(self) -> ir.VectorType:
        """The vector of `count` words."""
        return ir.VectorType(I32, self.count)

    @property
    def bytes(self) -> int:
        """Bytes per vector."""
        return WORD * self.count


class Code:
    """An IRBuilder for words in lanes."""

    def __init__(self, builder: ir.IRBuilder, lanes: Lanes) -> None:
        self.builder = builder
        self.lanes = lanes

    def splat(self, value: int) -> "IrWord":
        """The same constant in every lane."""
        return IrWord(self, constant([value] * self.lanes.count))

    def broadcast(self, scalar: ir.Value) -> "IrWord":
        """The same value in every lane."""
        return IrWord(self, broadcast(self.builder, scalar, self.lanes.count))

    def lower(self, node: Node, args: Sequence["IrWord"]) -> "IrWord":
        """One operation of a program."""
        if node.op is Op.LOGIC and self.lanes.ternary and len(args) > 1:
            if node.value == XOR3 and self.lanes.plain_xor:
                return self._plain_xor(self._plain_xor(args[0], args[1]), args[2])
            return self._ternary(node.value, args)
        return evaluate(node, args)  # type: ignore[no-any-return]  # words in, a word out

    def _ternary(self, table: int, args: Sequence["IrWord"]) -> "IrWord":
        vectors = [arg.value for arg in (*args, args[-1])][:3]  # a table of two words ignores the third
        name = f"llvm.x86.avx512.pternlog.d.{8 * self.lanes.bytes}"
        return IrWord(self, intrinsic(self.builder, name, [*vectors, number(table, I32)]))

    def _plain_xor(self, x: "IrWord", y: "IrWord") -> "IrWord":
        # LLVM would turn two xors into one vpternlogd. Assembly it leaves alone.
        kind = ir.FunctionType(self.lanes.type, [self.lanes.type] * 2)
        xor = ir.InlineAsm(kind, "vpxord $2, $1, $0", "=v,v,v")
        return IrWord(self, self.builder.call(xor, [x.value, y.value]))


class IrWord:
    """A word in lanes: an LLVM vector that takes the operations which `evaluate` needs."""

    def __init__(self, code: Code, value: ir.Value) -> None:
        self.code = code
        self.value = value

    def _with(self, operation: str, other: "Self | int") -> "IrWord":
        operand = self.code.splat(other) if isinstance(other, int) else other
        instruction = getattr(self.code.builder, operation)(self.value, operand.value)
        return IrWord(self.code, instruction)

    def __add__(self, other: "Self | int") -> "IrWord":
        return self._with("add", other)

    def __and__(self, other: "Self | int") -> "IrWord":
        return self._with("and_", other)

    def __or__(self, other: "Self | int") -> "IrWord":
        return self._with("or_", other)

    def __xor__(self, other: "Self | int") -> "IrWord":
        return self._with("xor", other)

    def __lshift__(self, n: int) -> "IrWord":
        return self._with("shl", n)

    def __rshift__(self, n: int) -> "IrWord":
        return self._with("lshr", n)


def intrinsic(builder: ir.IRBuilder, name: str, args: Sequence[ir.Value]) -> Any:
    """Call an LLVM intrinsic whose result is of the type of its first argument."""
    kind = ir.FunctionType(args[0].type, [arg.type for arg in args])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, args)


def broadcast(builder: ir.IRBuilder, scalar: ir.Value, count: int) -> Any:
    """A vector of `count` times the scalar."""
    nothing = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
    one = builder.insert_element(nothing, scalar, number(0, I32))
    return builder.shuffle_vector(one, nothing, constant([0] * count))


def place(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value | int, of: ir.Type) -> Any:
    """A pointer to a value of this type, `offset` bytes after base."""
    distance = number(offset) if isinstance(offset, int) else offset
    return builder.bitcast(builder.gep(base, [distance]), of.as_pointer())


def load(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value | int, of: ir.Type, align: int = WORD) -> Any:
    """Read from memory that is aligned to so many bytes."""
    return builder.load(place(builder, base, offset, of), align=align)


def store(builder: ir.IRBuilder, value: ir.Value, base: ir.Value, offset: int, align: int = WORD) -> None:
    """Write to memory that is aligned to so many bytes."""
    builder.store(value, place(builder, base, offset, value.type), align=align)


def nonces(code: Code, start: ir.Value) -> IrWord:
    """The nonces start, start + 1, ... as the hash reads them: with their bytes reversed."""
    counted = code.broadcast(start) + IrWord(code, constant(range(code.lanes.count)))
    return IrWord(code, intrinsic(code.builder, f"llvm.bswap.v{code.lanes.count}i32", [counted.value]))


def candidate_lanes(code: Code, top: IrWord, mask: ir.Value) -> Any:
    """An int64 with a bit for each lane that has no bit of the mask."""
    hits = code.builder.icmp_signed("==", (top & code.broadcast(mask)).value, code.splat(0).value)
    return code.builder.zext(code.builder.bitcast(hits, ir.IntType(code.lanes.count)), I64)


def record(builder: ir.IRBuilder, entries: ir.Value, count: ir.Value, item: ir.Value, lanes: ir.Value) -> Any:
    """Write an entry, and count it if it has any lanes: no branch. The new count."""
    entry = builder.or_(builder.shl(item, number(32)), lanes)
    store_at = builder.mul(count, number(8))
    builder.store(entry, place(builder, entries, store_at, I64), align=8)
    return builder.add(count, builder.zext(builder.icmp_signed("!=", lanes, number(0)), I64))


class VectorForm:
    """The whole search in vector instructions."""

    scratch_bytes = 0

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.program: Program = search(1)

    @property
    def nonces_per_block(self) -> int:
        """Nonces in a block: `scan` counts in these."""
        return self.lanes.count

    def shared_words(self, tail: bytes) -> list[int]:
        """The words of the prologue that every version shares."""
        return self.program.prologue(given([[0] * 8], tail))[0]

    def version_words(self, midstate: Sequence[int], tail: bytes) -> list[int]:
        """One version's row of words."""
        return self.program.prologue(given([midstate], tail))[1][0]

    def module(self) -> ir.Module:
        """A module with the function `scan`."""
        module = ir.Module()
        _VectorScan(self, ir.Function(module, SCAN, "scan")).build()
        return module


class _VectorScan:
    """Blocks of nonces; for each the shared part of the program, then the rest for every version."""

    def __init__(self, form: VectorForm, function: ir.Function) -> None:
        self.form = form
        self.args = function.args
        self.entry, self.block, self.version, self.next, self.end = (
            function.append_basic_block(name) for name in ("entry", "block", "version", "next", "end")
        )
        self.builder = ir.IRBuilder(self.entry)
        self.code = Code(self.builder, form.lanes)
        self.values: dict[Node, IrWord] = {}

    def build(self) -> None:
        start, blocks, versions, mask, words, _, entries = self.args
        builder, program, zero, one = self.builder, self.form.program, number(0), number(1)
        any_work = builder.and_(builder.icmp_unsigned(">", blocks, zero), builder.icmp_unsigned(">", versions, zero))
        builder.cbranch(any_work, self.block, self.end)

        builder.position_at_end(self.block)
        block, item, count = (builder.phi(I64, name) for name in ("block", "item", "count"))
        step = builder.mul(builder.trunc(block, I32), number(self.form.lanes.count, I32))
        self.values[program.varying[0]] = nonces(self.code, builder.add(start, step))
        self._uniforms(program.uniforms, words)
        self._lower(node for node in program.body if node.version is None)
        builder.branch(self.version)

        builder.position_at_end(self.version)
        version, item_now, count_now = (builder.phi(I64, name) for name in ("version", "item", "count"))
        row_bytes = WORD * len(program.per_version[0])
        offset = builder.add(builder.mul(version, number(row_bytes)), number(WORD * len(program.uniforms)))
        self._uniforms(program.per_version[0], builder.gep(words, [offset]))
        self._lower(node for node in program.body if node.version is not None)
        lanes = candidate_lanes(self.code, self.values[program.outputs[0]], mask)
        count_next = record(builder, entries, count_now, item_now, lanes)
        item_next, version_next = builder.add(item_now, one), builder.add(version, one)
        builder.cbranch(builder.icmp_unsigned("<", version_next, versions), self.version, self.next)

        builder.position_at_end(self.next)
        block_next = builder.add(block, one)
        builder.cbranch(builder.icmp_unsigned("<", block_next, blocks), self.block, self.end)

        builder.position_at_end(self.end)
        found = builder.phi(I64, "found")
        builder.ret(found)
        for phi in (block, item, count):
            phi.add_incoming(zero, self.entry)
        block.add_incoming(block_next, self.next)
        item.add_incoming(item_next, self.next)
        count.add_incoming(count_next, self.next)
        for phi, first, after in ((version, zero, version_next), (item_now, item, item_next), (count_now, count, count_next)):
            phi.add_incoming(first, self.block)
            phi.add_incoming(after, self.version)
        found.add_incoming(zero, self.entry)
        found.add_incoming(count_next, self.next)

    def _uniforms(self, nodes: Sequence[Node], base: ir.Value) -> None:
        for i, node in enumerate(nodes):
            self.values[node] = self.code.broadcast(load(self.builder, base, WORD * i, I32))

    def _lower(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            args = [self.values[a] if a in self.values else self.code.splat(a.value) for a in node.args]
            self.values[node] = self.code.lower(node, args)
