"""The model of the CPU's ports: what is counted, and what is measured."""

import platform
from collections import Counter

import pytest

from bench.campaign import Setting, candidate_for
from bench.limit import form_in_use, limit_of
from bench.machine import physical_cores
from bench.ports import Loop, _whole, assembly, bound, class_of, loop_of, ports_per_class, register_of
from bench.results import Round
from bench.yardstick import CLOCK_CYCLES
from kernels import code_cache, native
from kernels.search import search
from miner.backends.numba import NumbaBackend
from miner.backends.python import PythonBackend

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the mnemonics are those of x86-64"
)

GENERIC = native.FORMS[-1]


@pytest.mark.parametrize(
    ("mnemonic", "kind"),
    [
        ("vpaddd", "plain"),
        ("paddd", "plain"),
        ("vpxord", "plain"),
        ("vpunpckldq", "plain"),
        ("vprold", "shift"),
        ("psrld", "shift"),
        ("vpternlogd", "ternary"),
        ("sha256rnds2", "sha"),
        ("vmovdqa64", ""),
        ("vpbroadcastd", ""),
        ("pushq", ""),
        ("popq", ""),
    ],
)
def test_instructions_are_counted_by_the_ports_they_need(mnemonic, kind):
    assert class_of(mnemonic) == kind


def test_the_generic_form_executes_what_the_program_says():
    # SSE2 has no rotation: it takes two shifts and an OR. So the additions are the program's own, and
    # the shifts are at most twice its rotations and shifts.
    cost = search(1).cost()
    counted = loop_of(GENERIC).per_hash(1)
    text = assembly(GENERIC)
    assert text.count("paddd") == pytest.approx(cost.adds, rel=0.1)
    assert counted["plain"] > cost.adds / 4
    assert counted["shift"] < 2 * cost.logic / 4


def test_versions_share_what_is_executed_once():
    loop = loop_of(GENERIC)
    assert loop.lanes == 4
    assert loop.shared.total() > 0
    one, eight = loop.per_hash(1)["all"], loop.per_hash(8)["all"]
    assert one - eight == pytest.approx(loop.shared.total() * 7 / 8 / 4)


def test_the_bound_is_set_by_the_slowest_class(monkeypatch):
    loop = Loop(Counter(plain=80), Counter(plain=400, shift=200, sha=480), lanes=8)
    monkeypatch.setattr("bench.ports.loop_of", lambda form: loop)
    ports = {"plain": 4.0, "shift": 2.0, "sha": 1.0}
    monkeypatch.setattr("bench.ports.ports_per_class", lambda register, features: ports)
    # Per hash: 60 SHA on 1 port; 25 shifts on 2; 10 / versions + 135 in all on 4.
    assert bound(GENERIC, 8) == (pytest.approx(60), "sha")
    ports["sha"] = 4.0
    assert bound(GENERIC, 1) == (pytest.approx(145 / 4), "all")


@pytest.mark.skipif("avx2" not in code_cache.cpu_features(), reason="the clock's yardstick asks for AVX2")
def test_ports_are_whole():
    found = ports_per_class(register_of(GENERIC), frozenset())
    assert set(found) == {"plain", "shift"}
    for ports in found.values():
        assert ports in (0.5, 1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("measured", "ports"), [(0.49, 0.5), (0.97, 1), (1.05, 1), (1.4, 2), (1.98, 2), (3.2, 4), (4.05, 4)]
)
def test_what_is_missing_to_a_whole_port_is_a_neighbours(measured, ports):
    assert _whole(measured) == ports


def test_hyperthreads_are_one_core(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 4, 5}, raising=False)
    for processor, siblings in ((0, "0,4"), (1, "1,5"), (4, "0,4"), (5, "1,5")):
        topology = tmp_path / f"sys/devices/system/cpu/cpu{processor}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{siblings}\n")
    assert physical_cores(tmp_path) == 2
    assert physical_cores(tmp_path / "nothing") == 4


@pytest.mark.skipif("avx2" not in code_cache.cpu_features(), reason="the clock's yardstick asks for AVX2")
def test_numba_has_a_limit_and_python_says_why_not():
    device = NumbaBackend(1, GENERIC)
    candidate = candidate_for(device, Setting("numba"))
    form = form_in_use(device, candidate.versions)
    assert form in native.supported()
    limit, reason = limit_of(candidate)
    assert (limit, reason) == (None, "the model failed: ValueError('the clock was not measured')")
    candidate.yardsticks = ("sha3", "clock")
    clock = 3e9 / CLOCK_CYCLES
    candidate.rounds.append(Round((1,), (1.0,), ((1.0, clock),)))
    limit, reason = limit_of(candidate)
    device.close()
    assert reason == ""
    assert "1 core at 3.00 GHz" in limit.model
    assert 1e6 < limit.rate < 1e9
    limit, reason = limit_of(candidate_for(PythonBackend(), Setting("python")))
    assert limit is None
    assert "OpenSSL" in reason
