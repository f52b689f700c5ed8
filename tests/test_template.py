"""Block templates: recorded ones rebuild to the block that the node took; hostile ones are refused by name.

The vectors are templates of a C++ bitcoind without segwit (Bitcoin SV 1.0.13) and of bcoin 1.0.2
with it, each with the block that was built on it and that the node accepted.
"""

import json
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miner.block import Block
from miner.errors import LocalProtocolError, RemoteProtocolError, RuleError
from miner.template import (
    Payout,
    TemplateJob,
    judge,
    parse_template,
    proposal_request,
    submission,
    template_request,
)
from miner.transaction import Transaction, TxOut
from miner.untrusted import excerpt, load_json
from miner.work import Outcome, Share, Work

VECTORS = json.loads((Path(__file__).parent / "vectors" / "gbt.json").read_text())
SCRIPT = bytes.fromhex("76a914" + "11" * 20 + "88ac")
REQUIRED = [
    "previousblockhash",
    "bits",
    "target",
    "height",
    "curtime",
    "mintime",
    "version",
    "coinbasevalue",
    "transactions",
]


def recorded(node: str, transactions: int = 0) -> dict:
    return next(deepcopy(v["template"]) for v in VECTORS if v["node"] == node and v["txs"] == transactions)


@pytest.fixture
def template() -> dict:
    """bcoin's, segwit active, two transactions: the one with most fields."""
    return recorded("bcoin", 2)


def refused(template: object, *words: str) -> str:
    """The refusal's text, which names all of `words` and is one bounded, printable line."""
    with pytest.raises(RemoteProtocolError) as caught:
        parse_template(template)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500
    for word in words:
        assert word in text
    return text


def a_share(job: TemplateJob, extranonce: int = 5) -> Share:
    """Regtest: every other hash wins."""
    work = job.work(extranonce, job.time, (job.version,))
    for nonce in range(1000):
        try:
            return Share(work, nonce, job.version)
        except RuleError:
            continue
    raise AssertionError("no share in 1000 regtest hashes")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['node']}: {v['case']}")
def test_a_recorded_template_and_coinbase_rebuild_to_the_block_that_the_node_accepted(vector):
    template = parse_template(vector["template"])
    coinbase = Transaction.parse(bytes.fromhex(vector["coinbase"])).stripped
    job = replace(
        template.job(Payout(SCRIPT), "1"), coinbase_prefix=coinbase, coinbase_suffix=b"", extranonce_size=0
    )
    time = int.from_bytes(bytes.fromhex(vector["header"])[68:72], "little")
    share = Share(job.work(0, time, (job.version,)), vector["nonce"], job.version)
    assert share.header.hex() == vector["header"]
    assert share.hash_hex == vector["hash"]
    assert submission(share) == (vector["block"],)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['node']}: {v['case']}")
def test_our_own_coinbase_pays_the_same_outputs_as_the_recorded_one(vector):
    job = parse_template(vector["template"]).job(Payout(SCRIPT, bytes.fromhex(vector["tag"])), "1")
    ours, theirs = Transaction.parse(job.coinbase(0)), Transaction.parse(bytes.fromhex(vector["coinbase"]))
    assert ours.outputs == theirs.outputs
    height = theirs.inputs[0].script[:3]  # a push of two bytes
    assert ours.inputs[0].script.startswith(height)
    assert bytes.fromhex(vector["template"]["coinbaseaux"]["flags"]) in ours.inputs[0].script
    assert 2 <= len(ours.inputs[0].script) <= 100


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['node']}: {v['case']}")
def test_a_block_of_ours_parses_and_its_header_commits_to_its_transactions(vector):
    share = a_share(parse_template(vector["template"]).job(Payout(SCRIPT, b"nonceforge"), "1"))
    block = Block.parse(bytes.fromhex(submission(share)[0]))
    assert bytes(block.header) == share.header
    assert block.transactions[0].txid == Transaction.parse(share.work.job.coinbase(5)).txid
    assert len(block.transactions) == 1 + vector["txs"]
    assert bool(block.transactions[0].witnesses) == ("!segwit" in vector["template"].get("rules", []))


