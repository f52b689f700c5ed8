"""Two nodes race on one chain in one asyncio process, each with an engine of its own.

    python examples/two_nodes.py [BLOCKS]

Whoever finds a block announces it; the other accepts it through the same rules
as its own, and its engine drops what it was doing and builds on the new tip.
Should both find one at once, the next block decides: the loser reorganises.
"""

import asyncio
import sys

from miner import Chain, Engine, LocalSource, MemoryStore, network

ANYONE_CAN_SPEND = b"\x51"  # OP_TRUE


class Node:
    def __init__(self, name: str) -> None:
        self.name = name
        self.chain = Chain(network("local"), MemoryStore())
        self.engine = Engine("python")

    async def mine(self, peer: "Node") -> None:
        source = LocalSource(self.chain, script=ANYONE_CAN_SPEND, tag=self.name.encode())
        async with self.engine:
            async for verdict in self.engine.run(source):
                print(f"{self.name:<5} {verdict.outcome:<8} {verdict.share.hash_hex} {verdict.reason}")
                block = self.chain.block(verdict.share.hash)
                if block is not None:  # it is not if the peer's block came first
                    await asyncio.to_thread(peer.chain.accept, block)

    def report(self) -> None:
        stats = self.engine.stats()
        stops = f"{stats.stop_latency.count} stops for a new tip, p99 {stats.stop_latency.p99 * 1000:.0f} ms"
        print(f"{self.name:<5} {stats.hashes:,} hashes, {stops}")


async def race(height: int) -> None:
    alice, bob = Node("alice"), Node("bob")
    miners = asyncio.gather(alice.mine(bob), bob.mine(alice))
    while not (alice.chain.tip == bob.chain.tip and alice.chain.height >= height):
        await asyncio.sleep(0.05)
    for node in (alice, bob):
        await asyncio.to_thread(node.engine.close)
    await miners
    for node in (alice, bob):
        node.report()
    print(f"both hold {alice.chain.tip.hash_hex} at height {alice.chain.height}")


if __name__ == "__main__":
    asyncio.run(race(int(sys.argv[1]) if len(sys.argv) > 1 else 8))
