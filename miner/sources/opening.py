"""From what a user writes to a work source: addresses, and where names and passwords come from."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from miner.sources.connection import Endpoint
from miner.sources.jsonrpc import Credentials
from miner.sources.pool import PoolSettings, PoolSource
from miner.sources.rpc import NodeSource
from miner.template import Payout

NODE_SCHEMES = ("http", "https")
POOL_SCHEMES = ("stratum+tcp", "stratum+ssl")

USER_VARIABLE = "MINER_USER"
PASSWORD_VARIABLE = "MINER_PASSWORD"
"""Environment variables: an address is seen by whoever lists processes."""


def is_pool(addresses: str) -> bool:
    """Whether these are addresses of pools, by their scheme."""
    return addresses.lstrip().startswith("stratum")


def open_node(
    addresses: str,
    payout: Payout,
    *,
    cookie: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> NodeSource:
    """A source for http(s)://[user:password@]host[:port][/wallet][,more to fail over to].

    Where an address names no user, the cookie file counts, then MINER_USER and MINER_PASSWORD.
    ValueError for an address that is none; it never quotes a password.
    """
    nodes = [_with_credentials(endpoint, cookie, environ) for endpoint in _endpoints(addresses, NODE_SCHEMES)]
    return NodeSource(nodes, payout)


def open_pool(
    addresses: str,
    settings: PoolSettings | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> PoolSource:
    """A source for stratum+tcp:// or stratum+ssl://user[:password]@host[:port][,more to fail over to].

    Where an address names no user, MINER_USER and MINER_PASSWORD count. ValueError for an address that
    is none, or that has no user anywhere.
    """
    pools = []
    for endpoint in _endpoints(addresses, POOL_SCHEMES):
        user = endpoint.user or environ.get(USER_VARIABLE, "")
        if not user:
            raise ValueError(
                f"{endpoint.name} needs a user: write it before the host, or set {USER_VARIABLE}"
            )
        # Most pools ask for a password and look at none.
        password = endpoint.password or environ.get(PASSWORD_VARIABLE, "") or "x"
        pools.append(endpoint.as_user(user, password))
    return PoolSource(pools, settings)


def _endpoints(addresses: str, schemes: Sequence[str]) -> list[Endpoint]:
    return [Endpoint.parse(address.strip(), schemes) for address in addresses.split(",")]


def _with_credentials(
    endpoint: Endpoint, cookie: Path | None, environ: Mapping[str, str]
) -> tuple[Endpoint, Credentials]:
    if endpoint.user or endpoint.password:
        return endpoint, Credentials(endpoint.user, endpoint.password)
    if cookie is not None:
        return endpoint, Credentials(cookie=cookie)
    return endpoint, Credentials(environ.get(USER_VARIABLE, ""), environ.get(PASSWORD_VARIABLE, ""))
