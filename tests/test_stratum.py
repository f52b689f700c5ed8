"""The Stratum session against recorded pools, against hostile ones, and against any bytes at all.

The transcripts hold every line of real sessions with two pools (ckpool-lhr and the skaisser fork)
and of a real miner (cpuminer) with one of them; `stratum_shares.json` rebuilds their shares.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miner.errors import LocalProtocolError, RuleError
from miner.header import display_hex
from miner.stratum import ANSWER_SECONDS, MAX_BAD_LINES, MAX_PENDING, Session
from miner.stratum_events import Authorized, Dropped, Event, Judged, Moved, Note, State
from miner.stratum_jobs import MAX_JOBS, JobRefused, NewJob
from miner.stratum_params import Redirect
from miner.stratum_wire import MAX_LINE, Answer, rule
from miner.target import difficulty_to_target
from miner.work import Hit, Job, Outcome, Share, Work

VECTORS = Path(__file__).parent / "vectors"
SHARES = [s for s in json.loads((VECTORS / "stratum_shares.json").read_text()) if "header" in s]
HARDWARE = json.loads((VECTORS / "stratum_hardware_share.json").read_text())
TRANSCRIPTS = sorted((VECTORS / "transcripts").glob("*.jsonl"))
NOTIFY = SHARES[0]["notify"]  # a real job of ckpool-lhr on regtest
USER, PASSWORD = "mh5CE8Nbj38iND267s4XnvhSmhDW7yWc6Q.w1", "correct horse"

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine


def line(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


def call(method: str, params: object, id: object = None) -> bytes:
    return line({"id": id, "method": method, "params": params})


def answer(id: object, result: object, error: object = None, **more: object) -> bytes:
    return line({"id": id, "result": result, "error": error, **more})


def sent(session: Session) -> list[dict]:
    return [json.loads(text) for text in session.outgoing().splitlines()]


def kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]


def started(**options: object) -> Session:
    """A session that has sent its configure (1) and subscribe (2)."""
    session = Session(USER, PASSWORD, **options)
    session.start(0.0)
    session.outgoing()
    return session


SUBSCRIBED = answer(2, [[["mining.notify", "6b02edd2"]], "d2ed026b", 8])
CONFIGURED = answer(1, {"version-rolling": True, "version-rolling.mask": "1fffe000"})
AUTHORIZED = answer(3, True)
EASY = call("mining.set_difficulty", [2.0**-31])


def mining() -> Session:
    """A session that mines at a difficulty that every other hash meets; versions may be rolled."""
    session = started()
    events = session.receive(CONFIGURED + SUBSCRIBED + AUTHORIZED + EASY, 0.0)
    assert Authorized in kinds(events)
    session.outgoing()
    return session


def job_of(events: list[Event]) -> Job:
    return next(event.job for event in events if isinstance(event, NewJob))


def a_share(job: Job, versions: tuple[int, ...] = ()) -> Share:
    work = job.work(1, job.time, versions or (job.version,))
    for nonce in range(1000):
        with suppress(RuleError):
            return Share(work, nonce, work.versions[-1])
    raise AssertionError("no share in 1000 easy hashes")


def work_of(job: Job, submit: list[str]) -> tuple[Work, int, int]:
    """The work, nonce and extranonce that a recorded mining.submit describes."""
    _, _, extranonce2, time, nonce, *bits = submit
    version = job.version
    if bits:  # BIP 310: nVersion = (job_version & ~last_mask) | (version_bits & last_mask)
        version = version & ~0x1FFFE000 | int(bits[0], 16) & 0x1FFFE000
    extranonce = int(extranonce2, 16)
    return job.work(extranonce, int(time, 16), (version,)), int(nonce, 16), extranonce


def share_from(job: Job, submit: list[str]) -> Share:
    work, nonce, _ = work_of(job, submit)
    return Share(work, nonce, work.versions[0])


# -- recorded shares -------------------------------------------------------------------------------------


def session_of(vector: dict) -> tuple[Session, Job]:
    """A session brought to where the share was found."""
    session = started()
    session.receive(CONFIGURED + answer(2, [[], vector["extranonce1"], vector["extranonce2_size"]]), 0.0)
    session.receive(AUTHORIZED + call("mining.set_difficulty", [vector["difficulty"]]), 0.0)
    session.outgoing()
    return session, job_of(session.receive(call("mining.notify", vector["notify"]), 0.0))


def well_formed(vector: dict) -> bool:
    """Whether the submission is one that a correct miner may send, taken by the pool or not."""
    _, _, extranonce2, *words = vector["submit"]
    whole_words = all(isinstance(word, str) and len(word) == 8 for word in words)
    outside_mask = len(words) > 2 and int(words[2], 16) & ~0x1FFFE000
    return len(extranonce2) == 2 * vector["extranonce2_size"] and whole_words and not outside_mask


FORMED = [*filter(well_formed, SHARES), *HARDWARE]


@pytest.mark.parametrize("vector", FORMED, ids=lambda v: v["hash"][:16])
def test_a_recorded_submission_rebuilds_to_its_coinbase_and_header(vector):
    _, job = session_of(vector)
    work, nonce, extranonce = work_of(job, vector["submit"])
    assert job.coinbase(extranonce).hex() == vector["coinbase"]
    assert display_hex(job.merkle_root(extranonce)) == vector["merkle_root"]
    assert work.header_of(Hit(nonce, work.versions[0])).hex() == vector["header"]


@pytest.mark.parametrize(
    "vector", [v for v in FORMED if v.get("verdict", True)], ids=lambda v: v["hash"][:16]
)
def test_an_accepted_share_becomes_the_very_submission_that_was_recorded(vector):
    session, job = session_of(vector)
    share = share_from(job, vector["submit"])
    assert share.hash_hex == vector["hash"]
    assert share.difficulty == pytest.approx(vector["share_difficulty"])
    session.submit(share, 0.0)
    (request,) = sent(session)
    assert request["params"][1:5] == [text.lower() for text in vector["submit"][1:5]]
    if len(vector["submit"]) > 5:
        assert request["params"][5] == vector["submit"][5]


def test_the_recording_holds_accepted_shares_of_both_kinds_and_rejected_ones():
    accepted = [v for v in FORMED if v.get("verdict", True)]
    assert len(accepted) == 17
    assert {len(v["submit"]) for v in accepted} == {5, 6}
    assert len(FORMED) > len(accepted)


# -- recorded sessions -----------------------------------------------------------------------------------


def connections(path: Path) -> Iterator[list[dict]]:
    """The lines of each connection that got as far as a job, in order."""
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    for number in sorted({entry["conn"] for entry in lines} - {0}):
        own = [entry for entry in lines if entry["conn"] == number and entry["line"] is not None]
        if any('"mining.notify"}' in entry["line"] for entry in own):
            yield own


RECORDED = [(path.stem, own) for path in TRANSCRIPTS for own in connections(path)]


class Replay:
    """Plays a pool's recorded lines to a session; their ids become those of our requests of that kind."""

    def __init__(self, cut: int | None) -> None:
        self.cut = cut  # bytes per segment; None: all at once
        self.session = Session(USER, PASSWORD, extensions=True)
        self.session.start(0.0)
        self.events: list[Event] = []
        self.jobs: dict[str, Job] = {}
        self._ours: dict[str, list[int]] = {}
        self._theirs: dict[int, str] = {}
        self.note_sent()

    def note_sent(self) -> list[dict]:
        requests = sent(self.session)
        for request in requests:
            self._ours.setdefault(request["method"], []).append(request["id"])
        return requests

    def miner_says(self, entry: dict) -> None:
        """Hand in the same share, if it is one of a job that we were given."""
        with suppress(ValueError):
            message = json.loads(entry["line"])
            if isinstance(message, dict) and "method" in message:
                self._theirs[message["id"]] = message["method"]
                if message["method"] == "mining.submit":
                    self._submit(message)

    def _submit(self, message: dict) -> None:
        params = message.get("params") or []
        job = self.jobs.get(params[1]) if len(params) > 4 else None
        self._theirs[message["id"]] = "not ours"
        sizes = [8, *[4] * (len(params) - 3)]  # bytes of extranonce2, time, nonce, version bits
        formed = [
            len(text) == 2 * size
            for text, size in zip(params[2:], sizes, strict=False)
            if isinstance(text, str)
        ]
        if job is None or not self.session.knows(job) or not all(formed):
            return
        with suppress(ValueError, TypeError, RuleError):  # the transcripts hold deliberately bad submits
            share = share_from(job, params)
            self.session.submit(share, 0.0)
            (request,) = self.note_sent()
            assert request["params"][1:5] == [text.lower() for text in params[1:5]]
            self._theirs[message["id"]] = "mining.submit"

    def pool_says(self, entries: list[dict]) -> None:
        data = b""
        for entry in entries:
            try:
                message = json.loads(entry["line"])
            except ValueError:
                message = None
            if isinstance(message, dict) and type(message.get("id")) is int:
                kind = self._theirs.get(message["id"], "")
                ours = self._ours.get(kind)
                message["id"] = ours.pop() if ours else 9999
                data += line(message)
            else:
                data += entry["line"].encode() + b"\n"
        step = self.cut or len(data)
        for start in range(0, len(data), max(step, 1)):
            events = self.session.receive(data[start : start + step], 0.0)
            self.events += events
            self.jobs.update((e.job.id, e.job) for e in events if isinstance(e, NewJob))
            self.note_sent()

    def run(self, entries: list[dict]) -> list[Event]:
        batch: list[dict] = []
        for entry in entries:
            if entry["dir"] == "pool>miner":
                batch.append(entry)
                continue
            self.pool_says(batch)
            batch = []
            self.miner_says(entry)
        self.pool_says(batch)
        return self.events


