"""A `Program`: what is left to do per nonce, and a prologue for what is not.

A program is a directed graph of 32-bit operations without branches. Its *body* depends on the nonce and
runs on a device for every nonce; its *prologue* does not and runs on the host, once per work. What a node
depends on is its *level*:

    constant      nothing: the value is in the program
    uniform       the work: block words that every version shares
    per version   the work and one of its sibling versions
    varying       the nonce; shared by all versions, or belonging to one of them

`Program.run` executes it on Python ints or NumPy arrays. Every lowering must agree with that.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from kernels.sha256 import MASK, Word, add, rotr, shr


class Op(StrEnum):
    """What a node does; `Node.value` says with which number."""

    CONST = "const"  # value: the word
    INPUT = "input"  # value: place in its list of inputs; the nonce has no place
    ADD = "add"  # the sum of args and of the constant `value`
    ROTR = "rotr"  # value: distance
    SHR = "shr"  # value: distance
    SHL = "shl"  # value: distance
    LOGIC = "logic"  # a function of up to three words, bit by bit; value: its truth table


XOR3, CH, MAJ = 0x96, 0xCA, 0xE8
"""Truth tables as `vpternlogd` and PTX `lop3` number them: bit 4x + 2y + z of the table is f(x, y, z)."""

X, Y, Z = 0xF0, 0xCC, 0xAA
"""The tables of the three arguments themselves: any expression in these is the table of that expression."""


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One operation. Nodes are compared by identity; a tracer makes equal ones only once."""

    op: Op
    args: tuple["Node", ...] = ()
    value: int = 0
    varying: bool = False
    """Depends on the nonce."""
    version: int | None = None
    """The version it belongs to; None if it is the same for all."""
    name: str = ""
    """Unique within a program and a C identifier, after FIPS 180-4: h2_T1_5_v0 is T1 in round 5 of hash 2."""

    @property
    def level(self) -> str:
        """The level of dependence, in words."""
        if self.op is Op.CONST:
            return "constant"
        if self.varying:
            return "varying" if self.version is None else "varying per version"
        return "uniform" if self.version is None else "per version"

    def __str__(self) -> str:
        names = [f"{a.value:#010x}" if a.op is Op.CONST else a.name for a in self.args]
        if self.op is Op.ADD:
            return " + ".join(names + [f"{self.value:#010x}"] * bool(self.value))
        if self.op is Op.LOGIC:
            return f"{LOGIC_NAMES.get(self.value, f'logic{self.value:#04x}')}({', '.join(names)})"
        if self.op in (Op.CONST, Op.INPUT):
            return f"{self.value:#010x}" if self.op is Op.CONST else self.name
        return f"{self.op}({names[0]}, {self.value})"


LOGIC_NAMES = {XOR3: "xor3", CH: "Ch", MAJ: "Maj", X ^ Y: "xor", X & Y: "and", X | Y: "or", X ^ 0xFF: "not"}


def _logic(table: int, x: Word, y: Word = 0, z: Word = 0) -> Word:
    """The function with this truth table, as few operations as a machine without ternary logic needs."""
    match table:
        case 0x96:
            return x ^ y ^ z
        case 0xCA:
            return (y ^ z) & x ^ z
        case 0xE8:
            return (x ^ y) & (y ^ z) ^ y
        case 0x3C:
            return x ^ y
    zero = (x ^ x) & y & z
    ones = zero ^ MASK
    terms = (
        (x if i & 4 else x ^ ones) & (y if i & 2 else y ^ ones) & (z if i & 1 else z ^ ones)
        for i in range(8)
        if table >> i & 1
    )
    for term in terms:
        zero = zero | term
    return zero


def evaluate(node: Node, args: Sequence[Word]) -> Word:
    """One operation on ints or `uint32` arrays."""
    match node.op:
        case Op.CONST:
            return node.value
        case Op.ADD:
            return add(*args, node.value) if node.value else add(*args)
        case Op.ROTR:
            return rotr(args[0], node.value)
        case Op.SHR:
            return shr(args[0], node.value)
        case Op.SHL:
            shifted = args[0] << node.value
            return shifted & MASK if isinstance(shifted, int) else shifted
        case Op.LOGIC:
            return _logic(node.value, *args)
        case Op.INPUT:
            raise LookupError(f"input {node.name} has no value")


