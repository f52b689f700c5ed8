"""What `python -m bench` measures, from its options."""

import argparse
import sys
import time
from dataclasses import replace

from rich.console import Console

from bench import campaign, endtoend, machine, sweep
from bench.campaign import Setting
from bench.ground import Ground
from bench.measure import DEFAULT, QUICK, Candidate, Measurement, Plan
from bench.results import EngineRow, Refused, Results
from bench.trial import try_all
from miner.errors import MinerError

SWEPT = "numba"
"""The backend whose scaling by threads a default run shows, too."""


def session(arguments: argparse.Namespace) -> Results:
    """Measure what the options ask for. ValueError for a backend or number that cannot be."""
    console = Console(stderr=True)
    settings, absent = _settings(arguments)
    with console.status("starting") if sys.stderr.isatty() else _Silence() as status:
        progress = status.update
        candidates, refused = campaign.open_all(settings, progress)
        if arguments.end_to_end:
            return _end_to_end(candidates, arguments, progress, [*absent, *refused])
        plan = QUICK if arguments.quick else DEFAULT
        if arguments.stress:
            plan = _minute(plan, len(candidates))
        return campaign.run(
            candidates,
            plan,
            mode="stress" if arguments.stress else "quick" if arguments.quick else "default",
            seed=arguments.seed,
            repeats=arguments.stress or 1,
            refused=[*absent, *refused],
            progress=progress,
        )


class _Silence:
    """Progress for nobody: a pipe or a file."""

    def __enter__(self) -> "_Silence":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, text: str) -> None:
        """Say nothing."""


def _settings(arguments: argparse.Namespace) -> tuple[list[Setting], list[Refused]]:
    if arguments.backend:
        absent: list[Refused] = []
        settings = [Setting(name, arguments.threads, arguments.versions) for name in arguments.backend]
    else:
        settings, absent = campaign.everything(None, arguments.versions)
        # python and numpy run on one thread, whatever the others do.
        settings = [_with_threads(setting, arguments.threads) for setting in settings]
    names = [setting.name for setting in settings]
    cores = machine.cores()
    if arguments.sweep:
        settings += sweep.settings(arguments.sweep, names, cores)
    elif cores > 1 and SWEPT in names and not (arguments.quick or arguments.stress or arguments.threads):
        settings += [] if arguments.end_to_end else sweep.settings("threads", [SWEPT], cores)
    return settings, absent


def _with_threads(setting: Setting, threads: int | None) -> Setting:
    return setting._replace(threads=threads) if setting.name in sweep.THREADED else setting


def _minute(plan: Plan, candidates: int) -> Plan:
    """Rounds that fill most of a minute; the rest of it goes to the proof."""
    rounds = int(45 / max(1, candidates) / (plan.round_seconds * 1.3))
    return replace(plan, rounds=max(4, rounds))


def _end_to_end(
    candidates: list[Candidate],
    arguments: argparse.Namespace,
    progress: campaign.Progress,
    refused: list[Refused],
) -> Results:
    """Engine and device in turn, for each device; the rounds alone are proven like all others."""
    plan, started = endtoend.plan(), time.perf_counter()
    empty = campaign.run([], plan, mode="end-to-end", seed=arguments.seed, refused=refused)
    engine: list[EngineRow] = []
    failed: list[Refused] = []
    for candidate in candidates:
        try:
            measurement = Measurement(plan, Ground(empty.seed))
            measurement.warm_up(candidate)
            row = endtoend.end_to_end(candidate, measurement, progress)
            try_all([candidate], plan, empty.seed)
            if candidate.fault:
                failed.append(Refused(candidate.name, candidate.fault, failed=True))
            else:
                engine.append(row)
        except MinerError as error:
            failed.append(Refused(candidate.name, str(error), failed=True))
        finally:
            candidate.device.close()
    seconds = time.perf_counter() - started
    return replace(empty, seconds=seconds, engine=tuple(engine), refused=(*empty.refused, *failed))
