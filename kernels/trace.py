"""Traced words: arithmetic that writes itself down, simplified while it is written.

A `Tracer` hands out input words. Whatever is computed with them becomes a graph of `Node`s:

* an operation on constants is done at once, and x ^ 0, x & 0, x + 0 and their kin are not done at all;
* the same operation on the same words is recorded once, so what two versions share is shared;
* `x >> n | x << 32 - n` is a rotation;
* any bitwise function of up to three words is one node with a truth table: Ch, Maj, x ^ y ^ z;
* what a word depends on (`Node.level`) follows from its arguments.

`Tracer.program` then gathers the sums (`kernels.sums`), drops whatever the outputs do not need, and cuts the
rest into prologue and body.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Final

from kernels import sums
from kernels.program import Node, Op, Program, X, Y, Z, evaluate
from kernels.sha256 import MASK

_PLACES: Final = (X, Y, Z)


class Word:
    """A 32-bit word that records what is done to it; the other operand may be an int."""

    __slots__ = ("node", "tracer")

    def __init__(self, tracer: "Tracer", node: Node) -> None:
        self.tracer = tracer
        self.node = node

    def __add__(self, other: "Word | int") -> "Word":
        return self.tracer.add(self, other)

    def __and__(self, other: "Word | int") -> "Word":
        return self.tracer.logic(lambda x, y: x & y, self, other)

    def __or__(self, other: "Word | int") -> "Word":
        if isinstance(other, Word) and (turned := self.tracer.rotation(self.node, other.node)):
            return turned
        return self.tracer.logic(lambda x, y: x | y, self, other)

    def __xor__(self, other: "Word | int") -> "Word":
        return self.tracer.logic(lambda x, y: x ^ y, self, other)

    def __invert__(self) -> "Word":
        return self ^ MASK

    def __lshift__(self, n: int) -> "Word":
        return self.tracer.shift(Op.SHL, self.node, n)

    def __rshift__(self, n: int) -> "Word":
        return self.tracer.shift(Op.SHR, self.node, n)

    __radd__, __rand__, __ror__, __rxor__ = __add__, __and__, __or__, __xor__


def _leaves(node: Node) -> tuple[Node, ...]:
    return node.args if node.op is Op.LOGIC else (node,)


def _is_flat(node: Node) -> bool:
    """Whether a word is a constant whose bits are all alike, so that a truth table can absorb it."""
    return node.op is Op.CONST and node.value in (0, MASK)


def _table(node: Node, leaves: Sequence[Node]) -> int:
    """The truth table of a node, or of the function that it is, over these leaves."""
    if node in leaves:
        return _PLACES[leaves.index(node)]
    if node.op is Op.CONST:
        return node.value & 0xFF
    return _recast(node.value, _places(node.args, leaves))


def _places(args: Sequence[Node], leaves: Sequence[Node]) -> tuple[int, ...]:
    """Where the args are among the leaves; any place for one that does not matter and is not there."""
    return tuple(leaves.index(arg) if arg in leaves else 0 for arg in args)


@cache
def _recast(table: int, places: tuple[int, ...]) -> int:
    """A table over some arguments as one over words in whose places they now are."""
    recast = 0
    for i in range(8):  # a row of the new table: look up what the old one says there
        row = sum((_PLACES[place] >> i & 1) << 2 - k for k, place in enumerate(places))
        recast |= (table >> row & 1) << i
    return recast


@cache
def _matters(table: int, place: int) -> bool:
    """Whether the function depends on the argument in this place."""
    step = 4 >> place  # the distance between rows that differ in this argument alone
    return any((table >> i ^ table >> i + step) & 1 for i in range(8) if not i & step)


class Tracer:
    """Makes nodes, each once, and knows their names."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[object, ...], Node] = {}
        self._names: dict[Node, str] = {}

    def input(self, name: str, *, varying: bool = False, version: int | None = None) -> Word:
        """A word that is not known yet."""
        node = Node(Op.INPUT, varying=varying, version=version, name=name)
        self._nodes[Op.INPUT, name] = node
        self._names[node] = name
        return Word(self, node)

    def note(self, hash_name: str, version: int) -> Callable[[int, Mapping[str, Word | int]], None]:
        """A `kernels.sha256.Note` that names the words of one hash; the first name of a word stays."""

        def name_words(t: int, words: Mapping[str, Word | int]) -> None:
            for name, word in words.items():
                if isinstance(word, Word):
                    self.name(word, f"{hash_name}_{name}_{t}", version)

        return name_words

    def name(self, word: Word, name: str, version: int) -> None:
        """Name a word, and say its version if it belongs to one."""
        suffix = "" if word.node.version is None else f"_v{version}"
        self._names.setdefault(word.node, name + suffix)

    def add(self, *terms: Word | int) -> Word:
        """A sum: the terms that are known, as one constant, and the others."""
        nodes = [self._node_of(term) for term in terms]
        constant = sum(n.value for n in nodes if n.op is Op.CONST) & MASK
        args = tuple(n for n in nodes if n.op is not Op.CONST)
        if len(args) == 1 and not constant:
            return Word(self, args[0])
        return self._made(Op.ADD, args, constant) if args else self._constant(constant)

    def shift(self, op: Op, x: Node, n: int) -> Word:
        """A shift by 0 < n < 32."""
        return self._made(op, (x,), n)

    def rotation(self, x: Node, y: Node) -> Word | None:
        """The rotation that x | y is, if it is one."""
        right, left = (x, y) if x.op is Op.SHR else (y, x)
        if (right.op, left.op) != (Op.SHR, Op.SHL) or right.args != left.args:
            return None
        if right.value + left.value == 32:
            return self._made(Op.ROTR, right.args, right.value)
        return None

    def logic(self, function: Callable[[int, int], int], x: Word | int, y: Word | int) -> Word:
        """function(x, y), bit by bit, merged with the functions that x and y are if three words suffice."""
        a, b = self._node_of(x), self._node_of(y)
        for xs, ys in ((_leaves(a), _leaves(b)), ((a,), _leaves(b)), (_leaves(a), (b,)), ((a,), (b,))):
            leaves = tuple(n for n in dict.fromkeys(xs + ys) if not _is_flat(n))
            if len(leaves) <= len(_PLACES):
                break
        return self._logic(leaves, function(_table(a, leaves), _table(b, leaves)))

    def _logic(self, leaves: tuple[Node, ...], table: int) -> Word:
        used = tuple(leaf for place, leaf in enumerate(leaves) if _matters(table, place))
        if used != leaves:
            return self._logic(used, _recast(table, _places(leaves, used)))
        if not used:
            return self._constant(MASK if table else 0)
        if table == X:
            return Word(self, used[0])
        return self._made(Op.LOGIC, used, table)

    def _made(self, op: Op, args: tuple[Node, ...], value: int) -> Word:
        if all(arg.op is Op.CONST for arg in args):
            return self._constant(evaluate(Node(op, args, value), [arg.value for arg in args]))
        key = (op, *(sorted(args, key=id) if op is Op.ADD else args), value)
        if key not in self._nodes:
            versions = {arg.version for arg in args} - {None}
            version = versions.pop() if versions else None
            assert not versions, f"{op} of words of different versions"
            self._nodes[key] = Node(op, args, value, any(arg.varying for arg in args), version)
        return Word(self, self._nodes[key])

    def _constant(self, value: int) -> Word:
        return Word(self, self._nodes.setdefault((Op.CONST, value), Node(Op.CONST, value=value)))

    def _node_of(self, word: Word | int) -> Node:
        return word.node if isinstance(word, Word) else self._constant(word).node

    def program(self, outputs: Iterable[Word | int]) -> Program:
        """Everything that these words need, and nothing else, cut into what runs where."""
        wanted = [self._node_of(word) for word in outputs]
        roots, nodes = sums.gather(wanted, list(self._nodes.values()), self._names)
        body = tuple(n for n in nodes if n.varying and n.op is not Op.INPUT)
        read = [a for n in body for a in n.args] + roots
        known = dict.fromkeys(node for node in read if not node.varying and node.op is not Op.CONST)
        versions = sorted({n.version for n in nodes if n.version is not None})
        return Program(
            varying=tuple(n for n in nodes if n.varying and n.op is Op.INPUT),
            uniforms=tuple(n for n in known if n.version is None),
            per_version=tuple(tuple(n for n in known if n.version == v) for v in versions),
            body=body,
            outputs=tuple(roots),
            before=tuple(n for n in nodes if not n.varying and n.op not in (Op.INPUT, Op.CONST)),
            given=tuple(n for n in nodes if not n.varying and n.op is Op.INPUT),
        )
