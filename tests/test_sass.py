"""The counter of machine code: its model on code written out here, and its command."""

import json

import pytest

from bench import nvidia_tools, sass

try:
    nvidia_tools.nvrtc()
    nvidia_tools.tool("nvdisasm")
except nvidia_tools.ToolMissing as missing:
    pytest.skip(str(missing), allow_module_level=True)


LOOP = """
extern "C" __global__ void scan(unsigned a, unsigned one, unsigned n, unsigned *out) {
  unsigned x = threadIdx.x;
  #pragma unroll 1
  for (unsigned i = 0; i < n; ++i) {
    BODY
    if (x == 12345) { out[0] = i; out[1] = i * 3; out[2] = i * 5; }
  }
  out[3] = x;
}
"""


def count(body: str) -> sass.Count:
    return sass.counted(nvidia_tools.compiled(LOOP.replace("BODY", body), "sm_89").cubin, "sm_89", "none", 1)


def test_logic_is_charged_to_the_alu_pipe() -> None:
    few, many = count("x = (x << 7 | x >> 25) ^ a;"), count("x = (x << 7 | x >> 25) ^ a;" * 11)
    assert many.alu - few.alu == pytest.approx(20, abs=1)  # a SHF and a LOP3 each
    assert many.bound == "alu"


def test_products_are_charged_to_the_multiply_add_pipe() -> None:
    few, many = count("x = x * one + a;"), count("x = x * one + a;" * 41)
    assert many.fma_slots - few.fma_slots == pytest.approx(40, abs=1)
    assert many.bound == "fma"


def test_the_upper_half_of_a_product_takes_two_slots() -> None:
    few, many = count("x = __umulhi(x, a);"), count("x = __umulhi(x, a);" * 11)
    assert many.fma_slots - few.fma_slots == pytest.approx(20, abs=1)


def test_what_only_a_hit_executes_is_not_counted() -> None:
    rare = count("if (x == 54321) { for (int k = 0; k < 9; ++k) out[k] = __umulhi(x, a + k); } x += a;")
    assert rare.total < count("x = (x << 7 | x >> 25) ^ a;" * 20).total


def test_a_rotation_and_an_addition_are_one_instruction() -> None:
    separate = count("x = __funnelshift_l(x, x, 7); x ^= a;" * 10)
    fused = count("x = __funnelshift_l(x, x, 7) + a;" * 10)
    assert fused.total <= separate.total - 9


def test_registers_and_spills_are_read_from_the_code() -> None:
    found = count("x += a;")
    assert 4 <= found.registers <= 32
    assert found.spills == 0


@pytest.mark.parametrize(("versions", "clocks"), [(1, 23.7), (2, 21.8), (4, 20.8)])
def test_the_limit_is_what_both_pipes_carry_when_both_are_full(versions: int, clocks: float) -> None:
    assert sass.limit(versions) == pytest.approx(clocks, abs=0.1)


def test_the_command_prints_a_row_for_each_variant(capsys: pytest.CaptureFixture[str]) -> None:
    assert sass.main(["--arch", "sm_89", "--placement", "none,adds", "--versions", "1"]) == 0
    header, none, adds = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["arch", "placement", "versions"]
    assert none.split()[:3] == ["sm_89", "none", "1"]
    assert "RTX 4090" in adds


def test_the_command_s_figures_can_be_read_by_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert sass.main(["--placement", "none", "--versions", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spills"] == 0
    assert found["cards_ghs"]["RTX 4090"] > 9


@pytest.mark.parametrize(
    "argument", [["--arch", "sm_13"], ["--placement", "all,some"], ["--versions", "3"]], ids=lambda a: a[1]
)
def test_what_the_command_does_not_know_is_told(
    argument: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        sass.main(argument)
    assert caught.value.code == 2
    assert "there are" in capsys.readouterr().err


def test_a_machine_without_the_wheels_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> None:
        raise nvidia_tools.ToolMissing("nvdisasm is not found: pip install nvidia-cuda-nvdisasm")

    monkeypatch.setattr(sass, "count", missing)
    assert sass.main(["--versions", "1"]) == 1
    assert "pip install" in capsys.readouterr().err
