"""`python -m bench sass`: what the compiled CUDA kernel costs, counted from its machine code; no card needed.

The model: a multiprocessor executes per clock 64 thread-instructions on the ALU pipe (logic, shifts,
rotations, three-input adds, comparisons), 64 slots on the multiply-add pipe (IMAD one slot, IMAD.HI and
IMAD.WIDE two), 16 on the special-function pipe, 32 loads or stores, and issues 128. A hash costs

    clocks = max(ALU / 64, multiply-add slots / 64, special / 16, memory / 32, all / 128)

of one multiprocessor. Counted are the instructions that every pass executes; those of a hit, one in 2**32,
are not. These are the rates of compute capability 8.x (CUDA C++ Programming Guide, "Throughput of Native
Arithmetic Instructions"), taken for all architectures; sm_100 and sm_120 may do better. The model leaves
out instruction-cache misses, register-bank conflicts and power limits: a card stays below its bound.
"""

import argparse
import json
import re
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from bench import nvidia_tools
from kernels.device_source import DEFAULT_PLACEMENT, PLACEMENTS, VERSIONS, device_source
from kernels.program import Op
from kernels.search import search

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")

CARDS = {
    "A100 SXM": ("sm_80", 108, 1.410),
    "RTX 3090": ("sm_86", 82, 1.695),
    "RTX 4090": ("sm_89", 128, 2.520),
    "H100 SXM": ("sm_90", 132, 1.980),
    "B200": ("sm_100", 148, 1.965),
    "RTX 5090": ("sm_120", 170, 2.407),
}
"""Name -> architecture, multiprocessors, boost clock in GHz: the vendor's data sheets."""

RATES = {"alu": 64, "fma": 64, "special": 16, "memory": 32, "issue": 128}
"""Thread-instructions (fma: slots) per clock and multiprocessor."""

_FMA = ("IMAD", "IMUL", "FFMA", "FADD", "FMUL", "IDP", "HFMA2", "HADD2", "HMUL2")
_SPECIAL = ("S2R", "CS2R", "S2UR", "MUFU", "POPC", "FLO", "BREV", "I2F", "F2I", "F2F", "B2R", "R2B")
_MEMORY = ("LD", "ST", "ATOM", "RED", "SHFL", "MATCH", "TEX")
_CONTROL = ("BRA", "EXIT", "RET", "CALL", "BSSY", "BSYNC", "BREAK", "NOP", "WARPSYNC", "BAR", "DEPBAR",
            "YIELD", "BMOV", "VOTE", "NANOSLEEP", "MEMBAR", "ERRBAR", "PREEXIT")  # fmt: skip
_UNIFORM = ("U", "R2UR")


@dataclass(frozen=True)
class Count:
    """What one kernel costs. Instructions are per hash."""

    arch: str
    placement: str
    versions: int
    alu: float
    fma_slots: float
    total: float
    clocks: float
    """Of one multiprocessor, per hash."""
    bound: str
    """The pipe that limits it."""
    registers: int
    spills: int
    """Loads and stores of local memory in the whole kernel; not per hash."""
    code_bytes: int

    @property
    def share(self) -> float:
        """Of the limit: what the same operations cost if both pipes were filled without a gap."""
        return limit(self.versions) / self.clocks

    def cards(self) -> dict[str, float]:
        """Card -> bound in GH/s."""
        return {
            name: processors * clock / self.clocks
            for name, (arch, processors, clock) in CARDS.items()
            if arch == self.arch
        }


def limit(versions: int) -> float:
    """The least clocks per hash for the search's operations with all that a placement may move.

    Moving a shift takes one ALU instruction away and adds two multiply-add slots, moving a rotation three;
    an addition after Sigma costs nothing (LEA.HI). Both pipes then carry the same.
    """
    program = search(versions)
    logic, adds = program.cost().logic, program.cost().adds
    shifts = sum(node.op is Op.SHR for node in program.body)
    folded = sum(
        node.op is Op.LOGIC and len(node.args) == 3 and all(arg.op is Op.ROTR for arg in node.args)
        for node in program.body
    )
    alu, fma = logic - shifts, adds - folded + 2 * shifts
    return (3 * alu + fma) / 4 / RATES["alu"] / versions


def count(arch: str, placement: str, versions: int, *, any_target: bool = False) -> Count:
    """Compile and count one variant; ToolMissing without the wheels."""
    source = device_source("cuda", versions, placement, any_target=any_target)
    return counted(nvidia_tools.compiled(source.text, arch).cubin, arch, placement, versions)


