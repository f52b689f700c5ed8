"""The lowerings, piece by piece: LLVM computes what the interpreter does, in the instructions meant."""

import ctypes
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding as llvm
from llvmlite import ir

from kernels import native
from kernels.lane_rounds import Buffers, first_pairs, is_constant, second_pairs
from kernels.lane_schedule import pair_offset, slot_offset, unpack
from kernels.llvm import BYTES, I64, Code, IrWord, Lanes, Loop, load, number, store
from kernels.program import CH, MAJ, XOR3, Node, Op, evaluate
from kernels.search import first_schedule, search
from kernels.sha_form import weave

uint32 = st.integers(0, 2**32 - 1)
WORDS = ("x", "y", "z")


def machine(form: native.Form | None = None) -> llvm.TargetMachine:
    """For a form's CPU, which need not be ours; for this one without a form."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()
    if form is None:
        return llvm.Target.from_default_triple().create_target_machine(jit=True)
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu")
    return target.create_target_machine(cpu=form.cpu, features=form.features, opt=2)


def run(nodes: Sequence[Node], lanes: Lanes, inputs: Sequence[int]) -> list[list[int]]:
    """Every lane of every node, for the same inputs in each lane."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [BYTES, BYTES]), "run")
    code = Code(ir.IRBuilder(function.append_basic_block()), lanes)
    words, results = function.args
    given_nodes = [node for node in nodes if node.op is Op.INPUT]
    values = dict(code.broadcast_all(given_nodes, words))
    computed = [node for node in nodes if node.op is not Op.INPUT]
    for place, node in enumerate(computed):
        values[node] = code.lower(node, [values[arg] for arg in node.args])
        store(code.builder, values[node].value, results, place * lanes.bytes)
    code.builder.ret_void()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine())
    engine.finalize_object()
    memory = (ctypes.c_uint32 * (len(computed) * lanes.count))()
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(engine.get_function_address("run"))
    call((ctypes.c_uint32 * len(inputs))(*inputs), memory)
    return [memory[i * lanes.count : (i + 1) * lanes.count] for i in range(len(computed))]


X, Y, Z = (Node(Op.INPUT, name=name) for name in WORDS)


@settings(max_examples=5, deadline=None)
@given(st.tuples(uint32, uint32, uint32))
def test_every_function_of_three_words_is_what_its_truth_table_says(values: tuple[int, int, int]) -> None:
    nodes = [Node(Op.LOGIC, (X, Y, Z), table) for table in range(256)]
    rows = [4 * (x >> i & 1) + 2 * (y >> i & 1) + (z >> i & 1) for x, y, z in [values] for i in range(32)]
    for table, lanes in enumerate(run([X, Y, Z, *nodes], Lanes(4), values)):
        wanted = sum((table >> row & 1) << i for i, row in enumerate(rows))
        assert lanes == [wanted] * 4
        assert evaluate(nodes[table], values) == wanted


@settings(max_examples=5, deadline=None)
@given(st.tuples(uint32, uint32, uint32))
def test_sums_shifts_and_rotations_are_those_of_the_interpreter(values: tuple[int, int, int]) -> None:
    nodes = [Node(op, (X,), n) for op in (Op.ROTR, Op.SHR, Op.SHL) for n in (1, 7, 16, 31)]
    nodes += [Node(Op.ADD, args, n) for args in ((X, Y), (X, Y, Z), (X,)) for n in (0, 1, 2**32 - 1)]
    got = run([X, Y, Z, *nodes], Lanes(8), values)
    named = dict(zip((X, Y, Z), values, strict=True))
    assert got == [[evaluate(node, [named[arg] for arg in node.args])] * 8 for node in nodes]


def test_a_loop_carries_its_variables() -> None:
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(I64, [I64]), "triangle")
    builder = ir.IRBuilder(function.append_basic_block())
    loop = Loop(builder, "loop", [number(0), number(0)])
    i, total = loop.variables
    i = builder.add(i, number(1))
    total = builder.add(total, i)
    loop.again(builder.icmp_unsigned("<", i, function.args[0]), [i, total])
    builder.ret(total)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine())
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(engine.get_function_address("triangle"))
    assert [call(n) for n in (1, 2, 10)] == [1, 3, 55]


