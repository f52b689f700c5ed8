"""The generated CUDA and OpenCL source: how it reads, what it finds, what it costs."""

from functools import cache

import numpy as np
import ptx_emulator as emulator
import pytest
from ptx_emulator import DeviceMemory

from bench import nvidia_tools, sass
from kernels.device_source import PLACEMENTS, DeviceSource, Pipes, device_source, source
from miner.backends.selftest import EASY, GENESIS, SMALL, hits_of
from miner.header import sha256d
from miner.target import MAX_TARGET
from miner.work import Hit, Work

try:
    nvidia_tools.nvrtc()
    nvidia_tools.tool("nvdisasm")
except nvidia_tools.ToolMissing as missing:
    pytest.skip(str(missing), allow_module_level=True)

ARCH = "sm_89"
VARIANTS = [(placement, versions) for versions in sass.VERSIONS for placement in PLACEMENTS]


def versions_of(count: int) -> tuple[int, ...]:
    return tuple(0x20000000 + (i << 13) for i in range(count))


@cache
def parsed(text: str) -> emulator.Kernel:
    return emulator.parse(nvidia_tools.compiled(text, ARCH).ptx)["scan"]


def scan(made: DeviceSource, text: str, work: Work, nonces: range, blocks: int = 1) -> list[Hit]:
    """What the kernel leaves in its result buffer, on the emulator."""
    memory, capacity = DeviceMemory(), len(nonces) * made.versions
    results = memory.allocate(8 * (1 + capacity))
    memory.bytes_at(results, 8)[:] = 0
    words = [nonces.start, len(nonces), work.target >> 224, capacity]
    arguments = [np.array(made.uniforms(work.midstates, work.tail), np.uint32).tobytes()]
    arguments += [np.uint32(word).tobytes() for word in words] + [np.uint64(results).tobytes()]
    emulator.launch(parsed(text), blocks, 256, arguments, memory)
    found = memory.bytes_at(results, 8 * (1 + capacity)).view(np.uint32).tolist()
    pairs = zip(found[2::2], found[3::2], strict=True)
    return sorted(
        Hit(nonce, work.versions[place]) for (nonce, place), _ in zip(pairs, range(found[0]), strict=False)
    )


# --- the text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["cuda", "opencl"])
def test_the_text_reads_like_the_standard(language: str) -> None:
    text = source(language)
    for line in (
        "// hash 1, round 18, version 0",
        "h1_T1_18_v0 = Sigma1_onto",
        "h2_W_20_v0 =",
        "Maj(h1_a_17_v0, ",
    ):
        assert line in text
    assert "@" not in text.replace("@param", "")
    assert max(map(len, text.splitlines())) <= 118


def test_every_placement_gives_another_text_in_cuda_and_the_same_in_opencl() -> None:
    assert len({source("cuda", placement=name) for name in PLACEMENTS}) == len(PLACEMENTS)
    assert len({source("opencl", placement=name) for name in PLACEMENTS}) == 1


@pytest.mark.parametrize(
    ("language", "versions", "placement", "sentence"),
    [
        ("metal", 1, None, "language 'metal': not one of cuda, opencl"),
        ("cuda", 1, "some", "placement 'some': not one of none, adds,"),
        ("cuda", 3, None, "3 versions"),
        ("cuda", 8, None, "8 versions"),
    ],
)
def test_what_does_not_exist_is_told(
    language: str, versions: int, placement: str | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        source(language, versions=versions, placement=placement)


def test_uniforms_are_given_for_as_many_versions_as_the_kernel_takes() -> None:
    with pytest.raises(ValueError, match="1 midstates for a kernel of 2 versions"):
        device_source("cuda", 2).uniforms(GENESIS.work.midstates, GENESIS.work.tail)


def test_opaque_words_are_powers_of_two() -> None:
    made = device_source("cuda")
    values = dict(zip(made.fields, made.uniforms(GENESIS.work.midstates, GENESIS.work.tail), strict=True))
    assert (values["one"], values["right_3"], values["right_10"]) == (1, 1 << 29, 1 << 22)


def test_a_card_with_slow_wide_products_gets_fewer_of_them() -> None:
    def moved(pipes: Pipes) -> int:
        return device_source("cuda", pipes=pipes).text.count("_mul_mul(")

    assert 0 < moved(Pipes(wide=4)) < moved(Pipes(wide=2))
    assert moved(Pipes(high=6, wide=6)) <= 6  # the definitions, and nothing where the pipe is full


# --- what it computes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("placement", "versions"),
    [pytest.param(*v, marks=() if v[1] == 1 or v[0] == "none" else pytest.mark.slow) for v in VARIANTS],
)
def test_every_variant_finds_the_hits_of_hashlib(placement: str, versions: int) -> None:
    made = device_source("cuda", versions, placement, any_target=True)
    work = Work(SMALL.header, EASY >> 4, versions_of(versions))
    for nonces, blocks in ((range(300), 1), (range(2**32 - 700, 2**32), 2), (range(2**31 - 5, 2**31 + 5), 3)):
        assert scan(made, made.text, work, nonces, blocks) == hits_of(work, nonces)