def counted(cubin: bytes, arch: str, placement: str, versions: int) -> Count:
    """Count a compiled kernel called `scan`."""
    text = nvidia_tools.disassembly(cubin)
    code = list(_instructions(text))
    hot = [opcode for block in _hot_blocks(_blocks(code)) for opcode in block.opcodes]
    pipes = Counter(_pipe(opcode) for opcode in hot)
    slots = pipes["fma"] + sum(_is_wide(opcode) for opcode in hot)
    loads = {"alu": pipes["alu"], "fma": slots, "special": pipes["special"], "memory": pipes["memory"],
             "issue": len(hot)}  # fmt: skip
    clocks = {pipe: load / versions / RATES[pipe] for pipe, load in loads.items()}
    bound = max(clocks, key=lambda pipe: clocks[pipe])
    return Count(
        arch, placement, versions,
        alu=pipes["alu"] / versions, fma_slots=slots / versions, total=len(hot) / versions,
        clocks=clocks[bound], bound=bound, registers=_registers(cubin),
        spills=sum(i.opcode.startswith(("LDL", "STL")) for i in code), code_bytes=16 * len(code),
    )  # fmt: skip


def _registers(cubin: bytes) -> int:
    """Of one thread: attribute REGCOUNT (0x2f) in the section .nv.info, a symbol's number and a count."""
    found = re.search(rb"\x04\x2f\x08\x00.{4}(.{4})", _section(cubin, b".nv.info"), re.DOTALL)
    return int.from_bytes(found[1], "little") if found else 0


def _section(elf: bytes, name: bytes) -> bytes:
    """A section of a 64-bit little-endian ELF file (System V ABI, chapter 4)."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + size * i) for i in range(count)]
    start = headers[names][4]
    for word, _, _, _, offset, length in headers:
        if elf[start + word : elf.index(b"\0", start + word)] == name:
            return elf[offset : offset + length]
    return b""


# --- machine code -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Instruction:
    label: str
    """The label in front of it, or nothing."""
    guard: str
    opcode: str
    operands: str


@dataclass
class _Block:
    opcodes: list[str]
    next: set[int]


_LINE = re.compile(r"^\s*/\*[0-9a-f]{4,6}\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_LABEL = re.compile(r"^\s*(\.L_[\w.$]+):")


def _instructions(text: str) -> Iterator[_Instruction]:
    """Those of `scan`; padding after its end is dropped with whatever nothing leads to."""
    label, inside = "", False
    for line in text.splitlines():
        if found := re.match(r"\s*\.section\s+(\S+?),", line):
            inside = found[1] == ".text.scan"
        elif inside and (found := _LABEL.match(line)):
            label = found[1]
        elif inside and (found := _LINE.match(line)):
            yield _Instruction(label, found[1] or "", found[2], found[3])
            label = ""


def _blocks(code: Sequence[_Instruction]) -> list[_Block]:
    """Basic blocks and where each may go on."""
    starts = [
        i for i, instruction in enumerate(code)
        if i == 0 or instruction.label or _ends(code[i - 1])
    ]  # fmt: skip
    at = {code[start].label: index for index, start in enumerate(starts) if code[start].label}
    blocks = []
    for index, start in enumerate(starts):
        end = starts[index + 1] if index + 1 < len(starts) else len(code)
        last, following = code[end - 1], {index + 1} if index + 1 < len(starts) else set()
        target = re.search(r"`\((\.L_[\w.$]+)\)", last.operands)
        goes = {at[target[1]]} if _ends(last) and target and target[1] in at else set()
        # A branch may be predicated by its guard or by its first operand.
        stays = not _ends(last) or last.guard or re.match(r"!?U?P\d", last.operands)
        blocks.append(_Block([i.opcode for i in code[start:end]], goes | (following if stays else set())))
    return blocks


def _ends(instruction: _Instruction) -> bool:
    return instruction.opcode.split(".")[0] in ("BRA", "EXIT", "RET", "BRX", "JMP", "BREAK")


def _reachable(blocks: Sequence[_Block], start: int, without: int = -1) -> set[int]:
    """Every block that one can come to from `start`, itself included, without passing `without`."""
    seen, waiting = {start}, [start]
    while waiting:
        for after in blocks[waiting.pop()].next - seen - {without}:
            seen.add(after)
            waiting.append(after)
    return seen


def _hot_blocks(blocks: Sequence[_Block]) -> list[_Block]:
    """What every pass executes: the blocks that cannot be avoided on the way round the loop."""
    loop = {i for i in _reachable(blocks, 0) if any(i in _reachable(blocks, n) for n in blocks[i].next)}
    body = max(loop, key=lambda i: len(blocks[i].opcodes))
    round_trip = [i for i in loop if i in _reachable(blocks, body)]
    return [blocks[i] for i in round_trip if i == body or not _avoidable(blocks, body, i)]


def _avoidable(blocks: Sequence[_Block], body: int, block: int) -> bool:
    """Whether a pass may go from the loop's body back to it without executing this block."""
    return any(body in _reachable(blocks, after, without=block) for after in blocks[body].next - {block})


