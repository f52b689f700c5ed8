"""The fields of a block template, read one by one: JSON in, checked values out.

Each function takes the template object and raises RemoteProtocolError naming
the field. Nothing is believed that can be computed: txids and the witness
commitment come from the transactions' own bytes.
"""

from collections.abc import Collection, Mapping, Sequence

from miner.block import COMMITMENT_PREFIX, witness_commitment
from miner.errors import RemoteProtocolError, RuleError
from miner.header import display_hex
from miner.params import VERSION_MASK
from miner.target import MAX_TARGET, bits_to_target
from miner.transaction import Transaction
from miner.untrusted import (
    excerpt,
    field,
    fields,
    hash_of,
    hex_bytes,
    hex_uint32,
    listing,
    refuse,
    text,
    whole,
)
from miner.work import NONCES

SUPPORTED_RULES = frozenset({"csv", "segwit", "taproot", "testdummy"})
"""Soft forks under which our blocks are valid. All but segwit bind transactions alone, which the node
chose and which are taken as they are."""

MAX_MONEY = 21_000_000 * 100_000_000
"""Satoshi; no coinbase can be worth more (Bitcoin Core, consensus/amount.h)."""

MAX_FUTURE_SECONDS = 7200
"""A header may be this far ahead of the node's clock (Bitcoin Core, MAX_FUTURE_BLOCK_TIME)."""

MAX_LONG_POLL_ID = 1000
"""Characters; real ones have 64 hex digits and a counter."""

MAX_UINT32 = (1 << 32) - 1
"""The last second, version and nonce that a header can hold."""

_MAX_TX_BYTES = 1 << 30


def words(raw: Mapping[str, object], key: str) -> list[str]:
    """An optional list of short strings."""
    return [text(word, key, 100) for word in listing(raw.get(key, []), key, 1000)]


def rules(raw: Mapping[str, object]) -> frozenset[str]:
    """The active soft forks, without their marks."""
    active = words(raw, "rules")
    # BIP 9: a rule with "!" before it changes what a valid block is, even one that takes the template as
    # it is; a client that does not know it must not mine.
    unknown = [rule for rule in active if rule.startswith("!") and rule[1:] not in SUPPORTED_RULES]
    if unknown:
        raise RemoteProtocolError(f"the node demands the rule {excerpt(unknown[0])}, which is not supported")
    return frozenset(rule.removeprefix("!") for rule in active)


def version(raw: Mapping[str, object]) -> int:
    """The block version, all 32 bits of it."""
    return whole(field(raw, "version"), "version", 0, MAX_UINT32)


def previous(raw: Mapping[str, object]) -> bytes:
    """The parent's hash, internal order."""
    return hash_of(field(raw, "previousblockhash"), "previousblockhash")


def height(raw: Mapping[str, object]) -> int:
    """The block's height; Bitcoin Core keeps it in an int32."""
    return whole(field(raw, "height"), "height", 0, (1 << 31) - 1)


def coinbase_value(raw: Mapping[str, object]) -> int:
    """Subsidy and fees, in satoshi."""
    return whole(field(raw, "coinbasevalue"), "coinbasevalue", 0, MAX_MONEY)


def difficulty(raw: Mapping[str, object]) -> tuple[int, int, tuple[str, ...]]:
    """Bits, target, and a warning if they disagree; then the harder one counts."""
    bits = hex_uint32(field(raw, "bits"), "bits")
    target = int.from_bytes(hex_bytes(field(raw, "target"), "target", 32, 32), "big")
    try:
        limit = bits_to_target(bits)
    except RuleError as error:
        raise RemoteProtocolError(error.text) from None
    if target == 0:
        refuse("target", raw["target"], f"in 1 ... {MAX_TARGET:064x}")
    if target == limit:
        return bits, target, ()
    warning = f"bits {bits:08x} and target {target:064x} disagree: the harder one is mined"
    return bits, min(target, limit), (warning,)


def times(raw: Mapping[str, object]) -> tuple[int, int]:
    """The header time to begin with and the last one allowed, by the node's clock."""
    now = whole(field(raw, "curtime"), "curtime", 0, MAX_UINT32)
    least = whole(field(raw, "mintime"), "mintime", 0, MAX_UINT32)
    most = whole(raw["maxtime"], "maxtime", 0, MAX_UINT32) if "maxtime" in raw else MAX_UINT32
    if most < least:
        raise RemoteProtocolError(f"maxtime {most} < mintime {least}")
    # The least time is the chain's rule; the most is measured by a clock, which may be wrong.
    time = max(least, min(now, most))
    mutable = words(raw, "mutable")
    if not {"time", "time/increment"}.intersection(mutable):
        return time, time
    return time, max(time, min(most, now + MAX_FUTURE_SECONDS, MAX_UINT32))