def test_a_template_job_ends_with_one_block_and_carries_the_nodes_limits(template):
    job = parse_template(template).job(Payout(SCRIPT), "7")
    assert (job.id, job.once, job.height) == ("7", True, 589)
    assert (job.time, job.max_time) == (template["curtime"], template["curtime"] + 7200)
    assert job.target == int(template["target"], 16)
    assert job.nonces == range(1 << 32)


def test_an_extra_output_is_paid_out_of_the_reward(template):
    extra = TxOut(1000, b"\x51")
    coinbase = Transaction.parse(
        parse_template(template).job(Payout(SCRIPT, extra=(extra,)), "1").coinbase(0)
    )
    assert coinbase.outputs[0].value == template["coinbasevalue"] - 1000
    assert coinbase.outputs[1] == extra


def test_extra_outputs_that_cost_more_than_the_block_pays_are_an_error_of_ours(template):
    with pytest.raises(LocalProtocolError, match="cost 1 satoshi more"):
        parse_template(template).job(
            Payout(SCRIPT, extra=(TxOut(template["coinbasevalue"] + 1, b"\x51"),)), "1"
        )


@pytest.mark.parametrize(
    "payout", [{"script": b""}, {"script": bytes(10_001)}, {"script": SCRIPT, "tag": bytes(101)}], ids=str
)
def test_a_payout_that_cannot_be_is_a_value_error(payout):
    with pytest.raises(ValueError, match="bytes"):
        Payout(**payout)


def test_a_workid_is_returned_with_proposals_and_submissions(template):
    job = parse_template(template | {"workid": "w7"}).job(Payout(SCRIPT), "1")
    assert proposal_request(job)["workid"] == "w7"
    assert submission(a_share(job))[1] == {"workid": "w7"}


def test_a_proposal_is_the_whole_block_without_its_proof_of_work(template):
    job = parse_template(template).job(Payout(SCRIPT), "1")
    request = proposal_request(job)
    assert request["mode"] == "proposal"
    block = Block.parse(bytes.fromhex(request["data"]))
    assert block.header.previous == job.previous
    assert len(block.transactions) == 3


def test_a_long_poll_request_carries_the_id_and_an_ordinary_one_does_not():
    assert "longpollid" not in template_request({"segwit"})
    assert template_request({"segwit"}, "abc")["longpollid"] == "abc"


def test_a_share_of_another_kind_of_job_cannot_be_submitted_to_a_node():
    header = bytes.fromhex(VECTORS[0]["header"])
    share = Share(Work(header, (1 << 256) - 1), 0, int.from_bytes(header[:4], "little"))
    with pytest.raises(LocalProtocolError):
        submission(share)


# -- hostile templates; the cases' names are those of the hostile-input list ---------------------------


@pytest.mark.parametrize("value", [None, [], "x", 5, True])
def test_n02_n03_a_template_that_is_no_object_is_refused(value):
    refused(value, "the template")


@pytest.mark.parametrize("key", REQUIRED)
def test_n05_a_missing_field_is_named(template, key):
    del template[key]
    refused(template, key)


def test_n05_optional_fields_have_defaults():
    bare = {key: value for key, value in recorded("bcoin").items() if key in REQUIRED}
    template = parse_template(bare)
    assert (template.commitment, template.flags, template.work_id) == (None, b"", None)
    assert (template.long_poll_id, template.expires, template.can_propose) == (None, None, False)
    assert template.max_time == template.time  # nothing says that it may be changed


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("height", "5"), ("height", 5.0), ("height", True), ("height", None), ("bits", 0x207FFFFF),
        ("transactions", {}), ("coinbasevalue", True), ("curtime", "1"), ("version", 2.0), ("mintime", None),
        ("previousblockhash", 7), ("target", []), ("rules", "segwit"), ("rules", [1]), ("coinbaseaux", []),
        ("vbavailable", []), ("vbavailable", {"a": True}), ("vbrequired", "0"), ("mutable", "time"),
        ("capabilities", {}), ("workid", 5), ("expires", "1"), ("maxtime", True),
    ],
)  # fmt: skip
def test_n06_a_wrong_type_is_refused_by_name(template, key, value):
    refused(template | {key: value}, key)


