"""What a benchmark run leaves behind: frozen values, and the JSON file that holds them.        (pure)

docs/bench.md documents every field. The rounds as measured are the truth; medians, intervals and
shares are worked out from them wherever they are shown, so no file can contradict itself.
"""

import json
import math
import re
from dataclasses import dataclass
from operator import truediv
from statistics import geometric_mean, median

from bench.decode import decode, encode
from bench.spread import Interval, median_interval, outliers, variation

SCHEMA = 3
"""Version of the JSON layout. A change of meaning or a removed field raises it."""

HEALTHS = ("clean", "noisy", "throttled", "shared")
"""What can be said about the circumstances of a row, from best to worst."""


@dataclass(frozen=True, slots=True)
class Round:
    """One timed round of one device: a series of scans."""

    scan_hashes: tuple[int, ...]
    scan_seconds: tuple[float, ...]
    """Wall time of each scan, the making of its work included."""
    yardsticks: tuple[tuple[float, ...], ...] = ()
    """Around each scan: how fast each of the row's yardsticks was, in passes per second of processor time, on
    as many threads as the device has; the mean of just before and just after. None for a card."""
    waited: float | None = None
    """Share of its time that the device's threads waited for a processor, 0 ... 1; null if unknown."""
    others: float | None = None
    """Share of the machine's processor time that others had, 0 ... 1; null if unknown."""
    joules: float | None = None
    """Of the scans, by the package's or card's own energy counter."""

    def __post_init__(self) -> None:
        scans = len(self.scan_hashes)
        if not scans or scans != len(self.scan_seconds):
            raise ValueError(f"{scans} scans have hashes, {len(self.scan_seconds)} have seconds")
        if min(self.scan_hashes) < 1:
            raise ValueError(f"{min(self.scan_hashes)} hashes: a scan has at least 1")
        if self.yardsticks and len(self.yardsticks) != scans:
            raise ValueError(f"{scans} scans cannot have {len(self.yardsticks)} yardsticks")
        for name, values in (
            ("scan_seconds", self.scan_seconds),
            *(("yardsticks", v) for v in self.yardsticks),
        ):
            for value in values:
                if not 0 < value < math.inf:
                    raise ValueError(f"{name} {value} is not a finite number above 0")
        for name in ("waited", "others"):
            share = getattr(self, name)
            if share is not None and not 0 <= share < 1:
                raise ValueError(f"{name} {share} is outside 0 ... 1")

    @property
    def hashes(self) -> int:
        """In all its scans."""
        return sum(self.scan_hashes)

    @property
    def seconds(self) -> float:
        """Wall time of all its scans."""
        return sum(self.scan_seconds)

    @property
    def rate(self) -> float:
        """H/s."""
        return self.hashes / self.seconds

    @property
    def scan_rates(self) -> tuple[float, ...]:
        """H/s of each scan."""
        return tuple(map(truediv, self.scan_hashes, self.scan_seconds))

    @property
    def relative(self) -> float:
        """The rate without the waiting, over the geometric mean of the yardsticks; for a card the rate."""
        if not self.yardsticks:
            return self.rate
        speeds = [value for values in self.yardsticks for value in values]
        return self.rate / (1 - (self.waited or 0.0)) / geometric_mean(speeds)


