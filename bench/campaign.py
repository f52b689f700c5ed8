"""One run of the benchmark: open, warm up, take turns, prove, and only then say how fast."""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from bench import machine
from bench.clock import measured_clock
from bench.ground import Ground
from bench.limit import limit_of
from bench.load import judge_health
from bench.measure import Candidate, Measurement, Plan
from bench.results import SCHEMA, Machine, Proof, Refused, Results, Row
from bench.spread import variation
from bench.trial import try_all
from miner.backends import Backend, devices, open_backend, self_test
from miner.errors import DeviceError, DeviceUnavailable

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
        progress(f"opening {setting.name}")
        started = time.perf_counter()
        try:
            device = open_backend(setting.name, threads=setting.threads)
        except DeviceError as error:
            refused.append(Refused(setting.name, str(error), failed=not isinstance(error, DeviceUnavailable)))
            continue
        gpu = gpus.get(setting.name, gpus.get(device.name, False))
        candidate = candidate_for(device, setting, gpu)
        candidate.open_seconds = time.perf_counter() - started
        opened.append(candidate)
    return opened, refused


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
    refused: Sequence[Refused] = (),
    progress: Progress = lambda text: None,
) -> Results:
    """Measure and prove the candidates, and close them. A device that fails comes back as refused."""
    started = time.perf_counter()
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    measurement = Measurement(plan, Ground(seed))
    try:
        for candidate in candidates:
            progress(f"warming up {candidate.name}")
            _warm_up(measurement, candidate)
        alive = [candidate for candidate in candidates if not candidate.fault]
        measurement.interleave(alive, lambda number: progress(f"round {number} of {plan.rounds}"))
        clock, _ = measured_clock()
        progress("proving")
        for candidate in candidates:
            _test_again(candidate)
        proofs = try_all(candidates, plan, seed)
        about = machine.machine(clock)
        rows = [_row(c, proof, about) for c, proof in zip(candidates, proofs, strict=True) if proof]
        failed = [Refused(c.name, c.fault, failed=True) for c in candidates if c.fault]
    finally:
        for candidate in candidates:
            with suppress(Exception):  # a broken device may fail to close, too
                candidate.device.close()
    return Results(
        schema=SCHEMA,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        mode=mode,
        seed=seed,
        seconds=time.perf_counter() - started,
        machine=about,
        rows=tuple(rows),
        refused=(*refused, *failed),
    )


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


def _row(candidate: Candidate, proof: Proof, about: Machine) -> Row:
    rates = [round.rate for round in candidate.rounds]
    health = judge_health(variation(rates), _others(candidate, about.cores), _throttled(candidate))
    limit, limit_reason = limit_of(candidate.device, candidate.threads, candidate.versions, about)
    return Row(
        backend=candidate.name,
        gpu=candidate.gpu,
        threads=candidate.threads,
        versions=candidate.versions,
        batch=candidate.batch,
        form=machine.form_of(candidate.device),
        kernel=machine.kernel_of(candidate.device),
        open_seconds=candidate.open_seconds,
        first_seconds=candidate.first_seconds,
        warmup=candidate.warmup,
        rounds=tuple(candidate.rounds),
        proof=proof,
        health=health.word,
        health_reason=health.reason,
        limit=limit,
        limit_reason=limit_reason,
        energy_reason=candidate.meter.reason if candidate.meter else "",
        sweep=candidate.sweep,
    )


def _others(candidate: Candidate, cores: int) -> float | None:
    """The share of the machine's processor time that others had during this candidate's rounds."""
    known = [seconds for seconds in candidate.others if seconds is not None]
    span = sum(round.seconds for round in candidate.rounds) * cores
    return sum(known) / span if len(known) == len(candidate.rounds) else None


def _throttled(candidate: Candidate) -> str:
    if candidate.slowdowns:
        return ", ".join(sorted(candidate.slowdowns))
    return f"slowed {candidate.throttles} times for its heat" if candidate.throttles else ""