@pytest.mark.parametrize("height", [-1, 1 << 31, 1 << 63, 10**400])
def test_n07_an_impossible_height_is_refused(template, height):
    refused(template | {"height": height}, "height")


@pytest.mark.parametrize(
    ("height", "push"), [(0, "00"), (1, "51"), (16, "60"), (17, "0111"), (127, "017f"), (128, "028000")]
)
def test_n07_small_heights_are_pushed_as_bip34_says(template, height, push):
    job = parse_template(template | {"height": height}).job(Payout(SCRIPT), "1")
    script = Transaction.parse(job.coinbase(0)).inputs[0].script
    assert script.startswith(bytes.fromhex(push))


@pytest.mark.parametrize("value", [-1, 1 << 63, 1.5, 21 * 10**14 + 1])
def test_n08_an_impossible_coinbase_value_is_refused(template, value):
    refused(template | {"coinbasevalue": value}, "coinbasevalue")


@pytest.mark.parametrize(
    "text", ["ab" * 31, "ab" * 33, "zz" * 32, "0x" + "ab" * 31, " " + "a" * 63, "a" * 63]
)
def test_n09_bad_hex_is_refused(template, text):
    refused(template | {"previousblockhash": text}, "previousblockhash")


def test_n09_upper_case_hex_is_accepted(template):
    upper = template | {key: template[key].upper() for key in ("previousblockhash", "bits", "target")}
    assert parse_template(upper) == parse_template(template)


@pytest.mark.parametrize("bits", ["00000000", "04923456", "ff123456", "23000001", "20000000"])
def test_n10_bits_that_stand_for_no_target_are_refused(template, bits):
    refused(template | {"bits": bits}, bits)


def test_n11_if_target_and_bits_disagree_the_harder_one_is_mined_with_a_warning(template):
    harder = parse_template(template | {"target": "00" * 4 + "ff" * 28})
    easier = parse_template(template | {"target": "ff" * 32})
    assert harder.target == (1 << 224) - 1
    assert easier.target == 0x7FFFFF << 232
    assert "disagree" in harder.warnings[0]
    assert "disagree" in easier.warnings[0]


def test_n12_a_target_of_zero_is_refused_and_the_largest_works(template):
    refused(template | {"target": "00" * 32}, "target")
    largest = parse_template(template | {"bits": "2100ffff", "target": "ffff" + "00" * 30})
    assert largest.target == 0xFFFF << 240
    assert a_share(largest.job(Payout(SCRIPT), "1")).is_block


@pytest.mark.parametrize(
    ("now", "least", "most", "first", "last"),
    [
        (1000, 2000, None, 2000, 8200),  # the clock is behind the chain
        (1000, 20_000, None, 20_000, 20_000),  # by more than the rules allow to make up for
        (10_000, 2000, None, 10_000, 17_200),
        (10_000, 2000, 12_000, 10_000, 12_000),
        (0, 2000, None, 2000, 7200),
        ((1 << 32) - 1, 2000, None, (1 << 32) - 1, (1 << 32) - 1),
    ],
)
def test_n13_the_header_time_is_held_within_the_nodes_limits(template, now, least, most, first, last):
    times = {"curtime": now, "mintime": least} | ({} if most is None else {"maxtime": most})
    del template["maxtime"]
    job = parse_template(template | times).job(Payout(SCRIPT), "1")
    assert (job.time, job.max_time) == (first, last)


