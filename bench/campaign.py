"""One run of the benchmark: open, warm up, take turns, prove, and only then say how fast."""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from statistics import fmean, median
from typing import NamedTuple

from bench import machine
from bench.clock import measured_clock
from bench.ground import Ground
from bench.limit import form_in_use, limit_of
from bench.load import judge_health
from bench.measure import Candidate, Measurement, Plan
from bench.proof import combined
from bench.results import SCHEMA, Proof, Refused, Results, Row
from bench.spread import variation
from bench.trial import try_all
from miner.backends import Backend, devices, open_backend, self_test
from miner.errors import DeviceError, DeviceUnavailable
from miner.waiting import wait_for

Progress = Callable[[str], None]


class Setting(NamedTuple):
    """A device to measure, and how. None leaves it to the device or the plan."""

    name: str
    threads: int | None = None
    versions: int | None = None
    batch_seconds: float | None = None
    sweep: str = ""


def everything(
    threads: int | None = None, versions: int | None = None
) -> tuple[list[Setting], list[Refused]]:
    """A setting for each device that is there, and the reasons for those that are not."""
    infos = devices()
    there = [Setting(info.name, threads, versions) for info in infos if info.available]
    return there, [Refused(info.name, info.reason, failed=False) for info in infos if not info.available]


def open_all(settings: Iterable[Setting], progress: Progress) -> tuple[list[Candidate], list[Refused]]:
    """Open every device. ValueError for a name or a number that no device knows."""
    gpus = {info.name: info.gpu for info in devices()}
    opened: list[Candidate] = []
    refused = []
    for setting in settings:
        started = time.perf_counter()
        try:
            opening = partial(open_backend, setting.name, threads=setting.threads)
            device = wait_for(opening, partial(_opening, progress, setting.name))
        except DeviceError as error:
            refused.append(Refused(setting.name, str(error), failed=not isinstance(error, DeviceUnavailable)))
            continue
        gpu = gpus.get(setting.name, gpus.get(device.name, False))
        candidate = candidate_for(device, setting, gpu)
        candidate.open_seconds = time.perf_counter() - started
        opened.append(candidate)
    return opened, refused


def _opening(progress: Progress, name: str, seconds: float) -> None:
    progress(f"opening {name} ... {seconds:.0f} s")


def candidate_for(device: Backend, setting: Setting, gpu: bool = False) -> Candidate:
    """An open device in this setting."""
    return Candidate(
        device,
        setting.name,
        gpu=gpu,
        threads=getattr(device, "threads", None) or setting.threads or 1,
        versions=setting.versions or int(getattr(device, "siblings", 1)),
        sweep=setting.sweep,
        batch_seconds=setting.batch_seconds,
    )


def run(
    candidates: Sequence[Candidate],
    plan: Plan,
    *,
    mode: str,
    seed: int | None = None,
    repeats: int = 1,
    refused: Sequence[Refused] = (),
    progress: Progress = lambda text: None,
) -> Results:
    """Measure and prove the candidates, `repeats` times, and close them.

    A device that fails once comes back as refused, without a rate.
    """
    started = time.perf_counter()
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    proofs: list[list[Proof]] = [[] for _ in candidates]
    try:
        for repeat in range(repeats):
            measurement = Measurement(plan, Ground(seed + repeat))
            _measure(measurement, candidates, progress)
            clock, _ = measured_clock()
            progress("proving")
            for found, proof in zip(proofs, _prove(measurement, candidates), strict=True):
                found += [proof] if proof else []
        about = machine.machine(clock)
        rows = [_row(c, p) for c, p in zip(candidates, proofs, strict=True) if not c.fault]
    finally:
        for candidate in candidates:
            with suppress(Exception):  # a broken device may fail to close, too
                candidate.device.close()
    failed = [Refused(c.name, c.fault, failed=True) for c in candidates if c.fault]
    return Results(
        schema=SCHEMA,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        mode=mode,
        seed=seed,
        seconds=time.perf_counter() - started,
        machine=about,
        rows=tuple(rows),
        refused=(*refused, *failed),
        notes=tuple(note for c in candidates if repeats > 1 and not c.fault for note in drift_notes(c)),
    )