class Cost(Counter[tuple[str, str]]):
    """How many operations of each kind at each level: counts by (level, kind), kinds as in `KINDS`."""

    KINDS = ("add", "rotate", "shift", "logic")

    def of(self, *kinds: str, varying: bool = True) -> int:
        """The operations of these kinds (none: all) that run per nonce, or those of the prologue."""
        return sum(
            n
            for (level, kind), n in self.items()
            if level.startswith("varying") is varying and (not kinds or kind in kinds)
        )

    @property
    def adds(self) -> int:
        """Two-input additions per nonce, all versions together."""
        return self.of("add")

    @property
    def logic(self) -> int:
        """Rotates, shifts and three-input logic per nonce, all versions together."""
        return self.of("rotate", "shift", "logic")

    def __str__(self) -> str:
        levels = sorted({level for level, _ in self})
        rows: list[tuple[str, ...]] = [("level", *self.KINDS)]
        rows += [(level, *(str(self[level, kind]) for kind in self.KINDS)) for level in levels]
        return "\n".join(f"{level:<22}" + "".join(f"{cell:>8}" for cell in cells) for level, *cells in rows)


_KIND = {Op.ADD: "add", Op.ROTR: "rotate", Op.SHR: "shift", Op.SHL: "shift", Op.LOGIC: "logic"}


@dataclass(frozen=True, eq=False)
class Program:
    """A traced function of varying words, cut into what varies and what does not."""

    varying: tuple[Node, ...]
    """The inputs that differ from lane to lane: for a search the nonce alone."""
    uniforms: tuple[Node, ...]
    """Prologue words, the same for every version, that the body reads: `prologue(...)[0]` in this order."""
    per_version: tuple[tuple[Node, ...], ...]
    """For each version the prologue words that the body reads; entry i means the same in each of them."""
    body: tuple[Node, ...]
    """The operations that depend on the varying inputs, arguments before users."""
    outputs: tuple[Node, ...]
    before: tuple[Node, ...]
    """The prologue's operations, arguments before users."""
    given: tuple[Node, ...]
    """The prologue's own inputs, by name."""

    def prologue(self, given: Mapping[str, int]) -> tuple[list[int], list[list[int]]]:
        """The values of `uniforms` and of `per_version` for inputs by name, uint32 each."""
        values: dict[Node, Word] = {node: given[node.name] for node in self.given}
        for node in self.before:
            values[node] = evaluate(node, [values.get(a, a.value) for a in node.args])
        return [values[n] for n in self.uniforms], [[values[n] for n in ns] for ns in self.per_version]

    def run(
        self, varying: Sequence[Word], uniforms: Sequence[int], per_version: Sequence[Sequence[int]]
    ) -> list[Word]:
        """The outputs, on ints or on NumPy `uint32` arrays: slow, and right by inspection."""
        values: dict[Node, Word] = dict(zip(self.varying, varying, strict=True))
        values |= zip(self.uniforms, uniforms, strict=True)
        for nodes, words in zip(self.per_version, per_version, strict=True):
            values |= zip(nodes, words, strict=True)
        for node, dying in self._deaths:
            values[node] = evaluate(node, [values.get(a, a.value) for a in node.args])
            for dead in dying:
                del values[dead]
        return [values.get(node, node.value) for node in self.outputs]

    @cached_property
    def _deaths(self) -> tuple[tuple[Node, tuple[Node, ...]], ...]:
        """Each operation of the body, with the varying words that nothing reads after it."""
        last: dict[Node, Node] = {}
        for node in self.body:
            last |= {arg: node for arg in node.args if arg.varying}
        dying: dict[Node, list[Node]] = {node: [] for node in self.body}
        for arg, user in last.items():
            if arg not in self.outputs:
                dying[user].append(arg)
        return tuple((node, tuple(dying[node])) for node in self.body)

    def cost(self) -> Cost:
        """Operations by level and kind; a sum of n words counts n - 1 additions."""
        cost = Cost()
        for node in (*self.before, *self.body):
            additions = len(node.args) - 1 + bool(node.value)
            cost[node.level, _KIND[node.op]] += additions if node.op is Op.ADD else 1
        return cost

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield "prologue:"
        yield from (f"  {node.name} = {node}" for node in self.before)
        yield "body:"
        yield from (f"  {node.name} = {node}" for node in self.body)
        yield f"outputs: {', '.join(node.name for node in self.outputs)}"
