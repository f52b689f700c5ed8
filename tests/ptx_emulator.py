"""Executes compiled PTX on NumPy arrays: a CUDA device for machines that have none.

Every register is one array with an element per thread, so all threads of a launch advance in lock step.
Where they part, the threads at the lowest program counter run first and the others wait for them; that is
enough for structured code, and code that needs more (a lane that waits for another one outside a barrier)
is refused by the instruction limit rather than silently mis-executed.

Stricter than a card on purpose: memory is checked to the byte, a register that nobody wrote cannot be read,
an instruction that is not in the tables below is an error. Semantics: NVIDIA, "Parallel Thread Execution
ISA" 9.0, chapter 9; the section of each instruction group stands above its table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ILLEGAL_ADDRESS = 700
"""cudaErrorIllegalAddress: a load or store outside every allocation."""
MISALIGNED_ADDRESS = 716
"""cudaErrorMisalignedAddress: an address that its access size does not divide."""
INVALID_VALUE = 1
"""cudaErrorInvalidValue: a launch geometry or argument that the kernel does not take."""
LAUNCH_OUT_OF_RESOURCES = 701
"""cudaErrorLaunchOutOfResources: more threads in a block than the kernel was compiled for."""


class PtxFault(Exception):
    """What a device answers with a sticky error; `status` is that error's number."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


# --- memory ---------------------------------------------------------------------------------------------


class DeviceMemory:
    """Global memory: separate allocations, 256-byte aligned, with unmapped bytes between any two."""

    GUARD = 4096

    def __init__(self, total: int = 1 << 30) -> None:
        self.total, self.used = total, 0
        self._next = 0x7F00_0000_0000
        self._allocations: dict[int, Array] = {}

    def allocate(self, size: int) -> int:
        """The address of `size` fresh bytes of 0xA5 (a card does not zero memory either)."""
        if self.used + size > self.total:
            raise MemoryError(f"{size} bytes asked for, {self.total - self.used} free")
        address, self.used = self._next, self.used + size
        self._allocations[address] = np.full(size, 0xA5, np.uint8)
        self._next += (size + 255) // 256 * 256 + self.GUARD
        return address

    def free(self, address: int) -> None:
        self.used -= len(self._allocations.pop(address))

    def bytes_at(self, address: int, size: int) -> Array:
        """The `size` bytes at `address`, as a writable view; PtxFault unless one block holds them all."""
        for base, block in self._allocations.items():
            if base <= address and address + size <= base + len(block):
                return block[address - base : address - base + size]
        raise PtxFault(ILLEGAL_ADDRESS, f"no allocation holds {size} bytes at {address:#x}")

    def elements(self, addresses: Array, dtype: type) -> list[Array]:
        """One writable single-element view per address."""
        size = np.dtype(dtype).itemsize
        views = []
        for address in addresses.tolist():
            if address % size:
                raise PtxFault(MISALIGNED_ADDRESS, f"{address:#x} is no multiple of {size}")
            views.append(self.bytes_at(address, size).view(dtype))
        return views


# --- the program ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Instruction:
    """`@guard opcode operands`, e.g. mad.lo.s32 with four register names."""

    opcode: tuple[str, ...]
    operands: tuple[str, ...]
    guard: str = ""
    wanted: bool = True  # the guard's value under which the instruction takes effect
    line: int = 0


@dataclass(frozen=True)
class Kernel:
    """One .entry: its parameters (name -> offset, size, in bytes), labels, limits and instructions."""

    name: str
    params: Mapping[str, tuple[int, int]]
    code: Sequence[Instruction]
    labels: Mapping[str, int]
    shared: Mapping[str, int] = field(default_factory=dict)
    shared_bytes: int = 0
    max_threads: int = 1024

    @property
    def param_bytes(self) -> int:
        return max((offset + size for offset, size in self.params.values()), default=0)


