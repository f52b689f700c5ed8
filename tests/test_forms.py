"""The fastest form is found out, also on a machine that is busy when it is first asked."""

from dataclasses import replace
from pathlib import Path

import pytest

from kernels import code_cache, native
from miner.backends import forms
from miner.backends.numba import devices
from miner.errors import DeviceFault
from miner.work import Work

Costs = dict[str, float]


@pytest.fixture
def contenders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[native.Form]:
    """Three forms, none of which was ever tried; their code is there already."""
    plain = native.supported()[-1]
    code = code_cache.recall(plain.name) or native.compile_form(plain)
    monkeypatch.setenv("NONCEFORGE_CACHE", str(tmp_path))
    found = [replace(plain, name=name) for name in ("first", "second", "third")]
    for form in found:
        code_cache.keep(form.name, code)
    monkeypatch.setattr(native, "contenders", lambda versions: found)
    return found


def pretend(monkeypatch: pytest.MonkeyPatch, costs: Costs) -> list[str]:
    """Trials that cost this, and the list of those that will be made."""
    made: list[str] = []

    def trial(search: native.Search, work: Work) -> float:
        made.append(search.form.name)
        return costs[search.form.name]

    monkeypatch.setattr(forms, "_trial", trial)
    return made


@pytest.mark.parametrize("versions", [1, 8])
def test_the_fastest_form_is_found(
    versions: int, contenders: list[native.Form], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pretend(monkeypatch, {"first": 3.0, "second": 1.0, "third": 2.0})
    assert forms.fastest(versions).form is contenders[1]
    assert forms.known(versions) == "second"
    assert made[:4] == ["first", "second", "third", "first"]
    assert "second" in devices()[0].description


def test_a_first_start_beside_a_neighbour_is_corrected_by_a_later_one(
    contenders: list[native.Form], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, {"first": 3.0, "second": 2.0, "third": 2.5})
    assert forms.fastest(8).form is contenders[1]
    pretend(monkeypatch, {"first": 1.0, "second": 1.9, "third": 2.5})
    assert forms.fastest(8).form is contenders[0]
    pretend(monkeypatch, {"first": 9.0, "second": 2.0, "third": 8.0})
    assert forms.fastest(8).form is contenders[0]


def test_after_the_first_starts_no_time_is_spent(
    contenders: list[native.Form], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pretend(monkeypatch, {"first": 3.0, "second": 1.0, "third": 2.0})
    for _ in range(forms.STARTS):
        forms.fastest(8)
    assert len(made) == forms.STARTS * forms.TRIALS * 3
    loaded: list[str] = []
    load = forms.load
    monkeypatch.setattr(forms, "load", lambda form: loaded.append(form.name) or load(form))
    assert forms.fastest(8).form is contenders[1]
    assert loaded == ["second"]
    assert len(made) == forms.STARTS * forms.TRIALS * 3


def test_one_and_several_versions_are_told_apart(
    contenders: list[native.Form], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, {"first": 3.0, "second": 1.0, "third": 2.0})
    forms.fastest(1)
    pretend(monkeypatch, {"first": 1.0, "second": 3.0, "third": 2.0})
    forms.fastest(8)
    assert (forms.known(1), forms.known(8)) == ("second", "first")


def test_a_form_that_is_new_is_tried_even_if_others_are_known(
    contenders: list[native.Form], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = contenders.pop()
    pretend(monkeypatch, {"first": 3.0, "second": 2.0})
    forms.fastest(8)
    contenders.append(new)
    pretend(monkeypatch, {"first": 3.0, "second": 2.0, "third": 1.0})
    assert forms.fastest(8).form is new


def test_a_form_that_llvm_refuses_is_passed_over(
    contenders: list[native.Form], monkeypatch: pytest.MonkeyPatch
) -> None:
    contenders[0] = replace(contenders[0], name="bad", lower=_broken)
    pretend(monkeypatch, {"second": 2.0, "third": 1.0})
    for _ in range(forms.STARTS + 1):
        assert forms.fastest(1).form is contenders[2]
    monkeypatch.setattr(native, "contenders", lambda versions: contenders[:1])
    with pytest.raises(DeviceFault, match=r"^LLVM cannot make the form bad: "):
        forms.fastest(1)


def test_trials_hash_for_real(contenders: list[native.Form]) -> None:
    costs = forms._try([forms.load(form) for form in contenders], 2)
    assert list(costs) == ["first", "second", "third"]
    assert all(1e-10 < cost < 1e-4 for cost in costs.values())


def test_a_form_without_one_for_crowded_cores_stands_alone(contenders: list[native.Form]) -> None:
    search = forms.load(contenders[0])
    assert forms.with_crowded(search) == (search,)


def test_the_form_for_crowded_cores_comes_second_or_not_at_all(
    contenders: list[native.Form], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "supported", lambda: contenders)
    search = forms.load(replace(contenders[0], crowded="third"))
    assert [code.form.name for code in forms.with_crowded(search)] == ["first", "third"]
    contenders[2] = replace(contenders[2], name="third", lower=_broken)
    monkeypatch.setattr(forms, "load", _refused)
    assert forms.with_crowded(search) == (search,)


def _broken(*_: object) -> None:
    raise OSError("out of order")


def _refused(form: native.Form) -> native.Search:
    raise DeviceFault("refused")
