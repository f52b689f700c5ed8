"""The straight-line body of a GPU kernel: a `Program` written statement by statement.

Every name in it is a word of FIPS 180-4 or an operation on words that `scan.cu` and `scan.cl` define.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import wrap

from kernels.program import CH, MAJ, XOR3, Node, Op, Program

WIDTH = 110
"""Columns of the generated text."""

VERSIONS = (1, 2, 4)
"""Siblings that a kernel may take: a fifth does not fit into the 64 registers of a thread."""


@dataclass(frozen=True)
class Placement:
    """What runs on the multiply-add pipe instead of the ALU pipe."""

    name: str
    adds: bool = False
    """a + b as a * one + b: one slot for one."""
    shifts: bool = False
    """x >> n as the upper half of x * 2**(32 - n): two slots for one."""
    rotates: bool = False
    """Some rotations, as the sum of both halves of x * 2**(32 - n): three slots for one."""


PLACEMENTS = {
    p.name: p
    for p in (
        Placement("none"),
        Placement("adds", adds=True),
        Placement("adds+shifts", adds=True, shifts=True),
        Placement("adds+shifts+rotates", adds=True, shifts=True, rotates=True),
    )
}
DEFAULT_PLACEMENT = "adds+shifts+rotates"
"""The fastest by count, on every architecture from sm_80 to sm_120; `bench sass` prints the counts."""


@dataclass(frozen=True)
class Pipes:
    """What a multiplication costs on a device, in slots of the multiply-add pipe; an add is one slot."""

    high: int = 2
    """The upper half of a product (IMAD.HI)."""
    wide: int = 2
    """Both halves of a product (IMAD.WIDE)."""


PIPES = Pipes()
"""Every architecture from sm_75 to sm_120, by the rates that their assembler schedules for."""


def _is_rotation_sum(node: Node) -> bool:
    """Whether a node is Sigma0 or Sigma1 of FIPS 180-4: three rotations of one word."""
    return _is_sigma(node) and all(arg.op is Op.ROTR for arg in node.args)


def _is_sigma(node: Node) -> bool:
    """Whether a node is one of the four sigmas: three turns of one word, combined by xor."""
    turns = all(arg.op in (Op.ROTR, Op.SHR) for arg in node.args)
    return node.op is Op.LOGIC and node.value == XOR3 and turns and len({a.args[0] for a in node.args}) == 1


_SIGMAS: dict[tuple[int, ...], str] = {
    (2, 13, 22): "Sigma0",
    (6, 11, 25): "Sigma1",
    (3, 7, 18): "sigma0",
    (10, 17, 19): "sigma1",
}
"""FIPS 180-4, 4.1.2: the four functions by their distances."""


def rotates(program: Program, placement: Placement, pipes: Pipes) -> int:
    """How many rotations to move for both pipes to carry the same load: at most one of each sigma."""
    if not placement.rotates:
        return 0
    trial = Writer(program, placement)
    trial.lines()
    shifts = sum(n.op is Op.SHR for n in program.body)
    alu, multiply_add = program.cost().logic - shifts, trial.additions + pipes.high * shifts
    # Each one leaves the ALU pipe for a product and an addition on the other.
    return min(max((alu - multiply_add) // (pipes.wide + 2), 0), len(trial.roomy))


def _is_roomy(sigma: Node, versions: int) -> bool:
    """Whether registers are to spare around a sigma, for the two halves of a product.

    With four versions there are none in hash 1, where they go in step, nor in hash 2 of the first version,
    while the digests of the others wait, nor at the beginning of hash 2 of the others.
    """
    if versions < max(VERSIONS):
        return True
    which, version, t = _schedule(sigma)
    return which == 2 and version > 0 and t > 8


class _Spread:
    """True `chosen` times in `total` calls, as evenly as can be."""

    def __init__(self, chosen: int, total: int) -> None:
        self.chosen, self.total, self.seen = chosen, max(total, 1), 0

    def __call__(self) -> bool:
        self.seen += 1
        return self.seen * self.chosen // self.total > (self.seen - 1) * self.chosen // self.total


class Writer:
    """Writes the body of one program, in the order in which a device should run it."""

    def __init__(self, program: Program, placement: Placement, rotates: int = 0) -> None:
        self.program, self.placement = program, placement
        self.known = {n for nodes in (program.uniforms, *program.per_version) for n in nodes}
        self.opaque: set[str] = set()
        self.partial: dict[tuple[object, ...], str] = {}
        self.statements: list[str] = []
        self.sigmas = [n for n in program.body if _is_sigma(n)]
        self.roomy = [n for n in self.sigmas if _is_roomy(n, len(program.per_version))]
        self.turn = _Spread(rotates, len(self.roomy))
        self.additions = 0  # written so far; those that ride along in a LEA.HI do not count

    # -- what the entry point needs

    def fields(self) -> tuple[str, ...]:
        """Names of the uniform words; call it after `lines`."""
        words = [n.name for nodes in (self.program.uniforms, *self.program.per_version) for n in nodes]
        return (*sorted(self.opaque, key=lambda f: (len(f), f)), *words)

    def lines(self) -> list[str]:
        """The body."""
        done: set[Node] = set()
        place: tuple[int, ...] = ()
        named = (n for n in self.program.body if _NAME.match(n.name) or n in self.program.outputs)
        for node in sorted(named, key=_schedule):  # the others come when one of these needs them
            if _schedule(node) != place:
                place = _schedule(node)
                self.statements.append(f"    {_heading(node)}")
            self._emit(node, done)
            if node in self.program.outputs:
                self.statements.append(f"    check({node.name}, {self.program.outputs.index(node)});")
        return self.statements

    # -- statements

    def _emit(self, node: Node, done: set[Node]) -> None:
        """The statements that a node needs, then its own."""
        if node in done or not node.varying or node.op is Op.INPUT:
            return
        done.add(node)
        for arg in node.args:
            self._emit(arg, done)
        if node.op is Op.ADD:
            self._assign(node.name, self._sum(node))
        elif node in self._values:
            self._assign(node.name, self._value(node))

    @cached_property
    def _values(self) -> set[Node]:
        """Nodes that are not sums and become statements: all but sigmas in sums, and turns in sigmas."""
        values: set[Node] = {n for n in self.program.body if n.op is Op.LOGIC and not _is_sigma(n)}
        for reader in self.program.body:
            for arg in reader.args:
                inside = _is_sigma(reader) or (reader.op is Op.ADD and _is_sigma(arg))
                if not inside and arg.op is not Op.ADD:
                    values.add(arg)
        return values | {n for n in self.program.outputs if n.op is not Op.ADD}

    def _assign(self, name: str, value: str) -> None:
        line = f"    const word {name} = {value};"
        self.statements += wrap(
            line, WIDTH, initial_indent="    ", subsequent_indent=8 * " ", break_on_hyphens=False
        )

    def _word(self, node: Node) -> str:
        if node.op is Op.CONST:
            return f"{node.value:#010x}u"
        return f"u.{node.name}" if node in self.known else node.name

    # -- sums

    def _add(self, a: str, b: str) -> str:
        if not self.placement.adds:
            return f"({a} + {b})"
        self.opaque.add("one")
        self.additions += 1
        return f"add({a}, {b})"

    def _sum(self, node: Node) -> str:
        """Known words first, what is ready late last: the next round waits for it."""
        total, terms = self._shared_part(node)
        for term in terms:
            if node in self._values or not _is_sigma(term) or term in self._values:
                total = self._add(self._word(term), total) if total else self._word(term)
        for sigma in sorted(
            (t for t in terms if _is_sigma(t) and t not in self._values), key=_is_rotation_sum
        ):
            total = self._sigma_onto(sigma, total)
        return total

    def _shared_part(self, node: Node) -> tuple[str, list[Node]]:
        """The known part of a sum, and its other terms.

        With several versions W_t + K_t is the same for all of them: it becomes a word of its own.
        """
        fixed = [self._word(arg) for arg in node.args if not arg.varying]
        terms = [arg for arg in node.args if arg.varying]
        common = [t for t in terms if t.version is None and not _is_sigma(t)]
        if node.version is None or len(self.program.per_version) == 1 or len(common) != 1 or not node.value:
            known = [*fixed, f"{node.value:#010x}u"] if node.value else fixed
            return " + ".join(known), terms
        key = (common[0], node.value)
        if key not in self.partial:
            self.partial[key] = f"{common[0].name}_K{len(self.partial)}"
            self._assign(self.partial[key], self._add(common[0].name, f"{node.value:#010x}u"))
        total = self.partial[key]
        for word in fixed:
            total = self._add(total, word)
        return total, [t for t in terms if t is not common[0]]

    # -- sigmas

    def _sigma_onto(self, sigma: Node, total: str) -> str:
        if not total:
            return self._value(sigma)
        if not _is_rotation_sum(sigma):
            return self._add(self._value(sigma), total)
        name, distances = self._sigma_name(sigma)
        inner = distances[1] - distances[0]
        suffix = self._moved(inner) if self._turns(sigma) else ""
        return f"{name}_onto{suffix}({self._word(sigma.args[0].args[0])}, {total})"

    def _turns(self, sigma: Node) -> bool:
        """Whether a rotation of this sigma goes to the multiply-add pipe."""
        return sigma in self.roomy and self.turn()

    def _moved(self, *distances: int) -> str:
        self.opaque |= {"one"} | {f"right_{n}" for n in distances}
        return "_mul"

    def _sigma_name(self, sigma: Node) -> tuple[str, list[int]]:
        distances = sorted(arg.value for arg in sigma.args)
        return _SIGMAS[tuple(distances)], distances

    def _value(self, node: Node) -> str:
        """A node that is no sum, as an expression."""
        args = [self._word(arg) for arg in node.args]
        if _is_sigma(node):
            return self._sigma(node)
        if node.op is Op.LOGIC and node.value in (CH, MAJ):
            return f"{'Ch' if node.value == CH else 'Maj'}({', '.join(args)})"
        if node.op is Op.LOGIC:
            return _truth_table(node.value, args)
        if node.op is Op.SHL:
            return f"({args[0]} << {node.value})"
        return f"{'rotr' if node.op is Op.ROTR else 'shr'}({args[0]}, {node.value})"

    def _sigma(self, node: Node) -> str:
        name, distances = self._sigma_name(node)
        word = self._word(node.args[0].args[0])
        if _is_rotation_sum(node):
            return f"{name}({word})"
        if not self.placement.shifts:
            return f"{name}({word})"
        suffix = self._moved(distances[0])
        if self._turns(node):
            suffix += self._moved(distances[1])
        return f"{name}{suffix}({word})"


def _truth_table(table: int, args: Sequence[str]) -> str:
    """Any function of three words: the sum of its products; every compiler makes one LOP3 of it."""
    rows = range(0, 8, 1 << 3 - len(args))  # a missing argument is zero
    return " | ".join(_product(row, args) for row in rows if table >> row & 1)


def _product(row: int, args: Sequence[str]) -> str:
    factors = [arg if row >> 2 - i & 1 else f"~{arg}" for i, arg in enumerate(args)]
    return f"({' & '.join(factors)})"


_NAME = re.compile(r"h([12])_[A-Za-z]+\d?_(\d+)(?:_v(\d+))?")


def _schedule(node: Node) -> tuple[int, ...]:
    """When to run a named node. In hash 1 the versions go in step, to share each message word while it is at
    hand; in hash 2 one goes after the other, because a version then needs 24 registers."""
    found = _NAME.match(node.name)
    if not found:
        return (2, node.version or 0, 64)
    t, version = int(found[2]), int(found[3] or 0)
    return (1, t, version) if found[1] == "1" else (2, version, t)


def _heading(node: Node) -> str:
    match _schedule(node):
        case (1, t, v):
            return f"// hash 1, round {t}, version {v}"
        case (2, v, t):
            return f"// hash 2, version {v}, round {t}"
    return f"// the last word of the digest, version {node.version or 0}"
