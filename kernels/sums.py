"""Sums kept n-ary, so that what is known beforehand gathers in one place.

A traced sum of two words may be part of a longer one. `gather` rewrites the sums of a graph by two rules:

1. A sum that only one other sum reads is part of that sum: a + (b + 5) + 7 is a + b + 12. Unless all
   versions share it and that other sum belongs to one of them: K + W is added once for all.
2. A sum leaves what it knows beforehand to its readers if they all are sums that know something too:
   with x = v + 5 read by x + 7 and x + 9 alone, they become v + 12 and v + 14, and x costs nothing.

Afterwards each sum has its varying terms and at most one more: a constant, or a word of the prologue.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from kernels.program import Node, Op
from kernels.sha256 import MASK


@dataclass(eq=False)
class _Sum:
    terms: list[Node]
    """Varying; a term may stand here twice."""
    fixed: list[Node]
    constant: int
    version: int | None

    @classmethod
    def of(cls, node: Node) -> Self:
        terms = [arg for arg in node.args if arg.varying]
        return cls(terms, [arg for arg in node.args if not arg.varying], node.value, node.version)

    @property
    def has_fixed(self) -> bool:
        return bool(self.fixed or self.constant)

    def take(self, fixed: list[Node], constant: int) -> None:
        self.fixed += fixed
        self.constant = (self.constant + constant) & MASK

    def put(self, terms: list[Node], at: Node) -> None:
        """Replace one term by others."""
        place = self.terms.index(at)
        self.terms[place : place + 1] = terms


class _Graph:
    """The live part of a graph, its varying sums open for change."""

    def __init__(self, outputs: list[Node], nodes: Sequence[Node]) -> None:
        self.outputs = outputs
        self.nodes = nodes
        self.sums = {node: _Sum.of(node) for node in nodes if node.op is Op.ADD and node.varying}

    def args(self, node: Node) -> Sequence[Node]:
        if node in self.sums:
            return [*self.sums[node].terms, *self.sums[node].fixed]
        return node.args

    def live(self) -> list[Node]:
        """What the outputs need, in the order in which it was traced: arguments before users."""
        needed, waiting = set(self.outputs), list(self.outputs)
        while waiting:
            new = set(self.args(waiting.pop())) - needed
            needed |= new
            waiting += new
        return [node for node in self.nodes if node in needed]

    def readers(self) -> dict[Node, list[Node | None]]:
        """Who reads each live node, once per mention; None is an output."""
        live = self.live()
        readers: dict[Node, list[Node | None]] = {node: [] for node in live}
        for node in live:
            for arg in self.args(node):
                readers[arg].append(node)
        for output in self.outputs:
            readers[output].append(None)
        return readers

    def sum_readers(self) -> Iterator[tuple[Node, list[_Sum]]]:
        """Each live sum that sums alone read, arguments first, with those sums."""
        for node, readers in self.readers().items():
            if node in self.sums and all(reader in self.sums for reader in readers):
                yield node, [self.sums[reader] for reader in readers if reader]

    def merge(self) -> None:
        """Rule 1."""
        for node, readers in self.sum_readers():
            if len(readers) == 1 and readers[0].version == node.version:
                self._inline(node, readers)

    def float_fixed(self) -> None:
        """Rule 2: worth it if fewer additions appear in the readers than the one that goes."""
        for node, readers in self.sum_readers():
            known = self.sums[node]
            if known.has_fixed and all(reader.has_fixed for reader in readers):
                for reader in readers:
                    reader.take(known.fixed, known.constant)
                known.fixed, known.constant = [], 0
                if len(known.terms) == 1:
                    self._inline(node, readers)

    def _inline(self, node: Node, readers: list[_Sum]) -> None:
        part = self.sums[node]
        for reader in readers:
            reader.put(part.terms, node)
            reader.take(part.fixed, part.constant)


class _Builder:
    """Makes the final nodes: named, each sum with one fixed term at most."""

    def __init__(self, graph: _Graph, names: dict[Node, str]) -> None:
        self.graph = graph
        self.names = names
        self.made: dict[Node, Node] = {}
        self.order: dict[Node, None] = {}
        self.gathered: dict[tuple[object, ...], Node] = {}
        self.taken: set[str] = set()

    def build(self) -> tuple[list[Node], list[Node]]:
        for node in self.graph.live():
            self.made[node] = self._sum(node) if node in self.graph.sums else self._other(node)
            self.order[self.made[node]] = None  # a sum of one term is that term, which is there already
        return [self.made[output] for output in self.graph.outputs], list(self.order)

    def _other(self, node: Node) -> Node:
        args = tuple(self.made[arg] for arg in node.args)
        return Node(node.op, args, node.value, node.varying, node.version, self._name(node, args))

    def _sum(self, node: Node) -> Node:
        found = self.graph.sums[node]
        fixed = self._gather(node, found)
        args = (*fixed, *(self.made[term] for term in found.terms))
        constant = 0 if fixed else found.constant
        if len(args) == 1 and not constant:
            return args[0]
        return Node(Op.ADD, args, constant, True, node.version, self._name(node, args))

    def _gather(self, node: Node, found: _Sum) -> tuple[Node, ...]:
        """What a sum knows beforehand, as one word of the prologue; nothing if it is a constant."""
        args = tuple(self.made[arg] for arg in found.fixed)
        if not args or (len(args) == 1 and not found.constant):
            return args
        key = (*sorted(map(id, args)), found.constant)
        if key not in self.gathered:
            version = next((arg.version for arg in args if arg.version is not None), None)
            name = self._unique(self.names.get(node, "sum") + "_known")
            self.gathered[key] = Node(Op.ADD, args, found.constant, False, version, name)
            self.order[self.gathered[key]] = None
        return (self.gathered[key],)

    def _name(self, node: Node, args: tuple[Node, ...]) -> str:
        if node in self.names:
            return self._unique(self.names[node])
        if node.op is Op.CONST:
            return ""
        ending = {Op.ROTR: f"rotr{node.value}", Op.SHR: f"shr{node.value}"}.get(node.op, node.op.value)
        return self._unique(f"{args[-1].name}_{ending}")

    def _unique(self, name: str) -> str:
        place = 2
        unique = name
        while unique in self.taken:
            unique, place = f"{name}_{place}", place + 1
        self.taken.add(unique)
        return unique


def gather(
    outputs: list[Node], nodes: Sequence[Node], names: dict[Node, str]
) -> tuple[list[Node], list[Node]]:
    """The same outputs, and all that they need, over new named nodes; both arguments before users.

    `nodes`: everything traced. `names`: of those that have one.
    """
    graph = _Graph(outputs, nodes)
    graph.merge()
    graph.float_fixed()
    graph.merge()
    return _Builder(graph, names).build()