@pytest.mark.parametrize("change", [{"curtime": 1 << 32}, {"maxtime": 5, "mintime": 6}])
def test_n13_times_that_cannot_be_are_refused(template, change):
    refused(template | change, "time")


def test_n14_data_that_does_not_hash_to_its_txid_is_refused(template):
    for key in ("txid", "hash"):
        bad = deepcopy(template)
        bad["transactions"][1][key] = "00" * 32
        refused(bad, f"transactions[2].{key}")


def test_n14_the_same_transaction_twice_is_refused(template):
    template["transactions"].append(template["transactions"][0])
    refused(template, "transactions[3]", "twice")


@pytest.mark.parametrize("parent", [2, 3, 0, -1, "1", True])
def test_n14_depends_that_points_forward_or_outside_is_refused(template, parent):
    template["transactions"][1]["depends"] = [parent]
    refused(template, "transactions[2].depends")


def test_n14_data_that_is_no_transaction_is_refused(template):
    template["transactions"][0]["data"] = "00" * 20
    refused(template, "transactions[1].data")


def test_n15_more_transactions_than_the_setting_are_refused(template):
    with pytest.raises(RemoteProtocolError, match=r"2 items, above the limit of 1"):
        parse_template(template, max_transactions=1)


def test_n16_an_unknown_rule_with_a_mark_is_refused_and_one_without_is_mined(template):
    refused(template | {"rules": ["!segwit", "!quantum"]}, "!quantum")
    assert parse_template(template | {"rules": ["!segwit", "quantum"]}).commitment is not None


def test_n17_a_commitment_is_ignored_while_segwit_is_not_active(template):
    template["transactions"] = []
    job = parse_template(template | {"rules": ["csv"]}).job(Payout(SCRIPT), "1")
    block = Block.parse(bytes.fromhex(submission(a_share(job))[0]))
    assert not block.transactions[0].witnesses
    assert len(block.transactions[0].outputs) == 1


def test_n18_a_missing_commitment_is_computed(template):
    claimed = template.pop("default_witness_commitment")
    commitment = parse_template(template).commitment
    assert commitment is not None
    assert commitment.hex() == claimed[12:]


@pytest.mark.parametrize("script", ["6a24aa21a9ed" + "00" * 32, "6a24aa21a9ed" + "00" * 31, "zz", 5])
def test_n18_a_commitment_that_is_not_the_computed_one_is_refused(template, script):
    refused(template | {"default_witness_commitment": script}, "default_witness_commitment")


