"""Words as LLVM vectors: doing arithmetic with an `IrWord` appends instructions, one nonce per lane.

It is one more kind of word that `kernels.program.evaluate` runs on. Only what a CPU does better than its
generic operations is said here: `vpternlogd` for any function of three words, since compilers do not find Maj
by themselves.

Every *form* of the search is one function with the signature `SCAN`:

    uint64 scan(uint32 start, uint64 blocks, uint64 versions, uint32 mask,
                const uint32 *words, uint64 *candidates)

It hashes nonces start ... start + blocks * lanes - 1 (modulo 2**32), each with every version, and writes one
entry for each block and version that has candidates: lanes whose last digest word has no bit of `mask` set.
An entry is (block * versions + version) << 32 | lanes, lane 0 in bit 0. `words` are the prologue's: first the
shared ones, then a row for each version. The number of entries is returned; there is room for
blocks * versions + 1 of them in `candidates`. Neither blocks nor versions is zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from llvmlite import ir

from kernels.program import XOR3, Node, Op, evaluate

I1, I32, I64, BYTES = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()

SCAN = ir.FunctionType(I64, [I32, I64, I64, I32, BYTES, BYTES])

WORD = 4
"""Bytes of a word."""


class Lowered(Protocol):
    """One form of the search: its code, and what the code has to be given."""

    @property
    def nonces_per_block(self) -> int:
        """`scan` counts in these."""

    def shared_words(self, tail: bytes) -> list[int]:
        """The words of the prologue that every version shares; tail: header bytes 64-75."""

    def version_words(self, midstate: Sequence[int], tail: bytes) -> list[int]:
        """One version's row of words; midstate: eight uint32."""

    def module(self) -> ir.Module:
        """A module with the function `scan`."""


@dataclass(frozen=True)
class Lanes:
    """How one vector instruction set wants its code."""

    count: int
    """32-bit words per vector."""
    ternary: bool = False
    """Whether `vpternlogd` exists for vectors of this length."""
    plain_xor: bool = False
    """Keep `vpternlogd` for Ch and Maj: where SHA instructions need the unit that it runs on."""

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
        self._splats: dict[int, IrWord] = {}  # the distances of rotations come again and again

    def splat(self, value: int) -> "IrWord":
        """The same constant in every lane."""
        if value not in self._splats:
            self._splats[value] = IrWord(self, constant([value] * self.lanes.count))
        return self._splats[value]

    def broadcast(self, scalar: ir.Value) -> "IrWord":
        """The same value in every lane."""
        nothing = ir.Constant(self.lanes.type, ir.Undefined)
        one = self.builder.insert_element(nothing, scalar, number(0, I32))
        return IrWord(self, self.builder.shuffle_vector(one, nothing, constant([0] * self.lanes.count)))

    def broadcast_all(self, nodes: Sequence[Node], base: ir.Value) -> Mapping[Node, "IrWord"]:
        """A row of prologue words in memory."""
        return {
            node: self.broadcast(load(self.builder, base, WORD * i, I32)) for i, node in enumerate(nodes)
        }

    def nonces(self, start: ir.Value) -> "IrWord":
        """The nonces start, start + 1, ... as the hash reads them: with their bytes reversed."""
        counted = self.broadcast(start) + IrWord(self, constant(range(self.lanes.count)))
        return IrWord(self, intrinsic(self.builder, f"llvm.bswap.v{self.lanes.count}i32", [counted.value]))

    def lower(self, node: Node, args: Sequence["IrWord"]) -> "IrWord":
        """One operation of a program."""
        if node.op is Op.ROTR:  # one instruction for LLVM to read, where `evaluate` would append three
            x = args[0].value
            name = f"llvm.fshr.v{self.lanes.count}i32"
            return IrWord(self, intrinsic(self.builder, name, [x, x, self.splat(node.value).value]))
        if node.op is Op.LOGIC and self.lanes.ternary and len(args) > 1:
            if node.value == XOR3 and self.lanes.plain_xor:
                return self._plain_xor(self._plain_xor(args[0], args[1]), args[2])
            return self._ternary(node.value, args)
        return evaluate(node, args)  # type: ignore[no-any-return]  # IrWords in, an IrWord out

    def _ternary(self, table: int, args: Sequence["IrWord"]) -> "IrWord":
        vectors = [arg.value for arg in (*args, args[-1])][:3]  # a table of two words ignores the third
        name = f"llvm.x86.avx512.pternlog.d.{8 * self.lanes.bytes}"
        return IrWord(self, intrinsic(self.builder, name, [*vectors, number(table, I32)]))

    def _plain_xor(self, x: "IrWord", y: "IrWord") -> "IrWord":
        # LLVM would turn two xors into one vpternlogd. Assembly it leaves alone.
        kind = ir.FunctionType(self.lanes.type, [self.lanes.type] * 2)
        xor = ir.InlineAsm(kind, "vpxord $2, $1, $0", "=v,v,v")
        return IrWord(self, self.builder.call(xor, [x.value, y.value]))

    def record(
        self, top: "IrWord", mask: ir.Value, entries: ir.Value, count: ir.Value, item: ir.Value
    ) -> Any:
        """Write the entry of an item, and count it if it has a candidate: no branch. The new count.

        A negative item is none.
        """
        builder = self.builder
        hits = builder.icmp_signed("==", (top & self.broadcast(mask)).value, self.splat(0).value)
        lanes = builder.zext(builder.bitcast(hits, ir.IntType(self.lanes.count)), I64)
        lanes = builder.select(builder.icmp_signed(">=", item, number(0)), lanes, number(0))
        entry = builder.or_(builder.shl(item, number(32)), lanes)
        builder.store(entry, place(builder, entries, builder.mul(count, number(8)), I64), align=8)
        return builder.add(count, builder.zext(builder.icmp_signed("!=", lanes, number(0)), I64))


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