@pytest.mark.parametrize(("name", "entries"), RECORDED, ids=[f"{n}-{i}" for i, (n, _) in enumerate(RECORDED)])
def test_a_recorded_session_replays_the_same_in_one_piece_and_byte_by_byte(name, entries):
    whole = Replay(None).run(entries)
    assert Replay(1).run(entries) == whole
    notifies = sum('"mining.notify"' in e["line"] and '"params":["' in e["line"] for e in entries)
    assert sum(isinstance(event, NewJob) for event in whole) == notifies
    assert Authorized in kinds(whole)
    assert JobRefused not in kinds(whole)


def test_the_recorded_shares_are_judged_as_the_pools_judged_them():
    outcomes = [e.outcome for _, own in RECORDED for e in Replay(None).run(own) if isinstance(e, Judged)]
    assert outcomes.count(Outcome.ACCEPTED) == 61  # 57 by cpuminer, 4 by hand
    assert outcomes.count(Outcome.UNKNOWN) == 0


# -- the conversation ------------------------------------------------------------------------------------


def test_the_session_asks_for_version_rolling_then_a_subscription_then_authorization():
    session = Session(USER, PASSWORD, suggest=0.5)
    session.start(0.0)
    assert [request["method"] for request in sent(session)] == ["mining.configure", "mining.subscribe"]
    session.receive(CONFIGURED + SUBSCRIBED, 0.0)
    (request,) = sent(session)
    assert (request["method"], request["params"]) == ("mining.authorize", [USER, PASSWORD])
    assert session.receive(AUTHORIZED, 0.0) == [Authorized()]
    methods = [request["method"] for request in sent(session)]
    assert methods == ["mining.extranonce.subscribe", "mining.suggest_difficulty"]
    assert session.state is State.MINING