@pytest.mark.parametrize("length", [0, 13, 60, 79, 90, 300])
def test_n20_the_coinbase_script_stays_within_its_limits_and_our_tag_goes_first(template, length):
    flags = bytes([0x61]) * length
    aux = {"flags": flags[: length // 2].hex(), "more": flags[length // 2 :].hex()}
    job = parse_template(template | {"coinbaseaux": aux}).job(Payout(SCRIPT, b"nonceforge"), "1")
    script = Transaction.parse(job.coinbase(0)).inputs[0].script
    assert 2 <= len(script) <= 100
    assert (b"nonceforge" in script) == (length <= 77)
    assert (flags in script) == (length <= 88)


@pytest.mark.parametrize("aux", [{"flags": "raw bytes"}, {"flags": 5}, {"flags": "00" * 1001}])
def test_n20_flags_that_are_not_hex_are_refused(template, aux):
    refused(template | {"coinbaseaux": aux}, "coinbaseaux.flags")


def test_n21_time_is_not_rolled_unless_the_node_allows_it(template):
    job = parse_template(template | {"mutable": ["transactions"]}).job(Payout(SCRIPT), "1")
    assert job.max_time == job.time


def test_n21_the_nonce_range_is_kept(template):
    job = parse_template(template | {"noncerange": "00000000000000ff"}).job(Payout(SCRIPT), "1")
    assert job.nonces == range(256)


@pytest.mark.parametrize("text", ["ffffffff00000000", "00", "zz" * 8, 5, None])
def test_n21_a_reversed_or_malformed_nonce_range_is_refused(template, text):
    refused(template | {"noncerange": text}, "noncerange")


@pytest.mark.parametrize("expires", [0, -5, 3600, 1795361051])
def test_n22_expires_is_kept_whatever_it_says(template, expires):
    assert parse_template(template | {"expires": expires}).expires == expires


@pytest.mark.parametrize("value", ["", 5, None, "x" * 10_000, ["a"]])
def test_n25_a_long_poll_id_that_is_better_not_sent_back_is_none(template, value):
    assert parse_template(template | {"longpollid": value}).long_poll_id is None


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (None, Outcome.ACCEPTED, ""),
        ("high-hash", Outcome.REJECTED, "high-hash"),
        ("rejected: high-hash", Outcome.REJECTED, "high-hash"),
        ("bad-txnmrklroot", Outcome.REJECTED, "bad-txnmrklroot"),
        ("bad-cb-amount", Outcome.REJECTED, "bad-cb-amount"),
        ("time-too-new", Outcome.REJECTED, "time-too-new"),
        ("bad-diffbits", Outcome.REJECTED, "bad-diffbits"),
        ("the stars are not right", Outcome.REJECTED, "the stars are not right"),
        ("", Outcome.REJECTED, "rejected"),
        (5, Outcome.REJECTED, "5"),
        (False, Outcome.REJECTED, "False"),
        ({"a": 1}, Outcome.REJECTED, "{'a': 1}"),
    ],
)
def test_n36_every_answer_to_submitblock_becomes_one_reason(answer, outcome, reason):
    assert judge(answer) == (outcome, reason)


@pytest.mark.parametrize(
    "answer",
    ["inconclusive", "duplicate", "duplicate-inconclusive", "stale-prevblk", "inconclusive-not-best-prevblk"],
)
def test_n37_an_undecided_answer_is_left_for_the_chain_to_decide(answer):
    assert judge(answer) == (Outcome.UNKNOWN, answer)
    assert judge(f"rejected: {answer}") == (Outcome.UNKNOWN, answer)


def test_versions_are_rolled_by_bip320_less_the_bits_that_mean_something(template):
    mask = parse_template(template | {"vbavailable": {"a": 13}, "vbrequired": 1 << 14}).version_mask
    assert mask == 0x1FFFE000 & ~(3 << 13)
    assert parse_template(template | {"version": 4}).version_mask == 0


# -- any JSON at all -------------------------------------------------------------------------------------

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_KEYS = [
    *REQUIRED,
    "rules",
    "coinbaseaux",
    "mutable",
    "noncerange",
    "default_witness_commitment",
    "vbavailable",
]


@unhurried
@given(st.dictionaries(st.sampled_from(_KEYS), _json, max_size=3))
def test_any_json_in_any_fields_is_parsed_or_refused_and_nothing_else(changes):
    with suppress(RemoteProtocolError):
        template = parse_template(recorded("bcoin", 2) | changes)
        job = template.job(Payout(SCRIPT), "1")
        assert len(submission(a_share(job))[0]) > 160


@unhurried
@given(_json)
def test_any_value_is_judged_and_quoted(value):
    assert judge(value).outcome in Outcome
    assert len(excerpt(value)) < 2000
    assert excerpt(value).isprintable()


@unhurried
@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_refused(raw):
    with suppress(RemoteProtocolError):
        json.dumps(load_json(raw), allow_nan=False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[" * 1_000_000,
        b"NaN",
        b"[1e5, Infinity]",
        b"\xff\xfe",
        b"1" * 5000,
        b"[" + b"[]," * 3_000_000,
    ],
)
def test_n01_n15_text_that_is_not_json_or_too_much_of_it_is_refused(raw):
    with pytest.raises(RemoteProtocolError, match="JSON"):
        load_json(raw)
