"""What a traced word remembers, and what it has the sense to forget."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import sha256
from kernels.program import CH, MAJ, XOR3, Node, Op, Program
from kernels.trace import Tracer, Word

uint32 = st.integers(0, 2**32 - 1)


def traced(function: Callable[..., Word], *levels: str) -> Program:
    """The program of a function of words named x, y, z at these levels."""
    tracer = Tracer()
    words = [
        tracer.input(name, varying=level == "varying", version=0 if level == "per version" else None)
        for name, level in zip("xyz", levels, strict=False)
    ]
    return tracer.program([function(*words)])


def operations(program: Program) -> list[str]:
    return [str(node) for node in program.body]


def test_the_functions_of_the_standard_are_one_operation_each() -> None:
    for function, table in [(sha256.Ch, CH), (sha256.Maj, MAJ), (lambda x, y, z: x ^ y ^ z, XOR3)]:
        (node,) = traced(function, *["varying"] * 3).body
        assert (node.op, node.value) == (Op.LOGIC, table)


def test_two_shifts_that_make_a_rotation_are_one_rotation() -> None:
    assert operations(traced(lambda x: x >> 7 | x << 25, "varying")) == ["rotr(x, 7)"]
    assert len(traced(lambda x: x >> 7 | x << 24, "varying").body) == 3
    assert len(traced(lambda x, y: x >> 7 | y << 25, "varying", "varying").body) == 3


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda x: x + 0, []),
        (lambda x: x ^ 0, []),
        (lambda x: x & 0xFFFFFFFF, []),
        (lambda x: ~~x, []),
        (lambda x: (x & 5) ^ (x & 5) ^ x, []),
        (lambda x: x + 3 + 4, ["x + 0x00000007"]),
        (lambda x: x + 0xFFFFFFFF + 1, []),
        (lambda x: 1 + (x + 2) + 3, ["x + 0x00000006"]),
        (lambda x: ~x, ["not(x)"]),
        (lambda x: sha256.Maj(x, 0, 0xFFFFFFFF), []),
        (lambda x: sha256.Ch(x, 0xFFFFFFFF, 0), []),
        (lambda x: sha256.Ch(0xFFFFFFFF, x, 7), []),
    ],
)
def test_what_is_known_is_folded(function: Callable[..., Word], left: list[str]) -> None:
    assert operations(traced(function, "varying")) == left


def test_the_same_operation_is_recorded_once() -> None:
    program = traced(lambda x, y: ((x + y) >> 1) + ((y + x) >> 1), "varying", "varying")
    assert len(program.body) == 3


def test_what_no_output_needs_is_dropped() -> None:
    def function(x: Word) -> Word:
        _ = x >> 3
        return x >> 2

    assert operations(traced(function, "varying")) == ["shr(x, 2)"]


def test_levels_follow_from_the_arguments() -> None:
    program = traced(lambda x, y, z: (x >> 1) + (y >> 1) + (z >> 1), "varying", "uniform", "per version")
    assert [node.level for node in program.before] == ["uniform", "per version", "per version"]
    assert [node.level for node in program.body] == ["varying", "varying per version"]
    assert [len(program.uniforms), [len(words) for words in program.per_version]] == [0, [1]]


def test_words_of_two_versions_do_not_meet() -> None:
    tracer = Tracer()
    with pytest.raises(AssertionError, match="different versions"):
        tracer.input("a", version=0) + tracer.input("b", version=1)


def test_terms_known_beforehand_gather_in_one_word_of_the_prologue() -> None:
    program = traced(lambda x, y, z: (x + y + 1) + (z + 2), "varying", "uniform", "uniform")
    assert program.cost().adds == 1
    assert len(program.uniforms) == 1


def test_a_sum_leaves_its_constant_to_readers_that_have_one_too() -> None:
    def function(x: Word) -> Word:
        total = x + 5
        return ((total + 7) >> 1) ^ ((total + 9) >> 1)

    assert operations(traced(function, "varying"))[:2] == ["x + 0x0000000c", "shr(x_add, 1)"]
    assert traced(function, "varying").cost().adds == 2


def test_a_sum_keeps_its_constant_where_a_reader_has_none() -> None:
    def function(x: Word, y: Word) -> Word:
        total = x + 5
        return ((total + 7) >> 1) ^ ((total + y) >> 1)

    assert traced(function, "varying", "varying").cost().adds == 3


Expression = Callable[[Any, Any, Any], Any]


def leaf(index: int) -> Expression:
    return lambda *words: words[index]


def combine(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    binary = st.sampled_from(
        [sha256.add, lambda a, b: a ^ b, lambda a, b: a & b, lambda a, b: a | b]
    ).flatmap(lambda f: st.tuples(parts, parts).map(lambda ab: lambda *w: f(ab[0](*w), ab[1](*w))))
    unary = st.tuples(parts, st.integers(1, 31), st.sampled_from([sha256.rotr, sha256.shr])).map(
        lambda p: lambda *w: p[2](p[0](*w), p[1])
    )
    inverted = parts.map(lambda p: lambda *w: p(*w) ^ 0xFFFFFFFF)
    return binary | unary | inverted


expressions = st.recursive(
    st.integers(0, 2).map(leaf) | st.sampled_from([0, 1, 0xFFFFFFFF]).map(lambda c: lambda *_: c),
    combine,
    max_leaves=25,
)


@given(expressions, st.tuples(uint32, uint32, uint32))
def test_a_program_does_what_its_function_does(
    expression: Expression, values: tuple[int, int, int]
) -> None:
    tracer = Tracer()
    x = tracer.input("x", varying=True)
    y = tracer.input("y")
    z = tracer.input("z", version=0)
    program = tracer.program([expression(x, y, z)])
    uniforms, per_version = program.prologue({"y": values[1], "z": values[2]})
    varying = [values[0]] * len(program.varying)
    assert program.run(varying, uniforms, per_version) == [expression(*values)]


def test_node_names_are_unique_identifiers() -> None:
    program = traced(lambda x: sha256.Sigma0(x) + sha256.Sigma1(x >> 1) + sha256.sigma0(x), "varying")
    names = [node.name for node in program.body]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)


def test_a_node_without_a_value_says_so() -> None:
    from kernels.program import evaluate

    with pytest.raises(LookupError, match="nonce"):
        evaluate(Node(Op.INPUT, name="nonce"), [])