@dataclass(frozen=True, slots=True)
class Proof:
    """What has been checked about the scans that were timed (docs/bench.md, "Proof")."""

    hits: int
    """Hits that the timed scans returned."""
    expected: int
    """Hits that the reference knows of in the checked part of the timed ranges."""
    missing: int
    """Of those, not returned."""
    extra: int
    """Returned, but false, outside the range, unsorted or twice."""
    checked: float
    """Share of the timed hashes whose complete hit set the reference knows: 0 ... 1."""
    reference: str
    """Who knew it: "hashlib", or a device that had to prove itself against hashlib first."""
    score: float
    """Standard deviations between the number of hits and the Poisson distribution's mean."""
    blocks: int
    """Real blocks that lay in the timed ranges."""
    blocks_found: int
    dense_expected: int
    """Hits that hashlib knows of in windows of the timed ranges, scanned again at a dense target."""
    dense_missing: int
    dense_extra: int

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, a sentence each; empty for a device that can be believed."""
        return tuple(
            text
            for wrong, text in (
                (self.expected == 0, "no hit was expected, so nothing was proven"),
                (self.missing, f"{self.missing:,} of {self.expected:,} hits are missing"),
                (self.extra, f"{self.extra:,} hits are false, repeated or out of order"),
                (abs(self.score) > MAX_SCORE, f"{self.hits:,} hits are {self.score:+.1f} sigma off"),
                (self.blocks_found < self.blocks, f"{self.blocks_found} of {self.blocks} real blocks found"),
                (self.dense_missing, f"{self.dense_missing:,} of {self.dense_expected:,} dense hits missing"),
                (self.dense_extra, f"{self.dense_extra:,} dense hits are false"),
            )
            if wrong
        )

    def __str__(self) -> str:
        found = self.expected - self.missing
        return f"{found:,}/{self.expected:,} hits, {self.missing:,} missing, {self.extra:,} extra"


MAX_SCORE = 5.0
"""Standard deviations: a sound device exceeds it once in 1.7 million runs."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What the hardware could do at most, by a model."""

    rate: float
    """H/s."""
    model: str
    """One line: which instructions, which clock."""

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"rate {self.rate} is not a finite number above 0")