def test_without_extensions_the_session_is_what_the_oldest_pools_know():
    session = Session(USER, PASSWORD, extensions=False)
    session.start(0.0)
    assert [request["method"] for request in sent(session)] == ["mining.subscribe"]
    session.receive(answer(1, [[], "", 4]) + answer(2, True), 0.0)
    assert [request["method"] for request in sent(session)] == ["mining.authorize"]
    job = job_of(session.receive(EASY + call("mining.notify", NOTIFY), 0.0))
    session.submit(a_share(job), 0.0)
    assert len(sent(session)[0]["params"]) == 5


def test_a_session_starts_once():
    with pytest.raises(LocalProtocolError, match="starts once"):
        started().start(0.0)


def test_a_rolled_version_is_sent_within_the_mask():
    session = mining()
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    session.submit(a_share(job, (job.version, job.version | 0x6000)), 0.0)
    assert sent(session)[0]["params"][5] == "00006000"


def test_the_next_connection_resumes_the_session_and_keeps_its_shares():
    session = mining()
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    share = a_share(job)
    again = Session(USER, PASSWORD, resume=session.resumption)
    again.start(0.0)
    assert sent(again)[1]["params"][1] == "6b02edd2"
    again.receive(SUBSCRIBED, 0.0)
    assert not again.knows(job)  # the pool has not said yet what it works on
    again.receive(call("mining.notify", ["2", *NOTIFY[1:8], False]), 0.0)
    assert again.knows(job)
    again.submit(share, 0.0)


def test_neither_name_nor_password_is_in_the_sessions_repr():
    assert "horse" not in repr(mining())


# -- hostile pools; the cases' names are those of the hostile-input list ---------------------------------


@pytest.mark.parametrize("piece", [b"x" * (1 << 20), b"[" * (1 << 20)])
def test_p01_a_line_without_end_drops_the_connection_at_the_cap(piece):
    session = started()
    events = [event for _ in range(10) for event in session.receive(piece, 0.0)]
    assert events == [Dropped(f"a line of more than {MAX_LINE:,} bytes")]
    assert session.state is State.CLOSED


