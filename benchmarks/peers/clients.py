"""Streams held in a process of its own: `ready` when all are open, `done` when all have COUNT.

`python -m benchmarks.peers.clients PORT COUNT < tokens`
"""

import asyncio
import sys

from tests.sse import Client


async def main(port: int, count: int, tokens: list[str]) -> None:
    clients = [Client(port, token) for token in tokens]

    def has_all(client: Client) -> bool:
        client.received.clear()  # counted; kept they would cost more than what is measured
        return client.counts["MESSAGE"] >= count

    following = asyncio.gather(*(client.follow(has_all) for client in clients))
    while not (  # noqa: ASYNC110
        following.done() or all(client.counts["CONNECTED"] for client in clients)
    ):
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await following
    assert all(client.connects == 1 for client in clients)
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.read().split()))