_ENTRY = re.compile(r"\.entry\s+(\w+)\s*\((.*?)\)(.*?)\{", re.DOTALL)
_PARAM = re.compile(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.([busf]\d+)\s+(\w+)(?:\[(\d+)\])?")
_SHARED = re.compile(r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+(\w+)\[(\d+)\]")
_STATEMENT = re.compile(r"^(?:@(!?)(%p\d+)\s+)?([a-z][\w.:]*)\s*(.*)$", re.DOTALL)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+")


def _align(offset: int, to: int) -> int:
    return -(-offset // to) * to


def _parse_params(text: str) -> dict[str, tuple[int, int]]:
    params, offset = {}, 0
    for align, kind, name, count in _PARAM.findall(text):
        width = int(kind[1:]) // 8
        offset = _align(offset, int(align or width))
        params[name] = (offset, width * int(count or 1))
        offset += params[name][1]
    return params


def _parse_body(text: str, first_line: int) -> tuple[list[Instruction], dict[str, int]]:
    code, labels, line = [], {}, first_line
    for chunk in re.split(r"(?<=;)|(?<=:)(?=\s)", text):
        statement, line = chunk.strip(), line + chunk.count("\n")
        if re.fullmatch(r"[$\w]+:", statement):
            labels[statement[:-1]] = len(code)
        elif statement and not statement.startswith("."):
            found = _STATEMENT.match(statement.rstrip(";"))
            assert found, f"line {line}: {statement!r}"
            negated, guard, opcode, rest = found.groups()
            operands = tuple(_OPERAND.findall(rest))
            code.append(Instruction(tuple(opcode.split(".")), operands, guard or "", not negated, line))
    return code, labels


def parse(ptx: str) -> dict[str, Kernel]:
    """Every kernel of a PTX module, by name."""
    ptx = re.sub(r"//[^\n]*|/\*.*?\*/", "", ptx, flags=re.DOTALL)
    ptx = re.sub(r"\.pragma[^;]*;|\.loc[^\n]*", "", ptx)
    shared, total = {}, 0
    for align, name, size in _SHARED.findall(ptx):
        shared[name] = total = _align(total, int(align))
        total += int(size)
    kernels = {}
    for found in _ENTRY.finditer(ptx):
        name, params, limits = found.groups()
        body, rest = re.split(r"\n\s*\}", ptx[found.end() :], maxsplit=1)[0], ptx[: found.end()]
        code, labels = _parse_body(body, rest.count("\n") + 1)
        threads = re.search(r"\.maxntid\s+(\d+)", limits)
        kernels[name] = Kernel(
            name, _parse_params(params), code, labels, shared, total, int(threads[1]) if threads else 1024
        )
    return kernels


# --- arithmetic -----------------------------------------------------------------------------------------

_DTYPES: dict[str, type] = {
    "pred": np.bool_, "b16": np.uint16, "u16": np.uint16, "s16": np.int16, "b8": np.uint8, "u8": np.uint8,
    "b32": np.uint32, "u32": np.uint32, "s32": np.int32, "b64": np.uint64, "u64": np.uint64, "s64": np.int64,
}  # fmt: skip
_WIDER = {"u16": np.uint32, "u32": np.uint64, "s32": np.int64}


def _high(a: Array, b: Array) -> Array:
    return ((a.astype(np.uint64) * b.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


def _funnel_left(low: Array, high: Array, by: Array) -> Array:
    """Section 9.7.8.6, shf.l: the upper word of (high:low) << by, by < 32."""
    pair = (high.astype(np.uint64) << np.uint64(32)) | low
    return ((pair << by.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


def _funnel_right(low: Array, high: Array, by: Array) -> Array:
    pair = (high.astype(np.uint64) << np.uint64(32)) | low
    return (pair >> by.astype(np.uint64)).astype(np.uint32)


def _lop3(a: Array, b: Array, c: Array, table: Array) -> Array:
    """Section 9.7.8.5: bit i of the table is the answer for the inputs a, b, c = the bits of i."""
    lut, result = int(table[0]), np.zeros(1, np.uint32)
    for row in range(8):
        if lut >> row & 1:
            inputs = (a if row & 4 else ~a, b if row & 2 else ~b, c if row & 1 else ~c)
            result = result | (inputs[0] & inputs[1] & inputs[2])
    return result


def _prmt(a: Array, b: Array, selector: Array) -> Array:
    """Section 9.7.9.7, default mode: nibble i of the selector names the byte of (b:a) that becomes byte i."""
    pair, chosen = (b.astype(np.uint64) << np.uint64(32)) | a, int(selector[0])
    result = np.zeros(1, np.uint64)
    for i in range(4):
        nibble = chosen >> 4 * i & 15
        assert nibble < 8, "prmt: sign replication is not emulated"
        result = result | (((pair >> np.uint64(8 * nibble)) & np.uint64(255)) << np.uint64(8 * i))
    return result.astype(np.uint32)


def _brev(a: Array) -> Array:
    for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
        s, m = np.uint32(shift), np.uint32(mask)
        a = ((a >> s) & m) | ((a & m) << s)
    return a


Operation = Callable[..., Array]

# Sections 9.7.1 (integer arithmetic) and 9.7.8 (logic and shift); operands arrive in the instruction's type.
_OPERATIONS: dict[str, Operation] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "neg": lambda a: np.zeros(1, a.dtype) - a,
    "mul.lo": lambda a, b: a * b,
    "mul.hi": _high,
    "mad.lo": lambda a, b, c: a * b + c,
    "mad.hi": lambda a, b, c: _high(a, b) + c,
    "min": np.minimum,
    "max": np.maximum,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "not": lambda a: ~a,
    "shl": lambda a, by: a << by.astype(a.dtype),
    "shr": lambda a, by: a >> by.astype(a.dtype),
    "shf.l.wrap": lambda low, high, by: _funnel_left(low, high, by & np.uint32(31)),
    "shf.r.wrap": lambda low, high, by: _funnel_right(low, high, by & np.uint32(31)),
    "lop3": _lop3,
    "prmt": _prmt,
    "brev": _brev,
    "mov": lambda a: a,
    "selp": lambda a, b, p: np.where(p, a, b),
}

# Section 9.7.6: comparisons; lo, ls, hi, hs are the unsigned spellings.
_COMPARISONS: dict[str, Operation] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip


def _as(value: Array, dtype: type) -> Array:
    """The same bits in `dtype` where the widths agree; a wider or narrower value is cut or zero-extended."""
    if value.dtype == dtype or value.dtype == np.bool_:
        return value
    if value.dtype.itemsize == np.dtype(dtype).itemsize:
        return value.view(dtype)
    return value.astype(dtype)


# --- the machine ----------------------------------------------------------------------------------------


class _Threads:
    """The threads of some whole blocks of one launch: registers, program counters and shared memory."""

    def __init__(self, kernel: Kernel, memory: DeviceMemory, params: Array, first_block: int, blocks: int,
                 grid: int, block: int) -> None:  # fmt: skip
        self.kernel, self.memory, self.params = kernel, memory, params
        index = np.arange(blocks * block, dtype=np.uint32)
        self.count, self.block_of = len(index), (index // np.uint32(block)).astype(np.int64)
        self.block_size = block
        self.registers: dict[str, Array] = {
            "%tid.x": index % np.uint32(block),
            "%ctaid.x": index // np.uint32(block) + np.uint32(first_block),
            "%laneid": index % np.uint32(block) % np.uint32(32),
            "%ntid.x": np.array([block], np.uint32),
            "%nctaid.x": np.array([grid], np.uint32),
        }
        for axis in "yz":
            self.registers |= {
                f"%tid.{axis}": np.zeros(1, np.uint32),
                f"%ctaid.{axis}": np.zeros(1, np.uint32),
            }
            self.registers |= {
                f"%ntid.{axis}": np.ones(1, np.uint32),
                f"%nctaid.{axis}": np.ones(1, np.uint32),
            }
        self.shared = np.full((blocks, kernel.shared_bytes), 0xA5, np.uint8)
        self.counter = np.zeros(self.count, np.int64)
        self.mask: Array | None = None  # of the threads that execute now; None: all of them

    # -- reading and writing operands

    def read(self, name: str, dtype: type) -> Array:
        if name[0] == "%":
            if name not in self.registers:
                raise PtxFault(INVALID_VALUE, f"{name} is read before it is written")
            return _as(self.registers[name], dtype)
        if name in self.kernel.params:
            return np.array([self.kernel.params[name][0]], dtype)
        if name in self.kernel.shared:
            return np.array([self.kernel.shared[name]], dtype)
        value = int(name.rstrip("U"), 0)
        return np.array([value % (1 << 8 * np.dtype(dtype).itemsize)], np.uint64).astype(dtype)

    def write(self, name: str, value: Array, mask: Array | None) -> None:
        if name == "_":
            return
        if value.dtype.kind == "i":
            value = value.view(f"u{value.dtype.itemsize}")
        if mask is not None:
            old = self.registers.get(name, np.zeros(1, value.dtype))
            value = np.where(mask, value, _as(old, value.dtype.type))
        self.registers[name] = value

    def _effective(self, instruction: Instruction) -> Array | None:
        if not instruction.guard:
            return self.mask
        guard = self.read(instruction.guard, np.bool_) == instruction.wanted
        guard = np.broadcast_to(guard, (self.count,))
        return guard if self.mask is None else guard & self.mask

    # -- memory

    def _address(self, operand: str, mask: Array | None) -> Array:
        base, _, offset = operand[1:-1].replace(" ", "").partition("+")
        start = np.broadcast_to(self.read(base, np.uint64), (self.count,))
        start = start if mask is None else start[mask]
        return start + np.uint64(int(offset or "0", 0) % (1 << 64))

    def _views(self, space: str, addresses: Array, dtype: type, mask: Array | None) -> list[Array]:
        if space == "global":
            return self.memory.elements(addresses, dtype)
        size = np.dtype(dtype).itemsize
        owners = self.block_of if mask is None else self.block_of[mask]
        views = []
        for owner, address in zip(owners.tolist(), addresses.tolist(), strict=True):
            if address % size or address + size > self.kernel.shared_bytes:
                raise PtxFault(ILLEGAL_ADDRESS, f"shared address {address:#x} of {self.kernel.shared_bytes}")
            views.append(self.shared[owner, address : address + size].view(dtype))
        return views

    def load(self, ins: Instruction, mask: Array | None) -> None:
        dtype = _DTYPES[ins.opcode[-1]]
        size = np.dtype(dtype).itemsize
        targets = [name.strip() for name in ins.operands[0].strip("{}").split(",")]
        for i, target in enumerate(targets):
            addresses = self._address(ins.operands[1], mask) + np.uint64(i * size)
            if "param" in ins.opcode:
                at = int(addresses[0])
                if at + size > len(self.params) or (addresses != addresses[0]).any():
                    raise PtxFault(ILLEGAL_ADDRESS, f"parameter byte {at} of {len(self.params)}")
                self.write(target, self.params[at : at + size].view(dtype).copy(), mask)
                continue
            values = np.zeros(self.count, dtype)
            views = self._views(ins.opcode[1], addresses, dtype, mask)
            values[slice(None) if mask is None else mask] = [view[0] for view in views]
            self.write(target, values, mask)

    def store(self, ins: Instruction, mask: Array | None) -> None:
        dtype = _DTYPES[ins.opcode[-1]]
        sources = [name.strip() for name in ins.operands[1].strip("{}").split(",")]
        for i, source in enumerate(sources):
            addresses = self._address(ins.operands[0], mask) + np.uint64(i * np.dtype(dtype).itemsize)
            values = np.broadcast_to(self.read(source, dtype), (self.count,))
            values = values if mask is None else values[mask]
            views = self._views(ins.opcode[1], addresses, dtype, mask)
            for view, value in zip(views, values, strict=True):
                view[0] = value

    def atomic(self, ins: Instruction, mask: Array | None) -> None:
        """Section 9.7.13.5 atom.add: threads one after another, in the order of their index."""
        assert "add" in ins.opcode, ".".join(ins.opcode)
        dtype = _DTYPES[ins.opcode[-1]]
        target, address, source = ins.operands if ins.opcode[0] == "atom" else ("_", *ins.operands)
        addends = np.broadcast_to(self.read(source, dtype), (self.count,))
        addends = addends if mask is None else addends[mask]
        views = self._views("global", self._address(address, mask), dtype, mask)
        old = np.zeros(len(views), dtype)
        for i, (view, addend) in enumerate(zip(views, addends, strict=True)):
            old[i] = view[0]
            view += addend
        result = np.zeros(self.count, dtype)
        result[slice(None) if mask is None else mask] = old
        self.write(target, result, mask)

    def barrier(self, mask: Array | None) -> None:
        """All threads of a block arrive together, or the program would hang on a card."""
        alive = self.counter < len(self.kernel.code)
        if mask is not None and (mask != alive).any():
            raise PtxFault(INVALID_VALUE, "a barrier that not every thread reaches")

    def shuffle(self, ins: Instruction, mask: Array | None) -> None:
        """Section 9.7.9.6 shfl.sync.idx: every lane reads the register of the lane that it names."""
        assert ins.opcode[:3] == ("shfl", "sync", "idx"), ".".join(ins.opcode)
        target = ins.operands[0].split("|")[0]
        source = np.broadcast_to(self.read(ins.operands[1], np.uint32), (self.count,))
        lane = np.broadcast_to(self.read(ins.operands[2], np.uint32), (self.count,)).astype(np.int64) % 32
        self.write(target, source[np.arange(self.count) // 32 * 32 + lane], mask)

    # -- execution

    def compute(self, ins: Instruction, mask: Array | None) -> None:
        kind, head = ins.opcode[-1], ins.opcode[0]
        name = ".".join(ins.opcode[:-1])
        if head == "setp":
            a, b = (self.read(x, _DTYPES[kind]) for x in ins.operands[1:3])
            self.write(ins.operands[0], _COMPARISONS[ins.opcode[1]](a, b), mask)
        elif head == "cvt":
            value = self.read(ins.operands[1], _DTYPES[kind])
            self.write(ins.operands[0], value.astype(_DTYPES[ins.opcode[-2]]), mask)
        elif head == "cvta":  # generic and global addresses are the same numbers, on a card too
            self.write(ins.operands[0], self.read(ins.operands[1], np.uint64), mask)
        elif head == "mov" and "{" in "".join(ins.operands[:2]):
            self._pack(ins, mask)
        elif name in ("mul.wide", "mad.wide"):
            wide = _WIDER[kind]
            a, b = (self.read(x, _DTYPES[kind]).astype(wide) for x in ins.operands[1:3])
            addend = self.read(ins.operands[3], wide) if head == "mad" else np.zeros(1, wide)
            self.write(ins.operands[0], a * b + addend, mask)
        elif name in _OPERATIONS:
            self.write(ins.operands[0], self._apply(name, kind, ins.operands[1:]), mask)
        else:
            raise NotImplementedError(f"line {ins.line}: {'.'.join(ins.opcode)} is not emulated")

    def _apply(self, name: str, kind: str, operands: Sequence[str]) -> Array:
        types = [_DTYPES[kind]] * len(operands)
        if name in ("shl", "shr"):
            types[1] = np.uint32
        if name == "selp":
            types[2] = np.bool_
        return _OPERATIONS[name](*(self.read(x, t) for x, t in zip(operands, types, strict=True)))

    def _pack(self, ins: Instruction, mask: Array | None) -> None:
        """mov.b64 {low, high}, wide and its reverse."""
        target, source = ins.operands
        if target[0] == "{":
            wide = self.read(source, np.uint64)
            low, high = (x.strip() for x in target.strip("{}").split(","))
            self.write(low, wide.astype(np.uint32), mask)
            self.write(high, (wide >> np.uint64(32)).astype(np.uint32), mask)
        else:
            parts = [self.read(x.strip(), np.uint32).astype(np.uint64) for x in source.strip("{}").split(",")]
            self.write(target, parts[0] | (parts[1] << np.uint64(32)), mask)

    def execute(self, ins: Instruction, at: int) -> bool:
        """Carries out one instruction; True if the program counters were set by it."""
        mask, head = self._effective(ins), ins.opcode[0]
        if head in ("bra", "ret", "exit"):
            active = np.ones(self.count, bool) if self.mask is None else self.mask
            end = self.kernel.labels[ins.operands[0]] if head == "bra" else len(self.kernel.code)
            self.counter[active] = at + 1
            self.counter[active if mask is None else mask] = end
            return True
        if mask is not None and not mask.any():
            return False
        actions = {
            "ld": self.load,
            "st": self.store,
            "atom": self.atomic,
            "red": self.atomic,
            "shfl": self.shuffle,
        }
        if head in ("bar", "barrier"):
            self.barrier(mask)
        else:
            actions.get(head, self.compute)(ins, mask)
        return False

    def run(self, limit: int) -> None:
        """Until every thread has returned; RuntimeError after `limit` instructions."""
        code, ends = self.kernel.code, set(self.kernel.labels.values())
        while (at := int(self.counter.min())) < len(code):
            active = self.counter == at
            self.mask = None if active.all() else active
            while at < len(code):
                limit -= 1
                if self.execute(code[at], at):
                    break
                at += 1
                if at in ends:  # others may wait here
                    self.counter[active] = at
                    break
            else:
                self.counter[active] = at
            if limit < 0:
                raise RuntimeError("the instruction limit is reached: does the kernel end?")


def pack_arguments(kernel: Kernel, arguments: Sequence[bytes]) -> Array:
    """The parameter space of a launch; PtxFault unless number and sizes are the kernel's own."""
    sizes = [size for _, size in kernel.params.values()]
    if [len(a) for a in arguments] != sizes:
        raise PtxFault(INVALID_VALUE, f"{kernel.name} takes {sizes} bytes, not {[len(a) for a in arguments]}")
    space = np.zeros(kernel.param_bytes, np.uint8)
    for (offset, size), value in zip(kernel.params.values(), arguments, strict=True):
        space[offset : offset + size] = np.frombuffer(value, np.uint8)
    return space


def launch(kernel: Kernel, grid: int, block: int, arguments: Sequence[bytes], memory: DeviceMemory,
           *, together: int = 1 << 14, limit: int = 1_000_000) -> None:  # fmt: skip
    """Runs `grid` blocks of `block` threads to their end, at most about `together` threads at a time."""
    if not 0 < grid < 1 << 31 or not 0 < block <= 1024:
        raise PtxFault(INVALID_VALUE, f"a grid of {grid} blocks of {block} threads")
    if block > kernel.max_threads:
        raise PtxFault(
            LAUNCH_OUT_OF_RESOURCES, f"{block} threads where the kernel allows {kernel.max_threads}"
        )
    params, step = pack_arguments(kernel, arguments), max(1, together // block)
    for first in range(0, grid, step):
        _Threads(kernel, memory, params, first, min(step, grid - first), grid, block).run(limit)