LINE = 64
"""Bytes of a cache line, and of the longest vectors."""


def scan_builder(scratch_bytes: int = 1) -> tuple[ir.IRBuilder, Any]:
    """At the start of an empty `scan` in a module of its own, with so much memory, aligned to a cache line.

    The memory is on the stack, for two reasons (docs/decisions/0015-all-memory-on-the-stack.md). Vectors that
    registers cannot hold go there, too, and LLVM aligns the stack only for what is there before it hands out
    registers; else they lie across two cache lines. And pages that are neighbours do not get in each other's
    way in the first cache, as others do where their addresses are alike.
    """
    function = ir.Function(ir.Module(), SCAN, "scan")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    scratch = builder.alloca(ir.IntType(8), size=scratch_bytes)
    scratch.align = LINE
    builder.store(number(0, ir.IntType(8)), scratch)  # so that it is there
    return builder, scratch


class Loop:
    """A loop that runs at least once; its variables begin with `initial`."""

    def __init__(self, builder: ir.IRBuilder, name: str, initial: Sequence[ir.Value]) -> None:
        self.builder = builder
        before = builder.block
        self.top = builder.append_basic_block(name)
        builder.branch(self.top)
        builder.position_at_end(self.top)
        self.variables = [builder.phi(value.type) for value in initial]
        for variable, value in zip(self.variables, initial, strict=True):
            variable.add_incoming(value, before)

    def again(self, condition: ir.Value, values: Sequence[ir.Value]) -> None:
        """Close it: while the condition holds, run again with these values. What follows comes after it."""
        for variable, value in zip(self.variables, values, strict=True):
            variable.add_incoming(value, self.builder.block)
        end = self.builder.append_basic_block("end")
        self.builder.cbranch(condition, self.top, end)
        self.builder.position_at_end(end)


def constant(values: Iterable[int], of: ir.IntType = I32) -> ir.Constant:
    """A vector constant."""
    items = list(values)
    return ir.Constant(ir.VectorType(of, len(items)), items)


def number(value: int, of: ir.IntType = I64) -> ir.Constant:
    """A scalar constant, an int64 unless said otherwise."""
    return ir.Constant(of, value)


def intrinsic(builder: ir.IRBuilder, name: str, args: Sequence[ir.Value]) -> Any:
    """Call an LLVM intrinsic whose result is of the type of its first argument."""
    kind = ir.FunctionType(args[0].type, [arg.type for arg in args])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, args)


def place(builder: ir.IRBuilder, base: ir.Value, offset: ir.Value | int, of: ir.Type) -> Any:
    """A pointer to a value of this type, `offset` bytes after base."""
    distance = number(offset) if isinstance(offset, int) else offset
    return builder.bitcast(builder.gep(base, [distance]), of.as_pointer())


def load(builder: ir.IRBuilder, base: ir.Value, offset: int, of: ir.Type, align: int = WORD) -> Any:
    """Read from memory that is aligned to so many bytes."""
    return builder.load(place(builder, base, offset, of), align=align)


def store(builder: ir.IRBuilder, value: ir.Value, base: ir.Value, offset: int, align: int = WORD) -> None:
    """Write to memory that is aligned to so many bytes."""
    builder.store(value, place(builder, base, offset, value.type), align=align)
