"""The emulator against small kernels that NVRTC compiles, and against programs that a card would refuse."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import ptx_emulator as emulator
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ptx_emulator import DeviceMemory, PtxFault

from bench import nvidia_tools

Words = npt.NDArray[np.uint32]

try:
    nvidia_tools.nvrtc()
except nvidia_tools.ToolMissing as missing:
    pytest.skip(str(missing), allow_module_level=True)

uint32 = st.integers(0, 2**32 - 1)


def u32(value: int) -> bytes:
    return np.uint32(value).tobytes()


def u64(value: int) -> bytes:
    return np.uint64(value).tobytes()


def kernel(body: str, parameters: str = "unsigned x, unsigned y", name: str = "k") -> emulator.Kernel:
    source = f'extern "C" __global__ void {name}({parameters}, unsigned *out) {{ {body} }}'
    return emulator.parse(nvidia_tools.compiled(source, "sm_89").ptx)[name]


def run(program: emulator.Kernel, size: int, *arguments: bytes, grid: int = 1, block: int = 1) -> Words:
    """What the launch left in `size` words that were 0xA5A5A5A5 before."""
    memory = DeviceMemory()
    out = memory.allocate(4 * size)
    emulator.launch(program, grid, block, [*arguments, u64(out)], memory)
    return memory.bytes_at(out, 4 * size).view(np.uint32).copy()


ARITHMETIC = kernel(
    """
    out[0] = x + y; out[1] = x - y; out[2] = x * y; out[3] = __umulhi(x, y);
    out[4] = x & y; out[5] = x | ~y; out[6] = x ^ y; out[7] = x >> (y & 31);
    out[8] = x << (y & 31); out[9] = __funnelshift_l(x, y, 7); out[10] = __funnelshift_r(x, y, y & 31);
    out[11] = __byte_perm(x, y, 0x0123); out[12] = x < y ? x : y; out[13] = (int)x < (int)y;
    out[14] = (unsigned)(((unsigned long long)x * y) >> 16); out[15] = x * 3u + y; out[16] = __brev(x);
    """
)


@given(uint32, uint32)
def test_arithmetic_is_that_of_32_bit_words(x: int, y: int) -> None:
    def signed(value: int) -> int:
        return value - (value >> 31 << 32)

    by, pair = y & 31, y << 32 | x
    expected = [
        x + y, x - y, x * y, x * y >> 32, x & y, x | ~y, x ^ y, x >> by, x << by,
        pair << 7 >> 32, pair >> by, int.from_bytes(x.to_bytes(4, "little"), "big"), min(x, y),
        signed(x) < signed(y), x * y >> 16, 3 * x + y, int(f"{x:032b}"[::-1], 2),
    ]  # fmt: skip
    assert run(ARITHMETIC, 17, u32(x), u32(y)).tolist() == [value & 0xFFFFFFFF for value in expected]


def assembled(
    instructions: str, registers: str = ".reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %p<9>;"
) -> emulator.Kernel:
    """A kernel in PTX itself, with x, y and out as parameters; out is in %rd1, x in %r1 and y in %r2."""
    return emulator.parse(
        f"""
        .visible .entry k(.param .u32 k_0, .param .u32 k_1, .param .u64 k_2) {{
        {registers}
        ld.param.u32 %r1, [k_0]; ld.param.u32 %r2, [k_1]; ld.param.u64 %rd1, [k_2];
        {instructions}
        ret;
        }}"""
    )["k"]


@pytest.mark.parametrize("table", [0x96, 0xE8, 0xCA, 0x60, 0x00, 0xFF])
def test_lop3_looks_every_bit_up_in_its_table(table: int) -> None:
    x, y = 0b1100, 0b1010
    found = run(
        assembled(f"lop3.b32 %r3, %r1, %r2, 1, {table}; st.global.u32 [%rd1], %r3;"), 1, u32(x), u32(y)
    )
    rows = [(x >> i & 1) << 2 | (y >> i & 1) << 1 | (1 >> i & 1) for i in range(32)]
    assert found[0] == sum((table >> row & 1) << i for i, row in enumerate(rows))


def test_wide_products_and_their_halves() -> None:
    program = assembled(
        "mul.wide.u32 %rd2, %r1, %r2; mov.b64 {%r3, %r4}, %rd2; mov.b64 %rd3, {%r4, %r3};"
        "st.global.u64 [%rd1], %rd3; mad.hi.u32 %r5, %r1, %r2, 5; st.global.u32 [%rd1+8], %r5;"
    )
    x, y = 0xDEADBEEF, 0xCAFEBABE
    high, low = divmod(x * y, 1 << 32)
    assert run(program, 3, u32(x), u32(y)).tolist() == [high, low, high + 5]


LOOP = kernel(
    """
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, steps = 0;
    for (unsigned n = i + x; n != 1; n = n & 1 ? 3 * n + 1 : n / 2) ++steps;
    out[i] = steps;
    """
)


def test_threads_that_part_meet_again() -> None:
    def collatz(n: int) -> int:
        return 0 if n == 1 else 1 + collatz(3 * n + 1 if n & 1 else n // 2)

    found = run(LOOP, 64, u32(1), u32(0), grid=4, block=16)
    assert found.tolist() == [collatz(i + 1) for i in range(64)]


def test_a_guard_leaves_the_registers_of_other_threads_alone() -> None:
    program = assembled(
        "mov.u32 %r3, %tid.x; mov.u32 %r4, 7; setp.lt.u32 %p1, %r3, 2;"
        "@%p1 mov.u32 %r4, 9; @!%p1 add.u32 %r4, %r4, 1;"
        "mul.wide.u32 %rd2, %r3, 4; add.s64 %rd3, %rd1, %rd2; st.global.u32 [%rd3], %r4;"
    )
    assert run(program, 4, u32(0), u32(0), block=4).tolist() == [9, 9, 8, 8]


SLOTS = kernel(
    "unsigned s = atomicAdd(out, 1u); if (s < x) out[1 + s] = threadIdx.x + blockDim.x * blockIdx.x;"
)


def test_atomics_give_every_thread_its_own_slot() -> None:
    memory = DeviceMemory()
    out = memory.allocate(4 * 601)
    memory.bytes_at(out, 4)[:] = 0
    emulator.launch(SLOTS, 3, 200, [u32(600), u32(0), u64(out)], memory)
    words = memory.bytes_at(out, 4 * 601).view(np.uint32)
    assert words[0] == 600
    assert sorted(words[1:].tolist()) == list(range(600))


SHARED = kernel(
    """
    __shared__ unsigned words[64];
    words[threadIdx.x] = threadIdx.x * x;
    __syncthreads();
    out[threadIdx.x + 64 * blockIdx.x] = words[63 - threadIdx.x] + __shfl_sync(~0u, threadIdx.x, y);
    """
)


def test_blocks_share_memory_and_warps_shuffle() -> None:
    found = run(SHARED, 128, u32(3), u32(5), grid=2, block=64)
    assert found.tolist() == 2 * [3 * (63 - i) + (i // 32 * 32 + 5) for i in range(64)]


# --- what a card refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [64, 65, 1 << 20, -1 & 0xFFFFFFFF])
def test_a_store_beyond_the_buffer_is_an_illegal_address(index: int) -> None:
    program = kernel("out[x] = y;")
    with pytest.raises(PtxFault) as caught:
        run(program, 64, u32(index), u32(1))
    assert caught.value.status == emulator.ILLEGAL_ADDRESS


def test_a_buffer_that_was_freed_is_an_illegal_address() -> None:
    memory = DeviceMemory()
    out = memory.allocate(4)
    memory.free(out)
    with pytest.raises(PtxFault, match="no allocation"):
        emulator.launch(kernel("out[0] = x;"), 1, 1, [u32(0), u32(0), u64(out)], memory)


def test_an_odd_address_is_misaligned() -> None:
    with pytest.raises(PtxFault) as caught:
        run(assembled("st.global.u32 [%rd1+2], %r1;"), 4, u32(0), u32(0))
    assert caught.value.status == emulator.MISALIGNED_ADDRESS


def test_a_register_that_nobody_wrote_cannot_be_read() -> None:
    with pytest.raises(PtxFault, match="%r7 is read before it is written"):
        run(assembled("add.u32 %r3, %r1, %r7;"), 1, u32(0), u32(0))


@pytest.mark.parametrize(
    "arguments", [[u32(1), u32(2)], [u32(1), u32(2), u64(3), u64(4)], [u64(1), u32(2), u64(3)]], ids=len
)
def test_arguments_of_the_wrong_number_or_size_are_refused(arguments: Sequence[bytes]) -> None:
    with pytest.raises(PtxFault, match=r"takes \[4, 4, 8\] bytes"):
        emulator.launch(kernel("out[0] = x;"), 1, 1, arguments, DeviceMemory())


@pytest.mark.parametrize(("grid", "block"), [(0, 1), (1, 0), (1, 1025), (1 << 31, 1)])
def test_a_geometry_that_no_card_takes_is_refused(grid: int, block: int) -> None:
    with pytest.raises(PtxFault) as caught:
        run(kernel("out[0] = x;"), 1, u32(0), u32(0), grid=grid, block=block)
    assert caught.value.status == emulator.INVALID_VALUE


def test_more_threads_than_the_kernel_was_compiled_for_are_refused() -> None:
    source = 'extern "C" __global__ void __launch_bounds__(64) k(unsigned *out) { out[threadIdx.x] = 1; }'
    program = emulator.parse(nvidia_tools.compiled(source, "sm_89").ptx)["k"]
    with pytest.raises(PtxFault) as caught:
        emulator.launch(program, 1, 65, [u64(0)], DeviceMemory())
    assert caught.value.status == emulator.LAUNCH_OUT_OF_RESOURCES


def test_a_barrier_that_some_threads_miss_is_refused() -> None:
    program = assembled(
        "mov.u32 %r3, %tid.x; setp.eq.u32 %p1, %r3, 0; @%p1 bra $done; bar.sync 0;"
        "\n$done: \n st.global.u32 [%rd1], %r3;"
    )
    with pytest.raises(PtxFault, match="barrier"):
        run(program, 1, u32(0), u32(0), block=2)


def test_a_kernel_without_end_is_stopped() -> None:
    program = assembled("\n$again: \n bra $again;")
    with pytest.raises(RuntimeError, match="instruction limit"):
        emulator.launch(program, 1, 1, [u32(0), u32(0), u64(0)], DeviceMemory(), limit=1000)


def test_an_instruction_that_is_not_emulated_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match=r"sad\.u32 is not emulated"):
        run(assembled("sad.u32 %r3, %r1, %r2, 0;"), 1, u32(0), u32(0))


def test_fresh_memory_is_not_zero_and_memory_ends() -> None:
    memory = DeviceMemory(total=100)
    assert set(memory.bytes_at(memory.allocate(60), 60).tolist()) == {0xA5}
    with pytest.raises(MemoryError, match="60 bytes asked for, 40 free"):
        memory.allocate(60)
