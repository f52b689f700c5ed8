"""How fast this CPU could run the numba backend's code at most: a model of its execution ports.

The instructions of a form's inner loop are counted in the assembly that LLVM writes for it. What the
CPU can do of each class per second is not looked up but measured, by loops of independent
instructions of that class. A hash cannot take less time than

    max(SHA / their rate, shifts / their rate, ternary logic / its rate, all / the highest of these rates)

since every one of them needs a port of its own class, and all of them need some port. Left out are loads,
moves, latencies and the front end: real code stays below this bound.
"""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import TYPE_CHECKING

from bench.loops import assembled, initialise
from bench.yardstick import processor_clock

if TYPE_CHECKING:
    from kernels.native import Form

INDEPENDENT = 12
"""Chains side by side: more than any latency in cycles times any number of ports that matter here."""

REPEATS, TRIES = 400_000, 60
"""Links per measurement, a millisecond or two, so that threads that start together run together."""

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


def bound(form: "Form", versions: int, threads: int) -> tuple[float, str]:
    """H/s of so many threads at most, and which class of instructions it is that takes so long."""
    loop, rates = loop_of(form), port_rates(register_of(form), form.needs, threads)
    rates = {**rates, "all": max(rates.values())}
    seconds = {name: count / rates[name] for name, count in loop.per_hash(versions).items()}
    slowest = max(seconds, key=lambda name: seconds[name])
    return 1 / seconds[slowest], slowest


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
def port_rates(register: str, features: frozenset[str], threads: int) -> dict[str, float]:
    """Instructions of each class per second, of so many threads side by side.

    Side by side, since hyperthreads share the ports of a core, and clocks depend on how many are busy.
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
    with ThreadPoolExecutor(threads) as pool:
        return {
            name: _rate(text.replace("{r}", register), pool, threads) for name, text in instructions.items()
        }


def _rate(instruction: str, pool: ThreadPoolExecutor, threads: int) -> float:
    """How many of them the threads do in a second, each waiting for none but its own predecessor."""
    # Register 0 is the implicit operand of sha256rnds2, 14 and 15 are read only.
    chain = [instruction.replace("{i}", str(i)) for i in range(1, 1 + INDEPENDENT)]
    run = assembled(chain * UNROLLED)
    rates = [_together(run, pool, threads) for _ in range(TRIES)]
    # Noise only slows one thread down; but of several, the fastest moment is one when they did not overlap.
    return max(rates) if threads == 1 else median(rates)


def _together(run: Callable[[int], None], pool: ThreadPoolExecutor, threads: int) -> float:
    """Instructions per second of processor time, summed over threads that start together."""
    start, clock = threading.Barrier(threads), processor_clock()

    def one(_: int) -> float:
        start.wait()
        began = clock()
        run(REPEATS // UNROLLED)
        return INDEPENDENT * REPEATS / max(clock() - began, 1e-9)

    return sum(pool.map(one, range(threads)))
