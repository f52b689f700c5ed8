"""The search program: the known tricks fall out of it, and it finds what hashlib finds."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import pytest

from kernels import sha256
from kernels.program import Node, Program
from kernels.search import VERSIONS, given, search

# Bitcoin's block 125552, the example of en.bitcoin.it/wiki/Block_hashing_algorithm.
BLOCK_125552 = bytes.fromhex(
    "0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000e320b6c2fffc8d750423db8b"
    "1eb942ae710e951ed797f7affc8892b0f1fc122bc7f5d74df2b9441a42a14695"
)


def prologue(program: Program, header: bytes, versions: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    firsts = [v.to_bytes(4, "little") + header[4:64] for v in versions]
    midstates = [sha256.compress(sha256.H0, sha256.words(first)) for first in firsts]
    return program.prologue(given(midstates, header[64:76]))


def rounds_of(program: Program, name: str) -> set[int]:
    """The steps t of which the body holds the word `name`_t of version 0."""
    found = (re.fullmatch(rf"{name}_(\d+)(_v0)?", node.name) for node in program.body)
    return {int(match[1]) for match in found if match}


def of_body(program: Program, name: str) -> Node:
    return next(node for node in program.body if node.name == name)


def test_it_computes_the_last_word_of_a_real_block_s_hash() -> None:
    program = search(1)
    (top,) = program.run([0x42A14695], *prologue(program, BLOCK_125552, [1]))
    assert top == 0
    (top,) = program.run([0x42A14696], *prologue(program, BLOCK_125552, [1]))
    assert top != 0


@pytest.mark.parametrize("versions", VERSIONS)
def test_every_version_s_word_is_hashlib_s(versions: int) -> None:
    program = search(versions)
    numbers = [0x20000000 + (v << 13) for v in range(versions)]
    nonces = np.array([0, 1, 0x80000000, 0xFFFFFFFF, 0x12345678], np.uint32)
    tops = program.run([nonces], *prologue(program, BLOCK_125552, numbers))
    for number, top in zip(numbers, tops, strict=True):
        for nonce, word in zip(nonces.tolist(), top.tolist(), strict=True):
            header = number.to_bytes(4, "little") + BLOCK_125552[4:76] + nonce.to_bytes(4, "big")
            digest = hashlib.sha256(hashlib.sha256(header).digest()).digest()
            assert word == int.from_bytes(digest[28:], "big")


def test_rounds_before_the_nonce_arrives_are_in_the_prologue() -> None:
    # The nonce is word 3, so rounds 0, 1 and 2 are the host's, and round 3 is one addition each to a and e.
    program = search(1)
    assert min(rounds_of(program, "h1_Sigma1")) == min(rounds_of(program, "h1_Maj")) == 4
    assert len(of_body(program, "h1_a_3_v0").args) == len(of_body(program, "h1_e_3_v0").args) == 2


def test_w16_and_w17_are_in_the_prologue() -> None:
    program = search(1)
    assert min(rounds_of(program, "h1_W")) == 18
    assert {"h1_W_16", "h1_W_17"} <= {node.name for node in program.uniforms}


def test_padding_words_are_folded_into_the_schedule() -> None:
    # W_20 = sigma1(W_18) + W_13 + sigma0(W_5) + W_4, of which all but the first are padding: one constant.
    program = search(1)
    w20 = of_body(program, "h1_W_20")
    assert [len(w20.args), w20.value] == [1, 0x80000000]
    # W_21 = sigma1(W_19) alone: not even an addition.
    assert "h1_W_21" not in {node.name for node in program.body}
    # Of the second hash's schedule, W_9 ... W_14 are zero and W_8, W_15 are constants.
    assert min(rounds_of(program, "h2_sigma1")) == 18
    assert 24 not in rounds_of(program, "h2_sigma0")


def test_k_and_w_are_one_constant_in_padding_rounds() -> None:
    program = search(1)
    T1 = of_body(program, "h1_T1_9_v0")  # h + Ch + Sigma1 and the constant K_9 + 0
    assert [len(T1.args), T1.value] == [3, sha256.K[9]]
    T1 = of_body(program, "h1_T1_15_v0")  # W_15 is the length, 640 bits
    assert T1.value == sha256.K[15] + 640


def test_the_second_hash_starts_from_constants() -> None:
    # Its round 0 is one constant and W_0: an addition each for a and e, and no logic.
    program = search(1)
    assert min(rounds_of(program, "h2_Sigma0")) == min(rounds_of(program, "h2_Ch")) == 1
    for name in ("h2_a_0_v0", "h2_e_0_v0"):
        assert len(of_body(program, name).args) == 1
        assert of_body(program, name).value


def test_the_last_rounds_of_the_second_hash_are_gone() -> None:
    # The last word of the digest is e after round 60; a is last needed as that round's d: after round 56.
    program = search(1)
    assert max(rounds_of(program, "h2_Sigma1")) == 60
    assert max(rounds_of(program, "h2_Maj")) == max(rounds_of(program, "h2_Sigma0")) == 56
    assert max(rounds_of(program, "h2_sigma1")) == 60  # no W_61, W_62, W_63


def test_versions_share_the_schedule_of_the_first_hash() -> None:
    one, four = search(1), search(4)
    shared = {node.name for node in four.body if node.level == "varying"}
    assert {f"h1_W_{t}" for t in rounds_of(one, "h1_W")} <= shared
    assert four.cost()["varying", "shift"] == one.cost()["varying", "shift"] == 76
    # Four versions cost less than four searches by exactly three shared schedules of logic.
    logic = ("rotate", "shift", "logic")
    saved = 4 * one.cost().logic - four.cost().logic
    assert saved == 3 * sum(one.cost()["varying", kind] for kind in logic)


def test_the_cost_of_one_version_is_what_the_best_kernels_need() -> None:
    assert search(1).cost().logic == 1805
    assert search(1).cost().adds == 1042


@pytest.mark.parametrize(("versions", "adds", "logic"), [(2, 964, 1653), (4, 925, 1577), (8, 905.5, 1539)])
def test_versions_lower_the_cost_per_hash(versions: int, adds: float, logic: float) -> None:
    cost = search(versions).cost()
    assert (cost.adds / versions, cost.logic / versions) == (adds, logic)


@pytest.mark.parametrize("versions", [0, 3, 16])
def test_other_numbers_of_versions_are_refused(versions: int) -> None:
    with pytest.raises(ValueError, match=f"^{versions} versions"):
        search(versions)


def test_a_program_prints_its_operations_by_name() -> None:
    text = str(search(1))
    assert "  h1_Ch_4_v0 = Ch(h1_e_3_v0, h1_e_2_v0, h1_e_1_v0)\n" in text
    assert text.endswith("outputs: top_v0")