def test_p01_a_deeply_nested_line_is_a_bad_line():
    (event,) = started().receive(b"[" * 1_000_000 + b"\n", 0.0)
    assert isinstance(event, Note)


@pytest.mark.parametrize("bad", [b"this is not json", b"\xff\xfe{", b"\0\0", b'{"id":1', b"[1,2,3]"])
def test_p02_a_bad_line_is_counted_and_its_good_neighbours_are_handled(bad):
    session = started()
    events = session.receive(bad + b"\r\n\r\n\n" + SUBSCRIBED + bad + b"\n" + AUTHORIZED, 0.0)
    assert kinds(events) == [Note, Note, Authorized]
    assert session.ignored == 2


def test_p02_too_many_bad_lines_in_a_row_drop_the_connection():
    events = started().receive(b"nonsense\n" * (MAX_BAD_LINES + 5), 0.0)
    assert kinds(events) == [Note] * (MAX_BAD_LINES - 1) + [Dropped]
    assert "nonsense" in events[-1].text


@pytest.mark.parametrize("message", [[], "text", 5, None, {}, {"result": True}, {"method": None, "id": 1}])
def test_p03_a_message_that_is_none_is_ignored_and_counted(message):
    session = started()
    assert kinds(session.receive(line(message), 0.0)) == [Note]
    assert session.ignored == 1


@pytest.mark.parametrize("id", [99, "2", None, True, 2.0, [2], {"a": 2}])
def test_p04_an_answer_with_an_id_of_nobodys_is_never_matched(id):
    session = started()
    assert kinds(session.receive(answer(id, [[], "00", 4]), 0.0)) == [Note]
    assert session.state is State.SUBSCRIBING


def test_p04_an_answer_that_is_repeated_counts_once():
    session = mining()
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    number = session.submit(a_share(job), 0.0)
    events = session.receive(answer(number, True) * 2, 0.0)
    assert kinds(events) == [Judged, Note]


@pytest.mark.parametrize(
    ("method", "result"), [("client.get_version", "nonceforge/0.1"), ("mining.ping", "pong")]
)
def test_p05_a_request_of_the_pools_is_answered_with_its_own_id(method, result):
    session = mining()
    session.receive(call(method, [], "a-7"), 0.0)
    assert sent(session) == [{"id": "a-7", "result": result, "error": None}]


def test_p05_an_unknown_request_gets_an_error_and_an_unknown_notification_nothing():
    session = mining()
    session.receive(call("mining.dance", [], 7) + call("mining.dance", []), 0.0)
    (reply,) = sent(session)
    assert (reply["id"], reply["result"], reply["error"][0]) == (7, None, 20)


def test_p05_a_pool_that_asks_without_reading_is_dropped():
    session, events = mining(), []
    for _ in range(30):
        events += session.receive(call("mining.ping", [], "x" * 90) * 500, 0.0)
    assert kinds(events) == [Dropped]


@pytest.mark.parametrize(
    "result", [None, [], [[], "00"], [[], "00", 4, 5], [None, "00", 4], ["00", 4], "x", {"a": 1}, True]
)
def test_p06_a_malformed_subscription_drops_the_connection(result):
    events = started().receive(answer(2, result), 0.0)
    assert kinds(events) == [Dropped]


def test_p06_a_refused_subscription_says_why():
    (event,) = started().receive(answer(2, None, [20, "full house", None]), 0.0)
    assert event == Dropped("the pool refuses the subscription: full house")


@pytest.mark.parametrize("size", [16, 9, -1, 10**9, "4", 4.0, None, True])
def test_p07_an_impossible_extranonce2_size_is_refused(size):
    (event,) = started().receive(answer(2, [[], "00", size]), 0.0)
    assert isinstance(event, Dropped)
    assert "extranonce2_size" in event.text


@pytest.mark.parametrize("size", [0, 1, 4, 8])
def test_p07_an_extranonce2_of_up_to_eight_bytes_is_mined(size):
    session = started()
    session.receive(answer(2, [[], "00", size]) + EASY, 0.0)
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    assert (job.extranonce_size, job.extranonce_count) == (size, 256**size)
    assert job.max_time > job.time  # so that size 0 leaves something to roll


@pytest.mark.parametrize("extranonce1", ["abc", "00" * 200, "zz", 5, None])
def test_p08_a_bad_extranonce1_is_refused(extranonce1):
    (event,) = started().receive(answer(2, [[], extranonce1, 4]), 0.0)
    assert isinstance(event, Dropped)
    assert "extranonce1" in event.text


def test_p08_an_empty_extranonce1_is_legal():
    session = started()
    session.receive(answer(2, [[], "", 4]), 0.0)
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    assert job.coinbase_prefix == bytes.fromhex(NOTIFY[2])


