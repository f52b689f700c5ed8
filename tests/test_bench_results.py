"""A results file comes back as it was written, and says in one sentence what is wrong with it."""

import json
from dataclasses import replace

import pytest

from bench.results import dumps, loads
from tests.bench_samples import ABSENT, BROKEN, PROVEN, results, row


def test_a_run_comes_back_as_it_was_written():
    rows = row("python"), row("numba"), row("numba", threads=2, sweep="threads")
    run = results(*rows, refused=[ABSENT, BROKEN])
    assert loads(dumps(run)) == run


def test_every_field_that_is_missing_is_named():
    raw = json.loads(dumps(results()))
    for key in raw:
        cut = {name: value for name, value in raw.items() if name != key}
        with pytest.raises(ValueError, match=f"the file lacks '{key}'"):
            loads(json.dumps(cut))


FIRST = ("rows", 0, "rounds", 2, "scan_seconds", 1)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (FIRST, "fast", r'rows\[0\].rounds\[2\].scan_seconds\[1\] is "fast", not a number'),
        (FIRST, 0, r"rows\[0\].rounds\[2\]: scan_seconds 0.0 is not a finite number above 0"),
        (("rows", 1, "rounds", 0, "scan_hashes", 0), True, r"scan_hashes\[0\] is true, not a whole number"),
        (("rows", 1, "rounds", 0, "scan_hashes"), [1], r"rounds\[0\]: 1 scans have hashes, 6 have seconds"),
        (("rows", 1, "rounds", 0, "scan_hashes", 2), 0, "0 hashes: a scan has at least 1"),
        (("rows", 1, "rounds", 0, "yardsticks"), [[1, 2]], "6 scans cannot have 1 yardsticks"),
        (("rows", 1, "rounds", 0, "yardsticks", 3, 1), -1, "yardsticks -1.0 is not a finite number above 0"),
        (("rows", 1, "yardsticks"), ["sha3"], "a round with other yardsticks than its own, sha3"),
        (("rows", 1, "rounds"), [], r"rows\[1\]: \w+ has no rounds"),
        (("rows", 1, "health"), "fine", "health 'fine' is none of clean, noisy, throttled, shared"),
        (("rows", 1, "proof", "missing"), 2, "has rounds although its proof failed: 2 of 4,130"),
        (("machine", "cores"), None, "machine.cores is null, not a whole number"),
        (("machine", "versions"), [["python"]], r"machine.versions\[0\] has 1 items, not 2"),
        (("rows",), 5, "rows is 5, not a list"),
        (("machine",), [], r"machine is \[\], not an object"),
        (("colour",), "red", "the file has an unknown 'colour'"),
        (("schema",), 1, "schema 1 is not 3, the one that this version reads"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_place(path, value, sentence):
    raw = json.loads(dumps(results()))
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=sentence) as caught:
        loads(json.dumps(raw))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1,", "\x00", "[" * 100_000])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match="it is not JSON"):
        loads(text)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"text"'])
def test_json_that_is_no_run_is_refused(text):
    with pytest.raises(ValueError, match=r"the file is .*, not an object"):
        loads(text)


def test_not_a_number_is_no_number():
    text = dumps(results()).replace('"seconds": 60.0', '"seconds": NaN')
    with pytest.raises(ValueError, match="seconds is NaN, not a number"):
        loads(text)


def test_two_rows_of_one_label_are_refused():
    with pytest.raises(ValueError, match="two rows have one label"):
        results(row("numba"), row("numba"))


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("expected", 0, "nothing was proven"),
        ("missing", 1, "1 of 4,130 hits are missing"),
        ("extra", 3, "3 hits are false"),
        ("score", -5.1, "sigma off"),
        ("blocks_found", 3, "3 of 4 real blocks"),
        ("dense_missing", 9, "9 of 16,400 dense hits missing"),
        ("dense_extra", 2, "2 dense hits are false"),
    ],
)
def test_each_fault_of_a_proof_is_told(field, value, fault):
    assert PROVEN.faults == ()
    (text,) = replace(PROVEN, **{field: value}).faults
    assert fault in text


def test_a_row_knows_its_rate_spread_and_share():
    flat = row("numba", 60e6, noise=0.0, rounds=8)
    assert flat.rate.value == pytest.approx(60e6)
    assert flat.variation == pytest.approx(0, abs=1e-9)
    assert flat.share == pytest.approx(1 / 1.2)
    assert flat.joules_per_gigahash is None
    with_energy = replace(flat, rounds=tuple(replace(r, joules=9.0) for r in flat.rounds))
    assert with_energy.joules_per_gigahash == pytest.approx(9.0 / 18e6 * 1e9)