def _pipe(opcode: str) -> str:
    base = opcode.split(".")[0]
    for pipe, names in (("fma", _FMA), ("special", _SPECIAL), ("control", _CONTROL)):
        if base in names:
            return pipe
    if base.startswith(_MEMORY):
        return "memory"
    return "uniform" if base.startswith(_UNIFORM) else "alu"


def _is_wide(opcode: str) -> bool:
    return opcode.startswith("IMAD") and bool(re.search(r"\.(WIDE|HI)\b", opcode))


# --- the command ------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0; 1 if the wheels are missing or a variant spills."""
    parser = argparse.ArgumentParser(prog="python -m bench sass", description=__doc__.split("\n")[0])
    parser.add_argument("--arch", default="sm_89", help=f"comma-separated, or all: {','.join(ARCHITECTURES)}")
    parser.add_argument("--placement", default="all", help=f"comma-separated: {','.join(PLACEMENTS)}")
    parser.add_argument("--versions", default=",".join(map(str, VERSIONS)), help="comma-separated: 1, 2, 4")
    parser.add_argument("--json", action="store_true", help="one JSON object per variant")
    arguments = parser.parse_args(argv)
    try:
        variants = list(_variants(parser, arguments))
        return _print(variants, arguments.json)
    except (nvidia_tools.ToolMissing, nvidia_tools.CompileError) as error:
        print(f"bench sass: {error}", file=sys.stderr)
        return 1


def _variants(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> Iterator[tuple[str, str, int]]:
    archs = ARCHITECTURES if arguments.arch == "all" else arguments.arch.split(",")
    placements = PLACEMENTS if arguments.placement == "all" else arguments.placement.split(",")
    versions = arguments.versions.split(",")
    for name, given, known in (
        ("architecture", archs, nvidia_tools.architectures()),
        ("placement", placements, list(PLACEMENTS)),
        ("number of versions", versions, list(map(str, VERSIONS))),
    ):
        for word in given:
            if word not in known:
                parser.error(f"{word!r} is no {name}: there are {', '.join(known)}")
    yield from ((a, p, int(v)) for a in archs for p in placements for v in versions)


def _print(variants: Sequence[tuple[str, str, int]], as_json: bool) -> int:
    spilled = False
    if not as_json:
        print(f"{'arch':<7}{'placement':<20}{'versions':>8}{'ALU':>8}{'FMA':>8}{'all':>8}{'clocks':>8}"
              f"{'of limit':>10}{'regs':>6}{'spills':>8}{'bytes':>9}  bound")  # fmt: skip
    for variant in variants:
        found = count(*variant)
        spilled |= bool(found.spills)
        print(_json(found) if as_json else _row(found), flush=True)
    return int(spilled)


def _row(c: Count) -> str:
    cards = ", ".join(f"{name} {rate:.1f} GH/s" for name, rate in c.cards().items())
    return (f"{c.arch:<7}{c.placement:<20}{c.versions:>8}{c.alu:>8.0f}{c.fma_slots:>8.0f}{c.total:>8.0f}"
            f"{c.clocks:>8.2f}{c.share:>10.0%}{c.registers:>6}{c.spills:>8}{c.code_bytes:>9}  "
            f"{c.bound}{', ' if cards else ''}{cards}")  # fmt: skip


def _json(found: Count) -> str:
    return json.dumps(asdict(found) | {"share_of_limit": found.share, "cards_ghs": found.cards()})


__all__ = ["DEFAULT_PLACEMENT", "Count", "count", "counted", "limit", "main"]