def test_p09_a_new_extranonce_counts_from_the_next_job_on():
    session = mining()
    old = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    assert session.receive(call("mining.set_extranonce", ["aabb", 4]), 0.0) == []
    assert session.knows(old)
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    assert (job.coinbase_prefix[-2:].hex(), job.extranonce_size) == ("aabb", 4)


@pytest.mark.parametrize("params", [[], ["zz", 4], ["00", 99], None, "x", ["00"], [1, 2, 3]])
def test_p09_a_bad_new_extranonce_is_refused_and_the_old_one_kept(params):
    session = mining()
    assert kinds(session.receive(call("mining.set_extranonce", params), 0.0)) == [Note]
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    assert job.coinbase_prefix.endswith(bytes.fromhex("d2ed026b"))


@pytest.mark.parametrize(
    "params",
    ["[0]", "[-1]", "[NaN]", "[Infinity]", "[1e308]", "[1e999]", "[1e-308]", '["8"]', "[null]", "[[]]", "[]",
     "[true]", "null", "7", "[1e76]", f"[{10**400}]"],
)  # fmt: skip
def test_p10_a_bad_difficulty_is_refused_and_the_old_one_kept(params):
    session = mining()
    before = session.difficulty
    raw = '{"id":null,"method":"mining.set_difficulty","params":' + params + "}\n"
    assert kinds(session.receive(raw.encode(), 0.0)) == [Note]
    assert session.difficulty == before


@pytest.mark.parametrize("value", [1, 8, 2.0000000000000002e-5, 0.002, 1e15])
def test_p10_integers_and_small_fractions_are_legal(value):
    session = mining()
    assert session.receive(call("mining.set_difficulty", [value]), 0.0) == []
    assert session.difficulty == pytest.approx(value)


def test_p11_a_share_is_measured_at_the_difficulty_that_was_in_force_when_its_job_came():
    session = mining()
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    session.receive(call("mining.set_difficulty", [1e9]) + call("mining.set_difficulty", [4]), 0.0)
    assert job.target == difficulty_to_target(2.0**-31)
    later = job_of(session.receive(call("mining.notify", ["2", *NOTIFY[1:8], False]), 0.0))
    assert later.target == difficulty_to_target(4)
    session.submit(a_share(job), 0.0)


def test_p12_what_comes_before_the_subscription_is_kept_and_applied():
    session = started()
    early = call("mining.set_difficulty", [8]) + call("mining.notify", NOTIFY)
    assert session.receive(early, 0.0) == []
    assert job_of(session.receive(SUBSCRIBED, 0.0)).target == difficulty_to_target(8)


def test_p12_the_difficulty_is_one_until_the_pool_says_otherwise():
    session = started()
    assert job_of(session.receive(SUBSCRIBED + call("mining.notify", NOTIFY), 0.0)).target == 0xFFFF << 208


def test_p12_a_target_is_as_good_as_a_difficulty():
    session = started()
    session.receive(call("mining.set_target", ["00" * 4 + "ff" * 28]) + SUBSCRIBED, 0.0)
    assert job_of(session.receive(call("mining.notify", NOTIFY), 0.0)).target == (1 << 224) - 1
    assert kinds(session.receive(call("mining.set_target", ["00" * 32]), 0.0)) == [Note]


BAD_NOTIFIES = [
    (1, "ab" * 31, "prevhash"), (1, "ab" * 33, "prevhash"), (6, "207fff", "nbits"), (6, "00000000", "nbits"),
    (6, "04923456", "nbits"), (5, "x", "version"), (7, "-1", "ntime"), (7, 5, "ntime"),
    (4, ["00" * 31], "merkle branch"), (4, ["00" * 32] * 33, "merkle branch"),
    (4, ["00" * 32] * 1000, "merkle branch"), (4, {}, "merkle branch"), (2, "0", "coinb1"),
    (3, None, "coinb2"), (8, "true", "clean_jobs"), (0, 5, "job id"), (0, None, "job id"),
    (0, ["a"], "job id"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "part"), BAD_NOTIFIES)
def test_p13_a_bad_job_is_refused_naming_the_part_and_the_current_one_stays(place, value, part):
    session = mining()
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    params = [*NOTIFY[:8], False]
    params[place] = value
    (event,) = session.receive(call("mining.notify", params), 0.0)
    assert isinstance(event, JobRefused)
    assert part in event.text
    assert not event.clean
    assert session.knows(job)


