"""How fast this CPU could run the numba backend's code at most: a model of its execution ports.

The instructions of a form's inner loop are counted in the assembly that LLVM writes for it. How many of
each class the CPU can do per cycle is not looked up but measured, by loops of independent instructions
of that class. A hash cannot take fewer cycles than

    max(SHA / their ports, shifts / their ports, ternary logic / its ports, all / the most ports of these)

since every one of them needs a port of its own class, and all of them need some port. Left out are loads,
moves, latencies and the front end: real code stays below this bound.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from bench.loops import assembled, initialise
from bench.yardstick import CLOCK, CLOCK_CYCLES, loops

if TYPE_CHECKING:
    from kernels.native import Form

INDEPENDENT = 12
"""Chains side by side: more than any latency in cycles times any number of ports that matter here."""

REPEATS, TRIES = 40_000, 200
"""Links per try, a tenth of a millisecond, so that some are never disturbed; tries."""

UNROLLED = 4
"""Links per turn of the loop, so that its own two instructions hardly count."""

LARGE = 200
"""Instructions from which a basic block is the body of a loop over hashes."""

_SHIFTS = re.compile(r"v?p(rol|ror|sll|srl|sra)[dq]v?")
_OTHERS = re.compile(r"v?p(add|sub|xor|or|and|andn|unpck|blend|shuf|perm|align)\w*")


@dataclass(frozen=True, slots=True)
class Loop:
    """What a form executes, by class of instruction."""

    shared: Counter[str]
    """Once per block of nonces, for all versions together."""
    each: Counter[str]
    """Once per block of nonces and version."""
    lanes: int
    """Nonces per block."""

    def per_hash(self, versions: int) -> dict[str, float]:
        """Instructions of each class per hash, and "all" of them."""
        total = Counter({name: count / versions for name, count in self.shared.items()})
        total.update(self.each)
        found = {name: count / self.lanes for name, count in total.items()}
        return found | {"all": sum(found.values())}


def bound(form: "Form", versions: int) -> tuple[float, str]:
    """Cycles per hash on one core at least, and which class of instructions it is that takes so long."""
    ports = ports_per_class(register_of(form), form.needs)
    ports = {**ports, "all": max(ports.values())}
    cycles = {name: count / ports[name] for name, count in loop_of(form).per_hash(versions).items()}
    slowest = max(cycles, key=lambda name: cycles[name])
    return cycles[slowest], slowest


@cache
def loop_of(form: "Form") -> Loop:
    """Count the instructions of a form's loops, in what LLVM makes of it."""
    blocks = [Counter(filter(None, map(class_of, block))) for block in _large_blocks(assembly(form))]
    # The versions' loop is inside the blocks' loop and longer; a form for one version has one loop only.
    each = max(blocks, key=lambda block: block.total())
    shared = sum((block for block in blocks if block is not each), Counter[str]())
    return Loop(shared, each, form.lower().nonces_per_block)


def assembly(form: "Form") -> str:
    """What LLVM makes of a form, as text."""
    from llvmlite import binding as llvm

    initialise()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=form.cpu, features=form.features, opt=2)
    return str(machine.emit_assembly(llvm.parse_assembly(str(form.lower().module()))))


def class_of(mnemonic: str) -> str:
    """The class of ports that an instruction needs; empty for loads, moves and what is not a vector's."""
    if mnemonic.startswith("sha256"):
        return "sha"
    if mnemonic.startswith("vpternlog"):
        return "ternary"
    if _SHIFTS.fullmatch(mnemonic):
        return "shift"
    return "plain" if _OTHERS.fullmatch(mnemonic) else ""


def _large_blocks(text: str) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*text.splitlines(), ".LBB9_9:"]:
        if re.match(r"\.LBB\d+_\d+:", line):
            # What saves registers is the function's first block, which only prepares the loops.
            if len(block) > LARGE and "pushq" not in block:
                yield block
            block = []
        elif re.match(r"\t[a-z]", line):
            block.append(line.split()[0])


def register_of(form: "Form") -> str:
    """The vector registers that a form uses: xmm, ymm or zmm."""
    lanes = form.lower().nonces_per_block
    return {4: "xmm", 8: "ymm", 16: "zmm"}[lanes]


@cache
def ports_per_class(register: str, features: frozenset[str]) -> dict[str, float]:
    """Ports that take each class of instruction: whole ones, or a half for one that is busy for two cycles.

    A neighbour on the other hyperthread takes some of them at times. So the fastest of many short tries
    counts, and what is missing to a whole port is taken to be his.
    """
    vex = "avx2" in features
    instructions = {
        "plain": "vpaddd %{r}15, %{r}{i}, %{r}{i}" if vex else "paddd %{r}15, %{r}{i}",
        "shift": "vpsrld $$7, %{r}{i}, %{r}{i}" if vex else "psrld $$7, %{r}{i}",
    }
    if "avx512vl" in features:
        instructions["shift"] = "vprold $$7, %{r}{i}, %{r}{i}"
        instructions["ternary"] = "vpternlogd $$150, %{r}15, %{r}14, %{r}{i}"
    if "sha" in features:
        instructions["sha"] = "sha256rnds2 %xmm0, %xmm15, %xmm{i}"
    runs = {name: _chains(text.replace("{r}", register)) for name, text in instructions.items()}
    seconds = dict.fromkeys([CLOCK, *runs], math.inf)
    for _ in range(TRIES):
        for name, run in [(CLOCK, loops()[CLOCK]), *runs.items()]:
            started = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    cycle = seconds[CLOCK] / CLOCK_CYCLES
    return {name: _whole(INDEPENDENT * REPEATS * cycle / seconds[name]) for name in runs}


def _chains(instruction: str) -> Callable[[], None]:
    """A run of so many of them, each waiting for none but its own predecessor."""
    # Register 0 is the implicit operand of sha256rnds2, 14 and 15 are read only.
    chain = [instruction.replace("{i}", str(i)) for i in range(1, 1 + INDEPENDENT)]
    run = assembled(chain * UNROLLED)
    return lambda: run(REPEATS // UNROLLED)


def _whole(per_cycle: float) -> float:
    """The ports that such a rate needs; a tenth more may be an error of measurement."""
    return 0.5 if per_cycle <= 0.6 else float(math.ceil(per_cycle - 0.1))
