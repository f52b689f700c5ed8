"""Mines on a store until it is killed: `python -m tests.kill_child FILE`.

Says each block's height and hash once `accept` has returned.
"""

import sys

from miner.chain import Chain
from miner.store import SqliteStore
from tests.chains import REGTEST, block_after


def main(path: str) -> None:
    with SqliteStore(path, REGTEST) as store:
        chain = Chain(REGTEST, store)
        print("open", chain.height, flush=True)
        while True:
            block = block_after(chain.tip, chain.height + 1)
            chain.accept(block)
            print(chain.height, block.header.hash_hex, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
