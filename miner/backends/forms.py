"""Which form of the CPU's code is fastest here: tried at the first starts, and kept on disk with the code.

A neighbour on the core's other hyperthread may slow one form and not another, for longer than a trial lasts:
one start alone was seen to keep a form of 30 MH/s where another does 49. So several starts try, and the best
that a form has ever done counts: nothing but noise makes it slower.
"""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Final

from miner.backends.thread_clock import thread_seconds
from miner.errors import DeviceFault
from miner.work import Work

if TYPE_CHECKING:
    from kernels.native import Form, Search

_log = logging.getLogger(__name__)

STARTS: Final = 8
"""So many starts try all forms, 0.1 s each; later ones believe what is kept."""

TRIALS: Final = 8
"""Of each form at a start, in turn; the best counts."""

TRIAL_HASHES: Final = 1 << 17
"""One trial is some 3 ms."""

SIBLINGS: Final = 8
"""Versions per work: each shares the first schedule with the others. 16 would gain another half per cent."""


def load(form: "Form") -> "Search":
    """A form's code. DeviceFault if LLVM refuses it."""
    from kernels import native

    def compiling(name: str) -> None:
        _log.warning("numba: compiling %s for this CPU; the next start will find it done", name)

    try:
        return native.load_form(form, compiling)
    except (RuntimeError, ValueError, OSError) as error:
        raise DeviceFault(f"LLVM cannot make the form {form.name}: {error}") from error


def fastest(versions: int) -> "Search":
    """The form that is fastest here for so many versions. DeviceFault if LLVM refuses all of them."""
    from kernels import native

    contenders = native.contenders(versions)
    starts, costs = _recall(versions)
    if starts < STARTS:
        searches = _loaded(contenders)
        for name, cost in _try(searches, 1 if versions == 1 else SIBLINGS).items():
            costs[name] = min(cost, costs.get(name, inf))
        _keep(versions, starts + 1, costs)
        return min(searches, key=lambda search: costs.get(search.form.name, inf))
    return load(min(contenders, key=lambda form: costs.get(form.name, inf)))


def known(versions: int) -> str:
    """The name of the form that did best so far; empty if none was tried."""
    _, costs = _recall(versions)
    return min(costs, key=lambda name: costs[name], default="")


def with_crowded(search: "Search") -> "tuple[Search, ...]":
    """The code, and the one for crowded cores if its form has one; one that LLVM refuses is none."""
    from kernels import native

    with suppress(DeviceFault):
        return (search, *(load(form) for form in native.supported() if form.name == search.form.crowded))
    return (search,)


def _loaded(forms: Sequence["Form"]) -> list["Search"]:
    searches, faults = [], []
    for form in forms:
        try:
            searches.append(load(form))
        except DeviceFault as fault:
            faults.append(fault)
    if not searches:
        raise faults[-1]
    return searches


def _try(searches: list["Search"], versions: int) -> dict[str, float]:
    """Seconds per hash of each form, by its name: the best of its trials."""
    work = Work(bytes(80), 0, tuple(range(versions)))
    costs = {search.form.name: inf for search in searches}
    for _ in range(TRIALS):
        for search in searches:  # in turn, so that a busy moment of the machine meets all of them
            costs[search.form.name] = min(costs[search.form.name], _trial(search, work))
    return costs


def _trial(search: "Search", work: Work) -> float:
    """Seconds of this thread per hash."""
    from kernels.native import Entries

    versions, entries = len(work.versions), Entries()
    words, nonces = search.words(work.midstates, work.tail), range(TRIAL_HASHES // len(work.versions))
    start = thread_seconds()
    search.candidates(words, versions, nonces, 0xFFFFFFFF, entries)
    return (thread_seconds() - start) / (len(nonces) * versions)


def _name(versions: int) -> str:
    return "trials-single" if versions == 1 else "trials"


def _recall(versions: int) -> tuple[int, dict[str, float]]:
    """How many starts have tried, and the best cost of each form. What is kept is whole, or not there."""
    from kernels import code_cache

    kept = json.loads(code_cache.recall(_name(versions)) or "[0, {}]")
    return kept[0], kept[1]


def _keep(versions: int, starts: int, costs: dict[str, float]) -> None:
    from kernels import code_cache

    code_cache.keep(_name(versions), json.dumps([starts, costs]).encode())
