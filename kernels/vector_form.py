"""The whole search in vector instructions: for each block of nonces the part of the program that versions
share, then for each version the rest.
"""

from collections.abc import Iterable, Sequence

from llvmlite import ir

from kernels.llvm import I32, WORD, Code, IrWord, Lanes, Loop, number, scan_builder
from kernels.program import Node
from kernels.search import given, search


class VectorForm:
    """The program as it is, one nonce per lane."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.program = search(1)

    @property
    def nonces_per_block(self) -> int:
        """One per lane."""
        return self.lanes.count

    def shared_words(self, tail: bytes) -> list[int]:
        """The words of the prologue that every version shares."""
        return self.program.prologue(given([[0] * 8], tail))[0]

    def version_words(self, midstate: Sequence[int], tail: bytes) -> list[int]:
        """One version's row of words."""
        return self.program.prologue(given([midstate], tail))[1][0]

    def module(self) -> ir.Module:
        """A module with the function `scan`."""
        builder, _ = scan_builder()
        _Scan(self, builder).build()
        return builder.module


class _Scan:
    def __init__(self, form: VectorForm, builder: ir.IRBuilder) -> None:
        self.program = form.program
        self.args = builder.function.args
        self.builder = builder
        self.code = Code(builder, form.lanes)
        self.values: dict[Node, IrWord] = {}

    def build(self) -> None:
        start, blocks, versions, mask, words, entries = self.args
        builder, program, zero = self.builder, self.program, number(0)

        outer = Loop(builder, "block", [start, zero, zero])
        nonce, item, count = outer.variables
        self.values |= self.code.broadcast_all(program.uniforms, words)
        self.values[program.varying[0]] = self.code.nonces(nonce)
        self._lower(node for node in program.body if node.version is None)

        rows = builder.gep(words, [number(WORD * len(program.uniforms))])
        last = builder.sub(builder.add(item, versions), number(1))
        inner = Loop(builder, "version", [rows, item, count])
        row, item, count = inner.variables
        self.values |= self.code.broadcast_all(program.per_version[0], row)
        self._lower(node for node in program.body if node.version is not None)
        count = self.code.record(self.values[program.outputs[0]], mask, entries, count, item)
        more = builder.icmp_unsigned("<", item, last)
        row = builder.gep(row, [number(WORD * len(program.per_version[0]))])
        item = builder.add(item, number(1))
        inner.again(more, [row, item, count])

        nonce = builder.add(nonce, number(self.code.lanes.count, I32))
        outer.again(builder.icmp_unsigned("<", item, builder.mul(blocks, versions)), [nonce, item, count])
        builder.ret(count)

    def _lower(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            args = [self.values[a] if a in self.values else self.code.splat(a.value) for a in node.args]
            self.values[node] = self.code.lower(node, args)
