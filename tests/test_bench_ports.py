"""The model of the CPU's ports: what is counted, and what is measured."""

import platform

import pytest

from bench.campaign import Setting, candidate_for
from bench.limit import form_in_use, limit_of
from bench.ports import Loop, assembly, bound, class_of, loop_of, port_rates, register_of
from kernels import native
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
    from collections import Counter

    loop = Loop(Counter(plain=80), Counter(plain=400, shift=200, sha=480), lanes=8)
    monkeypatch.setattr("bench.ports.loop_of", lambda form: loop)
    rates = {"plain": 4e9, "shift": 2e9, "sha": 1e9}
    monkeypatch.setattr("bench.ports.port_rates", lambda register, features, threads: rates)
    # Per hash: 60 SHA at 1e9; 25 shifts at 2e9; 10 / versions + 135 in all at 4e9.
    assert bound(GENERIC, 8, 1) == (pytest.approx(1e9 / 60), "sha")
    rates["sha"] = 4e9
    assert bound(GENERIC, 1, 1) == (pytest.approx(4e9 / 145), "all")


def test_port_rates_are_some_instructions_per_cycle():
    for rate in port_rates(register_of(GENERIC), frozenset(), 1).values():
        assert 0.1e9 < rate < 100e9


def test_numba_has_a_limit_and_python_says_why_not():
    device = NumbaBackend(1, GENERIC)
    candidate = candidate_for(device, Setting("numba"))
    form = form_in_use(device, candidate.versions)
    assert form in native.supported()
    limit, reason = limit_of(candidate)
    device.close()
    assert reason == ""
    assert limit.rate > 1e5
    limit, reason = limit_of(candidate_for(PythonBackend(), Setting("python")))
    assert limit is None
    assert "OpenSSL" in reason