@pytest.mark.parametrize("params", [NOTIFY[:8], [*NOTIFY, 1], [], None, {}, "x"])
def test_p13_a_job_with_too_few_or_too_many_parameters_is_refused(params):
    (event,) = mining().receive(call("mining.notify", params), 0.0)
    assert isinstance(event, JobRefused)


def test_p13_a_bad_job_that_is_clean_ends_the_current_one():
    session = mining()
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    (event,) = session.receive(call("mining.notify", ["2", "zz", *NOTIFY[2:]]), 0.0)
    assert event.clean
    assert not session.knows(job)


def test_p13_a_coinbase_of_twenty_megabytes_meets_the_line_cap():
    events = mining().receive(call("mining.notify", ["1", NOTIFY[1], "00" * 20_000_000, *NOTIFY[3:]]), 0.0)
    assert kinds(events) == [Dropped]


def test_p14_a_job_beyond_the_networks_limit_or_on_an_unseen_block_is_mined_and_called_a_new_tip():
    session = mining()
    session.receive(call("mining.notify", NOTIFY), 0.0)
    (event,) = session.receive(
        call("mining.notify", ["2", "ab" * 32, *NOTIFY[2:6], "2100ffff", *NOTIFY[7:]]), 0.0
    )
    assert (event.job.bits, event.reason) == (0x2100FFFF, "new tip")


def test_p15_of_a_storm_of_clean_jobs_only_the_newest_is_good():
    session = mining()
    storm = b"".join(call("mining.notify", [str(i), *NOTIFY[1:]]) for i in range(1000))
    jobs = [event.job for event in session.receive(storm, 0.0)]
    assert [session.knows(job) for job in jobs] == [False] * 999 + [True]
    with pytest.raises(LocalProtocolError):
        session.submit(a_share(jobs[0]), 0.0)


@pytest.mark.parametrize("job_id", ["j" * 10_000, 'a"b', "a\nb", "\u00e9\u4e16\u0000", ""])
def test_p16_a_job_id_is_echoed_exactly_as_it_came(job_id):
    session = mining()
    job = job_of(session.receive(call("mining.notify", [job_id, *NOTIFY[1:]]), 0.0))
    session.submit(a_share(job), 0.0)
    (request,) = sent(session)
    assert request["params"][1] == job_id


def test_p16_of_two_jobs_with_one_id_the_newest_content_wins():
    session = mining()
    old = job_of(session.receive(call("mining.notify", [*NOTIFY[:8], False]), 0.0))
    new = job_of(session.receive(call("mining.notify", [*NOTIFY[:7], "6b02ffff", False]), 0.0))
    assert not session.knows(old)
    assert session.knows(new)


def test_p17_of_thousands_of_jobs_that_are_not_clean_a_fixed_number_is_kept():
    session = mining()
    storm = b"".join(call("mining.notify", [str(i), *NOTIFY[1:8], False]) for i in range(5000))
    jobs = [event.job for event in session.receive(storm, 0.0)]
    assert sum(map(session.knows, jobs)) == MAX_JOBS
    assert session.knows(jobs[-1])


@pytest.mark.parametrize(
    ("params", "redirect"),
    [
        ([], (None, None, 0)),
        (["other.example", 3333, 5], ("other.example", 3333, 5)),
        (["", None, None], (None, None, 0)),
        (["h", "3334"], ("h", 3334, 0)),
        ([None, 1, 0, "more"], (None, 1, 0)),
    ],
)
def test_p18_a_reconnect_is_told_and_not_followed_by_the_session(params, redirect):
    assert mining().receive(call("client.reconnect", params), 0.0) == [Moved(Redirect(*redirect))]


@pytest.mark.parametrize("params", [["h", 0], ["h", 70_000], [5], ["h" * 300], ["h", 1, -1], {}, ["h", "x"]])
def test_p18_a_malformed_reconnect_is_ignored(params):
    assert kinds(mining().receive(call("client.reconnect", params), 0.0)) == [Note]


def test_p19_a_message_is_trimmed_and_cannot_drive_a_terminal():
    (event,) = mining().receive(call("client.show_message", ["\x1b[2J\x07\u202e" + "a" * 500_000]), 0.0)
    assert event.text.isprintable()
    assert len(event.text) < 400


def test_p20_a_submit_that_is_never_answered_is_unknown_and_no_table_grows():
    session = mining()
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    share = a_share(job)
    for _ in range(MAX_PENDING * 2):
        session.submit(share, 0.0)
    given_up = session.expire(1.0)
    assert session.waiting == MAX_PENDING
    given_up += session.expire(ANSWER_SECONDS)
    assert session.waiting == 0
    judged = [event for event in given_up if isinstance(event, Judged)]
    assert len(judged) == MAX_PENDING * 2
    assert {event.outcome for event in judged} == {Outcome.UNKNOWN}


