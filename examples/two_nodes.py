"""Two nodes race on one chain in one asyncio process, each with an engine of its own.

    python examples/two_nodes.py [BLOCKS]

Whoever finds a block announces it; the other accepts it through the same rules
as its own, and its engine drops what it was doing and builds on the new tip. In
the end both hold the same chain.
"""

import asyncio
import sys

from miner import Chain, Engine, LocalSource, MemoryStore, network

PAY_TO = b"\x51"  # OP_TRUE: anyone can spend


class Node:
    def __init__(self, name: str, backend: str) -> None:
        self.name, self.backend = name, backend
        self.chain = Chain(network("local"), MemoryStore())
        self.found = 0

    async def mine_and_announce(self, peers: list["Node"], height: int) -> None:
        """Mine until the chain is `height` high, whoever finds the blocks."""
        async with Engine(self.backend) as engine:
            source = LocalSource(self.chain, script=PAY_TO, tag=self.name.encode())
            watch = asyncio.create_task(self.stop_at(height, engine))
            async for verdict in engine.run(source):
                if verdict.accepted:
                    self.found += 1
                    print(f"{self.name} found {verdict.share.work.job.height}: {verdict.share.hash_hex}")
                    raw = bytes(self.chain.block(verdict.share.hash))
                    for peer in peers:
                        await asyncio.to_thread(peer.chain.accept, raw)
            await watch
            latency = engine.stats().stop_latency
            p99 = f"p99 {latency.p99 * 1000:.0f} ms"
            print(f"{self.name}: {self.found} found, {latency.count} stops for a new tip, {p99}")

    async def stop_at(self, height: int, engine: Engine) -> None:
        while self.chain.height < height:
            await asyncio.sleep(0.05)
        engine.close()


async def race(height: int) -> None:
    alice, bob = Node("alice", "python"), Node("bob", "multiprocess")
    await asyncio.gather(alice.mine_and_announce([bob], height), bob.mine_and_announce([alice], height))
    print(f"both at height {height}: {alice.chain.tip == bob.chain.tip}")


if __name__ == "__main__":
    asyncio.run(race(int(sys.argv[1]) if len(sys.argv) > 1 else 8))