def test_memory_is_read_where_it_was_written() -> None:
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(I64, [BYTES]), "peek")
    builder = ir.IRBuilder(function.append_basic_block())
    store(builder, number(7), function.args[0], 16, 8)
    read = [load(builder, function.args[0], offset, I64, 8) for offset in (16, 8)]
    builder.ret(builder.add(*read))
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine())
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(engine.get_function_address("peek"))
    assert call((ctypes.c_uint64 * 3)(1, 2, 3)) == 9


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_a_row_of_pairs_is_where_the_rounds_look_for_it(lanes: int) -> None:
    two = [("x", lane) for lane in range(lanes)] + [("y", lane) for lane in range(lanes)]
    row = [two[i] for half in (0, 1) for i in unpack(lanes, 1, half)]
    for lane in range(lanes):
        place = pair_offset(lanes, lane) // 4
        assert row[place : place + 2] == [("x", lane), ("y", lane)]


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_registers_are_transposed_into_words(lanes: int) -> None:
    memory: list[tuple[int, int]] = [(0, 0)] * (4 * lanes)
    for lane in range(lanes):
        place = slot_offset(lanes, lane) // 4
        memory[place : place + 4] = [(lane, word) for word in range(4)]
    vectors = [memory[i * lanes : (i + 1) * lanes] for i in range(4)]

    Vector = list[tuple[int, int]]

    def shuffle(x: Vector, y: Vector, words: int, half: int) -> Vector:
        return [(x + y)[i] for i in unpack(lanes, words, half)]

    a, b, c, d = vectors
    halves = [(shuffle(a, b, 1, half), shuffle(c, d, 1, half)) for half in (0, 1)]
    words = [shuffle(x, y, 2, half) for x, y in halves for half in (0, 1)]
    assert words == [[(lane, word) for lane in range(lanes)] for word in range(4)]


def test_buffers_do_not_overlap() -> None:
    for lanes in (8, 16):
        at = Buffers(Lanes(lanes))
        vector, row = 4 * lanes, 8 * lanes
        assert at.row == row
        starts = [at.nonces, at.first_rows, at.states, at.w0, at.second_rows, at.ends, at.size]
        sizes = [vector, 23 * row, 8 * vector, vector, 30 * row, 2 * vector]
        gaps = [after - before for before, after in pairwise(starts)]
        assert all(gap >= size for gap, size in zip(gaps, sizes, strict=True))


def test_woven_steps_keep_their_order_and_are_spread_evenly() -> None:
    seen: list[str] = []

    def stream(name: str, count: int) -> list[object]:
        return [lambda i=i: seen.append(f"{name}{i}") for i in range(count)]

    for step in weave([stream("a", 9), stream("b", 3)]):  # type: ignore[list-item]  # lambdas with a default
        step()
    assert seen == ["a0", "b0", "a1", "a2", "a3", "b1", "a4", "a5", "a6", "b2", "a7", "a8"]


def test_the_steps_of_both_hashes_are_those_that_a_nonce_reaches() -> None:
    assert len(first_pairs()) == len(second_pairs()) == 30
    assert [is_constant(pair) for pair in first_pairs()] == [True] * 7 + [False] * 23
    assert [i for i, pair in enumerate(second_pairs()) if is_constant(pair)] == [4, 5, 6]  # W_9 ... W_14


def assembly(name: str) -> list[str]:
    """The instructions of a form, by mnemonic."""
    (form,) = (form for form in native.FORMS if form.name == name)
    module = llvm.parse_assembly(str(form.lower().module()))
    lines = machine(form).emit_assembly(module).splitlines()
    return [line.split()[0] for line in lines if line.startswith("\t") and not line.startswith("\t.")]


@pytest.mark.parametrize("name", [form.name for form in native.FORMS if "sha" in form.name])
def test_the_rounds_of_a_hash_are_sixty_sha_instructions(name: str) -> None:
    instructions = assembly(name)
    assert instructions.count("sha256rnds2") == 60 * 8
    assert not {"sha256msg1", "sha256msg2"} & set(instructions)


def test_avx512_has_an_instruction_for_each_operation() -> None:
    instructions, cost = assembly("avx512"), search(1).cost()
    assert instructions.count("vpternlogd") == cost.of("logic") == 629
    assert instructions.count("vprord") + instructions.count("vprold") == cost.of("rotate") == 1020


def test_what_is_woven_stays_off_the_unit_of_the_sha_instructions() -> None:
    assert "vpternlogd" not in assembly("sha-avx512-single")
    # Several versions share a first schedule that is not woven.
    assert assembly("sha-avx512").count("vpternlogd") == first_schedule().cost().of("logic") == 76


def test_other_machines_get_vectors_too() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    arm = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine()
    (form,) = (form for form in native.FORMS if not form.needs)
    code = arm.emit_assembly(llvm.parse_assembly(str(form.lower().module())))
    assert code.count(".4s") > search(1).cost().adds  # NEON's vectors of four words


def test_truth_tables_are_the_processor_s() -> None:
    # vpternlogd and lop3: bit 4x + 2y + z of the table.
    a, b, c = 0xF0, 0xCC, 0xAA
    assert (a ^ b ^ c, a & b ^ ~a & 0xFF & c, a & b ^ a & c ^ b & c) == (XOR3, CH, MAJ)


def test_a_word_and_an_int_mix_as_words_do() -> None:
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), "none")
    code = Code(ir.IRBuilder(function.append_basic_block()), Lanes(4))
    word = code.splat(5)
    results = (word + 1, word ^ 1, word & 1, word | 1, word >> 1, word << 1)
    assert all(isinstance(result, IrWord) for result in results)