ACCEPTED, REJECTED, STALE = Outcome.ACCEPTED, Outcome.REJECTED, Outcome.STALE


@pytest.mark.parametrize(
    ("result", "error", "reject", "outcome", "reason"),
    [
        (True, None, None, ACCEPTED, ""),
        (True, [23, "Above target", None], None, REJECTED, "Above target"),
        (False, None, None, REJECTED, "no reason given"),
        (None, None, None, REJECTED, "the answer is None"),
        ("true", None, None, REJECTED, "the answer is true"),
        (1, None, None, REJECTED, "the answer is 1"),
        ({}, None, None, REJECTED, "the answer is {}"),
        (False, [21, "x", None], None, STALE, "x"),
        (None, [21], None, STALE, "stale"),
        (None, [22], None, REJECTED, "duplicate"),
        (None, [99], None, REJECTED, "error 99"),
        (False, [], None, REJECTED, "no reason given"),
        (False, "No nonce2", None, REJECTED, "No nonce2"),  # seen: skaisser
        (False, 21, None, STALE, "stale"),
        (None, {"code": 21, "message": "x"}, None, STALE, "x"),
        (None, [[22, "deep", None]], None, REJECTED, "deep"),
        (None, {"error": {"code": 23, "message": "low"}}, None, REJECTED, "low"),
        (False, [23, "Above target", None], None, REJECTED, "Above target"),  # seen: ckpool-lhr
        (False, [21, "Invalid JobID", None], None, STALE, "Invalid JobID"),  # seen: ckpool-lhr
        (False, None, "Stale", STALE, "Stale"),  # seen: skaisser
        (False, None, "Below minimum difficulty", REJECTED, "Below minimum difficulty"),  # seen: skaisser
        (False, None, 5, REJECTED, "no reason given"),
        (False, [True, "x" * 5000, None], None, REJECTED, "x" * 120 + "..."),
        (False, [1e400, "\x1b[2J", None], None, REJECTED, "\\x1b[2J"),
    ],
)
def test_p21_every_answer_to_a_submit_becomes_one_reason(result, error, reject, outcome, reason):
    assert rule(Answer(1, result, error, reject))[:2] == (outcome, reason)


@pytest.mark.parametrize(("code", "method"), [(24, "mining.authorize"), (25, "mining.subscribe")])
def test_p22_an_unauthorized_or_unsubscribed_share_asks_again_once(code, method):
    session = mining()
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    first, second = session.submit(a_share(job), 0.0), session.submit(a_share(job), 0.0)
    session.outgoing()
    events = session.receive(
        answer(first, None, [code, "", None]) + answer(second, None, [code, "", None]), 0.0
    )
    assert [event.outcome for event in events] == [REJECTED, REJECTED]
    assert [request["method"] for request in sent(session)] == [method]


@pytest.mark.parametrize(("code", "outcome"), [(21, STALE), (22, REJECTED), (23, REJECTED)])
def test_p22_other_errors_are_counted_and_nothing_is_asked_again(code, outcome):
    session = mining()
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    number = session.submit(a_share(job), 0.0)
    session.outgoing()
    (event,) = session.receive(answer(number, None, [code, "", None]), 0.0)
    assert event.outcome is outcome
    assert sent(session) == []


@pytest.mark.parametrize(
    ("result", "error"), [(False, None), (None, [24, "who?", None]), (None, "no"), (1, None)]
)
def test_p23_a_refused_name_ends_the_session_without_the_password_in_the_line(result, error):
    session = started()
    (event,) = session.receive(SUBSCRIBED + answer(3, result, error), 0.0)
    assert event.refused
    assert USER in event.text
    assert PASSWORD not in event.text


def test_p23_an_authorization_that_is_never_answered_is_told_and_mined_without():
    session = started()
    session.receive(SUBSCRIBED + EASY, 0.0)
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    assert "authorize" in "".join(e.text for e in session.expire(ANSWER_SECONDS) if isinstance(e, Note))
    session.submit(a_share(job), ANSWER_SECONDS)


@pytest.mark.parametrize(
    ("mask", "rolled"),
    [("ffffffff", 0x1FFFE000), ("0", 0), ("1fffe000", 0x1FFFE000), ("18000000", 0x18000000), ("00000001", 0)],
)
def test_p24_the_mask_is_what_the_pool_grants_and_we_support(mask, rolled):
    session = started()
    session.receive(answer(1, {"version-rolling": True, "version-rolling.mask": mask}) + SUBSCRIBED, 0.0)
    assert job_of(session.receive(call("mining.notify", NOTIFY), 0.0)).version_mask == rolled


