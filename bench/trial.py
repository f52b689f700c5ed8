"""All devices of a run are proven, by each other and by hashlib."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from bench.ground import target_of
from bench.measure import Candidate, Plan
from bench.oracle import HASHLIB_RATE, Density, Oracle, OracleCaught, choose, dense_check
from bench.proof import check_shape, dense_windows, prove
from bench.results import Proof
from miner.backends import Backend, open_backend
from miner.errors import DeviceError, DeviceFault
from miner.work import Span, Work

HELPERS = ("numba", "numpy")
"""Devices opened for the proof alone, if the measured ones are too few or too slow; best first."""


def try_all(candidates: Sequence[Candidate], plan: Plan, seed: int) -> list[Proof | None]:
    """A proof for each candidate that did its work; None for the others, which then have a fault."""
    densities = [_density(candidate, plan, seed) for candidate in candidates]
    oracles = [Oracle()]
    for candidate, density in zip(candidates, densities, strict=True):
        if not candidate.fault and density == Density(density.expected, 0, 0):
            oracles.append(Oracle(candidate.device, candidate.rate))
    helper = _helper(candidates, oracles, plan, seed)
    oracles += [helper] if helper else []
    try:
        return [_proof(c, oracles, d, plan, seed) for c, d in zip(candidates, densities, strict=True)]
    finally:
        if helper and helper.device:
            helper.device.close()


def _density(candidate: Candidate, plan: Plan, seed: int) -> Density:
    if candidate.fault:
        return Density(0, 0, 0)
    try:
        check_shape(candidate.scans)
        return dense_check(candidate.device, dense_windows(candidate.scans, seed, plan.windows))
    except DeviceFault as error:
        candidate.fault = str(error)
        return Density(0, 0, 0)
    except Exception as error:  # noqa: BLE001 - a device may raise anything; the others go on
        candidate.fault = f"it raised {error!r:.200} in a window of its own range"
        return Density(0, 0, 0)


def _proof(
    candidate: Candidate, oracles: list[Oracle], dense: Density, plan: Plan, seed: int
) -> Proof | None:
    if candidate.fault:
        return None
    hashes = sum(scan.span.hashes for scan in candidate.scans)
    kind = candidate.device.name.partition(":")[0]
    while True:
        oracle, coverage = choose(oracles, kind, hashes, plan.proof_seconds)
        try:
            proof = prove(candidate.scans, oracle, coverage, dense, seed)
        except OracleCaught:
            oracles.remove(oracle)  # never hashlib, so there is always one left
            continue
        except Exception as error:  # noqa: BLE001 - the oracle is a device too, and a device may raise anything
            if oracle.device is None or oracle.device is candidate.device or isinstance(error, DeviceFault):
                candidate.fault = str(error) or repr(error)
                return None
            oracles.remove(oracle)
            continue
        candidate.fault = "; ".join(proof.faults)
        if oracle.kind == kind:
            proof = replace(proof, reference=f"{kind} again, itself proven by hashlib")
        return None if proof.faults else proof


def _helper(
    candidates: Sequence[Candidate], oracles: Sequence[Oracle], plan: Plan, seed: int
) -> Oracle | None:
    """One more oracle, if some candidate could be judged by itself or by a glimpse only."""
    alive = [candidate for candidate in candidates if not candidate.fault]
    kinds = {oracle.kind for oracle in oracles}
    if not any(_wanting(candidate, oracles, plan) for candidate in alive):
        return None
    for name in HELPERS:
        with suppress(DeviceError):
            if name not in kinds:
                device = open_backend(name)
                if dense_check(device, dense_windows(alive[0].scans, seed, plan.windows))[1:] == (0, 0):
                    return Oracle(device, _rate(device, alive[0].scans[0].span))
                device.close()
    return None


def _wanting(candidate: Candidate, oracles: Sequence[Oracle], plan: Plan) -> bool:
    hashes = sum(scan.span.hashes for scan in candidate.scans)
    kind = candidate.device.name.partition(":")[0]
    rates = [oracle.rate for oracle in oracles if oracle.kind != kind]
    return hashes > max([*rates, HASHLIB_RATE]) * plan.proof_seconds / 2


def _rate(device: Backend, span: Span) -> float:
    """H/s of one scan, to know how much to ask."""
    nonces = range(1 << 20)
    started = time.perf_counter()
    device.scan(Work(span.work.header, target_of(32)), nonces)
    return len(nonces) / (time.perf_counter() - started)