@dataclass(frozen=True, slots=True)
class Row:
    """One device in one setting, measured and proven."""

    backend: str
    """The name that `open_backend` takes."""
    gpu: bool
    """Whether it is a card of its own, whose speed the CPU's does not tell."""
    threads: int
    versions: int
    """Sibling headers per scan (BIP 320)."""
    batch: int
    """Hashes per scan."""
    form: str
    """How the kernel was lowered, or what hashes in its place."""
    kernel: str
    """First 16 hex digits of the SHA-256 of the device's kernel and its code."""
    open_seconds: float
    """From `open_backend` to a device that has passed its self-test, compilation included."""
    first_seconds: float
    """The first scan after that."""
    warmup: int
    """Scans before the first round."""
    yardsticks: tuple[str, ...]
    """What was timed beside its scans (bench.yardstick)."""
    rounds: tuple[Round, ...]
    proof: Proof
    health: str
    """clean, noisy, throttled or shared."""
    health_reason: str
    limit: Limit | None
    limit_reason: str
    """Why there is no limit; empty if there is one."""
    energy_reason: str
    """Why the rounds have no joules; empty if they have."""
    sweep: str = ""
    """"threads", "versions" or "batch" for a row that only serves that comparison."""

    def __post_init__(self) -> None:
        if not self.rounds:
            raise ValueError(f"{self.backend} has no rounds")
        if any(len(values) != len(self.yardsticks) for r in self.rounds for values in r.yardsticks):
            names = ", ".join(self.yardsticks) or "none"
            raise ValueError(f"{self.backend} has a round with other yardsticks than its own, {names}")
        if self.health not in HEALTHS:
            raise ValueError(f"health {self.health!r} is none of {', '.join(HEALTHS)}")
        for name in ("threads", "versions", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is less than 1")
        if self.proof.faults:
            raise ValueError(f"{self.backend} has rounds although its proof failed: {self.proof.faults[0]}")

    @property
    def label(self) -> str:
        """What tells this row from the others of its run."""
        value = getattr(self, self.sweep) if self.sweep else 0
        return f"{self.backend} {self.sweep}={value}" if self.sweep else self.backend

    @property
    def threaded(self) -> bool:
        """Whether `threads` means anything: OpenCL's own threads are not ours to count."""
        return not self.gpu and not self.backend.startswith("opencl")

    @property
    def rates(self) -> tuple[float, ...]:
        """H/s of each round, in the order of time."""
        return tuple(round.rate for round in self.rounds)

    @property
    def rate(self) -> Interval:
        """Median H/s with its 95 % interval."""
        return median_interval(self.rates)

    @property
    def variation(self) -> float:
        """Coefficient of variation of the rounds' rates."""
        return variation(self.rates)

    @property
    def outliers(self) -> int:
        """Rounds that lie implausibly far from the median; they stay in the figures."""
        return len(outliers(self.rates))

    @property
    def share(self) -> float | None:
        """Rate over modelled limit."""
        return self.rate.value / self.limit.rate if self.limit else None

    @property
    def joules_per_gigahash(self) -> float | None:
        """Median over the rounds; None if any round has no energy reading."""
        found = [round.joules / round.hashes * 1e9 for round in self.rounds if round.joules is not None]
        return median(found) if len(found) == len(self.rounds) else None


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One device under the engine, on real jobs: what is left of its rate, and how fast it stops."""

    backend: str
    seconds: float
    """Wall time of the engine's turns, from the first job to the last hash."""
    hashes: int
    """Counted by the engine."""
    alone: float
    """H/s of the device without the engine, in turns between the engine's."""
    shares: int
    """Accepted."""
    expected_shares: float
    """By the hashes counted and the share target."""
    stops: int
    """New tips that the device had to notice."""
    stop_median: float
    """Seconds from a new tip to the last hash on the old one."""
    stop_worst: float

    @property
    def rate(self) -> float:
        """H/s."""
        return self.hashes / self.seconds

    @property
    def duty(self) -> float:
        """Rate under the engine over rate alone."""
        return self.rate / self.alone


@dataclass(frozen=True, slots=True)
class Refused:
    """A device without a rate, and why: it is not there, or it failed its proof."""

    backend: str
    reason: str
    failed: bool
    """True for a device that was there and did not do its work."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures belong to. Empty texts: unknown."""

    cpu: str
    cores: int
    """Logical processors that this process may use."""
    features: tuple[str, ...]
    """The CPU's instruction set extensions that matter to hashing."""
    governor: str
    clock: float | None
    """GHz of one core, measured by a chain of dependent instructions."""
    system: str
    gpus: tuple[str, ...]
    """Name, UUID, driver, clocks and power limit of each."""
    versions: tuple[tuple[str, str], ...]
    """Python and the packages that hash."""
    commit: str
    dirty: bool | None
    """Whether the working tree differed from the commit; None without one."""

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """Equal for two runs whose rates may be compared."""
        return (self.cpu, self.cores, tuple(gpu.split(",")[0] for gpu in self.gpus))


@dataclass(frozen=True, slots=True)
class Results:
    """One run of the benchmark."""

    schema: int
    created: str
    """ISO 8601, UTC."""
    mode: str
    """quick, default, stress, ..."""
    seed: int
    """Headers and ranges follow from it."""
    seconds: float
    """The whole run, from the first device opened to the last proof."""
    machine: Machine
    rows: tuple[Row, ...]
    refused: tuple[Refused, ...]
    engine: tuple[EngineRow, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema {self.schema} is not {SCHEMA}, the one that this version reads")
        labels = [row.label for row in self.rows]
        if len(set(labels)) != len(labels):
            raise ValueError(f"two rows have one label among {', '.join(labels)}")

    @property
    def main_rows(self) -> tuple[Row, ...]:
        """One per device, slowest first: sweeps left out."""
        return tuple(sorted((r for r in self.rows if not r.sweep), key=lambda row: row.rate.value))

    @property
    def failed(self) -> tuple[Refused, ...]:
        """Devices that were there and did not do their work: the run is not verified."""
        return tuple(refused for refused in self.refused if refused.failed)

    def row(self, label: str) -> Row | None:
        """The row of that label, if there is one."""
        return next((row for row in self.rows if row.label == label), None)


def dumps(results: Results) -> str:
    """The file's text: indented JSON, lists of numbers on a line, one trailing newline."""
    text = json.dumps(encode(results), indent=1, ensure_ascii=False, allow_nan=False)
    return _NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n"


_NUMBERS = re.compile(r"\[[\s\d.,e+-]+\]")
"""A list of nothing but numbers; no text of ours looks like one that has a line break in it."""


def loads(text: str) -> Results:
    """A run from a file's text; ValueError in one sentence for anything else."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    # The version comes first: a later file may lack or hold anything.
    if isinstance(raw, dict) and type(raw.get("schema")) is int and raw["schema"] != SCHEMA:
        raise ValueError(f"schema {raw['schema']} is not {SCHEMA}, the one that this version reads")
    return decode(Results, raw)