def transactions(raw: Mapping[str, object], limit: int) -> list[tuple[bytes, Transaction]]:
    """All but the coinbase: as bytes, and parsed."""
    entries = listing(field(raw, "transactions"), "transactions", limit)
    found = [_transaction(entry, number) for number, entry in enumerate(entries, 1)]
    seen: set[bytes] = set()
    for number, (_, transaction) in enumerate(found, 1):
        if transaction.txid in seen:
            txid = display_hex(transaction.txid)
            raise RemoteProtocolError(f"transactions[{number}] is there twice: {txid}")
        seen.add(transaction.txid)
    return found


def _transaction(entry: object, number: int) -> tuple[bytes, Transaction]:
    """The entry at this place, counted from 1 as `depends` counts."""
    name = f"transactions[{number}]"
    raw = fields(entry, name)
    data = hex_bytes(raw.get("data"), f"{name}.data", 10, _MAX_TX_BYTES)
    try:
        transaction = Transaction.parse(data)
    except (RuleError, ValueError) as error:
        raise RemoteProtocolError(f"{name}.data is no transaction: {error}") from None
    # BIP 145: txid is the hash without witnesses. Nodes without segwit send `hash` alone, or both alike.
    for key, digest in (("txid", transaction.txid), ("hash", transaction.wtxid)):
        if key in raw and hash_of(raw[key], f"{name}.{key}") != digest:
            found = display_hex(digest)
            raise RemoteProtocolError(f"{name}.{key} is {excerpt(raw[key])}; its data hashes to {found}")
    # BIP 22: other transactions before this one, by 1-based index.
    for parent in listing(raw.get("depends", []), f"{name}.depends", number):
        whole(parent, f"{name}.depends", 1, number - 1)
    return data, transaction


def commitment(
    raw: Mapping[str, object], rules: Collection[str], transactions: Sequence[Transaction]
) -> bytes | None:
    """What the coinbase commits to, computed and compared with what the node says."""
    if "segwit" not in rules:
        # bcoin sends a commitment before segwit is active too, and rejects a block that uses it.
        if any(tx.witnesses for tx in transactions):
            raise RemoteProtocolError("a transaction has a witness, and segwit is not among the rules")
        return None
    computed = witness_commitment([tx.wtxid for tx in transactions])
    claimed = raw.get("default_witness_commitment")
    script = COMMITMENT_PREFIX + computed
    if claimed is not None and hex_bytes(claimed, "default_witness_commitment", 38, 38) != script:
        wanted = f"{script.hex()}, which the transactions give"
        refuse("default_witness_commitment", claimed, wanted)
    return computed


def flags(raw: Mapping[str, object]) -> bytes:
    """What the node wants in the coinbase's script."""
    # BIP 22: only the values (hexadecimal byte-for-byte) in this object should be included, not the keys.
    extra = fields(raw.get("coinbaseaux", {}), "coinbaseaux")
    return b"".join(hex_bytes(extra[key], f"coinbaseaux.{excerpt(key, 40)}", 0, 1000) for key in extra)


def nonces(raw: Mapping[str, object]) -> range:
    """The nonces that may be scanned."""
    if "noncerange" not in raw:
        return NONCES
    # BIP 23: two 32-bit integers, concatenated in big-endian hexadecimal.
    both = hex_bytes(raw["noncerange"], "noncerange", 8, 8)
    first, last = int.from_bytes(both[:4], "big"), int.from_bytes(both[4:], "big")
    if last < first:
        refuse("noncerange", raw["noncerange"], "in ascending order")
    return range(first, last + 1)


def version_mask(raw: Mapping[str, object], version: int) -> int:
    """BIP 320's bits, less those that this node's chain gives a meaning."""
    meant = whole(raw.get("vbrequired", 0), "vbrequired", 0, MAX_UINT32)
    for name, bit in fields(raw.get("vbavailable", {}), "vbavailable").items():
        meant |= 1 << whole(bit, f"vbavailable.{excerpt(name, 40)}", 0, 31)
    # BIP 9: the bits have their meaning where the top three are 001; older versions are numbers.
    return VERSION_MASK & ~meant if version >> 29 == 1 else 0


def long_poll_id(raw: Mapping[str, object]) -> str | None:
    """None where long polling is not offered, or in a form that is better not sent back."""
    # BIP 22: clients MUST only attempt to use that URI for longpoll requests. Another host would get our
    # password, so we do without.
    if "longpolluri" in raw:
        return None
    # Seen: a real node hangs for good when it gets back a number, and fails on "".
    value = raw.get("longpollid")
    return value if isinstance(value, str) and 0 < len(value) <= MAX_LONG_POLL_ID else None


def work_id(raw: Mapping[str, object]) -> str | None:
    """What submissions have to carry, if anything."""
    return None if raw.get("workid") is None else text(raw["workid"], "workid", 1000)


def expires(raw: Mapping[str, object]) -> int | None:
    """Seconds for which the template is good; may be over already."""
    return whole(raw["expires"], "expires", -MAX_UINT32, 1 << 40) if "expires" in raw else None