def test_the_kernel_for_high_difficulty_finds_a_real_block_and_nothing_around_it() -> None:
    made, nonce = device_source("cuda"), GENESIS.hit.nonce
    assert scan(made, made.text, GENESIS.work, range(nonce - 500, nonce + 500), 2) == [GENESIS.hit]


def test_the_target_s_top_word_is_included() -> None:
    made = device_source("cuda", any_target=True)
    assert len(scan(made, made.text, Work(SMALL.header, MAX_TARGET), range(257))) == 257
    assert scan(made, made.text, Work(SMALL.header, 0), range(257)) == []


MUTATIONS = [
    ("0x0123", "0x3210"),  # the nonce, or the hash, not byte-swapped
    ("rotr(x, 19)), 6, c)", "rotr(x, 18)), 6, c)"),  # Sigma1
    ("shr_mul(x, 10)", "shr_mul(x, 3)"),  # sigma1
    ("Maj(h1_a_17_v0, ", "Ch(h1_a_17_v0, "),
    ("h2_e_30_v0 = add(h2_T1_30_v0, ", "h2_e_30_v0 = add(h2_T1_29_v0, "),
    ("0xec9fcd13u", "0xec9fcd12u"),  # the last constant
    ("<= limit", "< limit"),
    ("start + my_index() < count", "start + my_index() + 1 < count"),
    ("start += gridDim.x * THREADS", "start += 2 * gridDim.x * THREADS"),
    ("results[2 + 2 * slot] = nonce", "results[2 + 2 * (slot & 7)] = nonce"),
    ("block * THREADS + thread", "block * THREADS + (thread & ~1u)"),
]


@pytest.mark.parametrize(("right", "wrong"), MUTATIONS, ids=[wrong for _, wrong in MUTATIONS])
def test_a_mutated_source_is_caught(right: str, wrong: str) -> None:
    made = device_source("cuda", any_target=True)
    # The first nonce's own hash is the target: a comparison that leaves it out shows.
    nonces = range(1000, 1600)
    value = int.from_bytes(sha256d(Work(SMALL.header, 0).header_of(Hit(1000, SMALL.hit.version))), "little")
    work = Work(SMALL.header, value | (1 << 224) - 1)
    text = made.text.replace(right, wrong)
    assert text != made.text
    assert scan(made, made.text, work, nonces) == hits_of(work, nonces)
    assert scan(made, text, work, nonces) != hits_of(work, nonces)


# --- what it costs ----------------------------------------------------------------------------------------

GOALS = {1: 25.2, 4: 22.4}
"""Modelled clocks per hash, sm_80 to sm_90; a tenth to three more on sm_100 and sm_120."""


def goal(arch: str, versions: int) -> float:
    return GOALS[versions] + (0.3 if versions == 1 else 0.2) * (arch in ("sm_100", "sm_120"))


def check(arch: str, placement: str, versions: int, any_target: bool = False) -> sass.Count:
    found = sass.count(arch, placement, versions, any_target=any_target)
    assert found.spills == 0
    assert 32 < found.registers <= 64
    return found


@pytest.mark.parametrize("arch", sass.ARCHITECTURES)
def test_the_default_with_one_version_costs_what_was_promised(arch: str) -> None:
    assert check(arch, "adds+shifts+rotates", 1).clocks <= goal(arch, 1)


@pytest.mark.parametrize(
    "arch", [pytest.param(a, marks=() if a == ARCH else pytest.mark.slow) for a in sass.ARCHITECTURES]
)
def test_the_default_with_four_versions_costs_what_was_promised(arch: str) -> None:
    assert check(arch, "adds+shifts+rotates", 4).clocks <= goal(arch, 4)


def test_the_safe_placement_costs_what_was_promised() -> None:
    assert check(ARCH, "adds+shifts", 1).clocks <= 26.2


@pytest.mark.slow
@pytest.mark.parametrize("arch", sass.ARCHITECTURES)
@pytest.mark.parametrize(("placement", "versions"), VARIANTS)
@pytest.mark.parametrize("any_target", [False, True])
def test_no_variant_spills(arch: str, placement: str, versions: int, any_target: bool) -> None:
    check(arch, placement, versions, any_target)