def _measure(measurement: Measurement, candidates: Sequence[Candidate], progress: Progress) -> None:
    for candidate in candidates:
        if not candidate.fault and not candidate.rounds:
            progress(f"warming up {candidate.name}")
            _warm_up(measurement, candidate)
    alive = [candidate for candidate in candidates if not candidate.fault]
    rounds = measurement.plan.rounds
    measurement.interleave(alive, lambda number: progress(f"round {number} of {rounds}"))


def _prove(measurement: Measurement, candidates: Sequence[Candidate]) -> list[Proof | None]:
    for candidate in candidates:
        _test_again(candidate)
    proofs = try_all(candidates, measurement.plan, measurement.ground.seed)
    for candidate in candidates:
        candidate.scans.clear()
    return proofs


def drift_notes(candidate: Candidate) -> list[str]:
    """How a long run ended compared with how it began."""
    count = max(1, len(candidate.rounds) // 10)
    speed = [round.relative for round in candidate.rounds]
    drift = median(speed[-count:]) / median(speed[:count]) - 1
    what = "" if candidate.gpu else ", against the yardsticks"
    notes = [f"{candidate.name}: the last tenth of the rounds was {drift:+.1%} to the first{what}"]
    if candidate.temperatures:
        first, most = candidate.temperatures[0], max(candidate.temperatures)
        notes.append(f"{candidate.name}: {first:.0f} degrees Celsius at first, {most:.0f} at most")
    return notes


def _warm_up(measurement: Measurement, candidate: Candidate) -> None:
    try:
        measurement.warm_up(candidate)
    except Exception as error:  # noqa: BLE001 - a device may raise anything; the others go on
        candidate.fault = f"it raised {error!r:.200} while it warmed up"


def _test_again(candidate: Candidate) -> None:
    """The self-test that every device passed when it was opened, now that it is hot."""
    try:
        if not candidate.fault:
            self_test(candidate.device)
    except Exception as error:  # noqa: BLE001 - the same
        candidate.fault = str(error) or repr(error)


def _row(candidate: Candidate, proofs: Sequence[Proof]) -> Row:
    rates = [round.rate for round in candidate.rounds]
    health = judge_health(
        variation(rates),
        _mean(round.others for round in candidate.rounds),
        None if candidate.gpu else _mean(round.waited for round in candidate.rounds),
        _throttled(candidate),
    )
    limit, limit_reason = limit_of(candidate)
    form = form_in_use(candidate.device, candidate.versions)
    return Row(
        backend=candidate.name,
        gpu=candidate.gpu,
        threads=candidate.threads,
        versions=candidate.versions,
        batch=candidate.batch,
        form=form.name if form else machine.form_of(candidate.device),
        kernel=machine.kernel_of(candidate.device),
        open_seconds=candidate.open_seconds,
        first_seconds=candidate.first_seconds,
        warmup=candidate.warmup,
        yardsticks=candidate.yardsticks,
        rounds=tuple(candidate.rounds),
        proof=combined(proofs),
        health=health.word,
        health_reason=health.reason,
        limit=limit,
        limit_reason=limit_reason,
        energy_reason=candidate.meter.reason if candidate.meter else "",
        sweep=candidate.sweep,
    )


def _mean(shares: Iterable[float | None]) -> float | None:
    """Of all rounds; None if it is unknown of any."""
    known = list(shares)
    return None if None in known or not known else fmean(share or 0.0 for share in known)


def _throttled(candidate: Candidate) -> str:
    if candidate.slowdowns:
        return ", ".join(sorted(candidate.slowdowns))
    return f"slowed {candidate.throttles} times for its heat" if candidate.throttles else ""