@pytest.mark.parametrize(
    "configured",
    [
        b"",
        answer(1, {"version-rolling": False}),
        answer(1, {"version-rolling": "no"}),
        answer(1, None, "unknown method"),
        answer(1, {"version-rolling": True, "version-rolling.mask": "xyz"}),
        answer(1, {"version-rolling": True}),
        answer(1, []),
    ],
)
def test_p24_without_a_granted_mask_versions_are_not_rolled_and_not_sent(configured):
    session = started()
    session.receive(configured + SUBSCRIBED + AUTHORIZED + EASY, 0.0)
    job = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    session.outgoing()
    session.submit(a_share(job), 0.0)
    assert job.version_mask == 0
    assert len(sent(session)[0]["params"]) == 5


def test_p24_a_changed_mask_is_valid_immediately():
    session = mining()
    old = job_of(session.receive(call("mining.notify", NOTIFY), 0.0))
    (event,) = session.receive(call("mining.set_version_mask", ["00006000"]), 0.0)
    assert (event.job.version_mask, event.clean) == (0x6000, True)
    assert session.knows(event.job)
    assert not session.knows(old)
    (wider,) = session.receive(call("mining.set_version_mask", ["0000e000"]), 0.0)
    assert not wider.clean


def test_p25_an_unanswered_extension_expires_alone():
    session = started(suggest=1.0)
    session.receive(SUBSCRIBED + AUTHORIZED, 0.0)  # configure, extranonce.subscribe, suggest: no answer
    assert session.expire(ANSWER_SECONDS) == []
    assert (session.waiting, session.state) == (0, State.MINING)


def test_p25_an_unanswered_subscription_drops_the_connection():
    assert kinds(started().expire(ANSWER_SECONDS)) == [Dropped]


@pytest.mark.parametrize(
    ("data", "word"),
    [(b"\x15\x03\x01\x00\x02\x02\x46", "TLS"), (b"HTTP/1.1 400 Bad Request\r\n", "web server")],
)
def test_p27_another_protocol_on_the_port_is_recognised(data, word):
    session = started()
    events = [event for byte in data for event in session.receive(bytes([byte]), 0.0)]
    assert kinds(events) == [Dropped]
    assert word in events[0].text


def test_p28_the_jobs_of_another_connection_are_unknown_even_under_the_same_id():
    old = job_of(mining().receive(call("mining.notify", NOTIFY), 0.0))
    session = started()
    session.receive(answer(2, [[], "00000000", 8]) + AUTHORIZED + call("mining.notify", NOTIFY), 0.0)
    assert not session.knows(old)
    resumed = Session(USER, PASSWORD, resume=mining().resumption)
    resumed.start(0.0)
    resumed.receive(answer(2, [[["mining.notify", "6b02edd2"]], "00000000", 8]), 0.0)
    resumed.receive(call("mining.notify", ["2", *NOTIFY[1:8], False]), 0.0)
    assert not resumed.knows(old)


# -- any bytes at all ------------------------------------------------------------------------------------

_junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_methods = st.sampled_from([*Session._CALLS, "mining.other"])
_lines = (
    st.builds(call, _methods, _junk | st.just(NOTIFY), _junk)
    | st.builds(answer, st.integers(0, 6) | _junk, _junk, _junk)
    | st.sampled_from([CONFIGURED, SUBSCRIBED, AUTHORIZED, EASY])
    | st.binary(max_size=40)
    | _junk.map(line)
)


@unhurried
@given(st.lists(_lines, max_size=8).map(b"".join), st.data())
def test_any_bytes_give_the_same_events_however_they_are_cut(data, choose):
    at_once, in_pieces = started(), started()
    whole = at_once.receive(data, 0.0)
    pieces: list[Event] = []
    rest = data
    while rest:
        size = choose.draw(st.integers(1, len(rest)))
        pieces += in_pieces.receive(rest[:size], 0.0)
        rest = rest[size:]
    assert pieces == whole
    assert at_once.outgoing() == in_pieces.outgoing()
    for event in whole:
        text = getattr(event, "text", "")
        assert text.isprintable()
        assert len(text) < 2000


@unhurried
@given(st.lists(_lines, max_size=8).map(b"".join))
def test_every_job_of_any_pool_can_be_hashed(data):
    for event in started().receive(data, 0.0):
        if isinstance(event, NewJob):
            work = event.job.work(0, event.job.time, (event.job.version,))
            assert len(work.header_of(Hit(0, event.job.version))) == 80
