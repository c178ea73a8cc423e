"""Many hostile connections to the loopback address of this machine, for a limited time.

`python -m tests.strangers.clients --sort idle --port 8080 --connections 5000 --seconds 60`
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.strangers.sorts import SORTS, Sort

MOST_SECONDS: Final = 120
MOST_CONNECTIONS: Final = 15_000
ADDRESSES: Final = tuple(f"127.0.0.{n}" for n in range(10, 26))
"""Source addresses: one address has too few ports for thousands of connections a second."""
_CONNECTING: Final = 200
_AGAIN_AFTER_S: Final = 0.5
_LEAVES_AFTER_S: Final = 0.2


class Stranger(asyncio.Protocol):
    """One hostile connection."""

    def __init__(self, sort: Sort, counts: Counter[str]) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._sort, self._counts = sort, counts
        self._first = sort.first()
        self._writable = True
        self._transport: asyncio.Transport | None = None
        self._drip: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._counts["open"] += 1
        self._counts["opened"] += 1
        if not self._sort.reads:
            transport.pause_reading()
        self._send()
        if self._sort.drip:
            self._dripping()

    def connection_lost(self, exc: Exception | None) -> None:
        self._counts["open"] -= 1
        self._transport = None
        if self._drip is not None:
            self._drip.cancel()
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 "):
            self._counts[data[9:12].decode("ascii", "replace")] += 1

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        asyncio.get_running_loop().call_soon(self._send)  # Written from here, a failure would end the connection twice.

    def end(self) -> None:
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self) -> None:
        while self._writable and self._transport is not None and not self._transport.is_closing():
            piece = next(self._first, None)
            if piece is None:
                if self._sort.leaves:
                    asyncio.get_running_loop().call_later(_LEAVES_AFTER_S, self.end)
                return
            self._transport.write(piece)

    def _dripping(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._sort.drip)
            self._drip = asyncio.get_running_loop().call_later(1, self._dripping)


@asynccontextmanager
async def strangers(sort: Sort, port: int, connections: int, *, again: bool = True) -> AsyncIterator[Counter[str]]:
    """Hold connections to 127.0.0.1 for the length of the block; yields counts of connections and of status codes.

    With `again`, a connection that was closed is opened again.
    """
    counts: Counter[str] = Counter()
    connecting = asyncio.Semaphore(_CONNECTING)

    async def one(n: int) -> None:
        while True:
            stranger = await _connected(sort, port, ADDRESSES[n % len(ADDRESSES)], counts, connecting)
            if stranger is not None:
                try:
                    await stranger.ended
                finally:
                    stranger.end()
            if not again:
                return
            await asyncio.sleep(_AGAIN_AFTER_S)

    tasks = [asyncio.create_task(one(n)) for n in range(connections)]
    try:
        yield counts
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


async def _connected(
    sort: Sort, port: int, address: str, counts: Counter[str], connecting: asyncio.Semaphore
) -> Stranger | None:
    loop = asyncio.get_running_loop()
    async with connecting:
        try:
            _, made = await loop.create_connection(
                lambda: Stranger(sort, counts), "127.0.0.1", port, local_addr=(address, 0)
            )
        except OSError:
            counts["not connected"] += 1
            return None
        return made


async def _run(options: argparse.Namespace) -> Counter[str]:
    most = 0
    async with strangers(SORTS[options.sort], options.port, options.connections) as counts:
        for _ in range(options.seconds):
            await asyncio.sleep(1)
            most = max(most, counts["open"])
        counts["most open"] = most
        counts["open at the end"] = counts["open"]
        return Counter(counts)


def main() -> None:
    """Run as a program, which ends after `--seconds`."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sort", choices=SORTS, required=True)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--connections", type=int, required=True)
    options.add_argument("--seconds", type=int, required=True)
    chosen = options.parse_args()
    chosen.seconds = min(chosen.seconds, MOST_SECONDS)
    chosen.connections = min(chosen.connections, MOST_CONNECTIONS)
    signal.alarm(chosen.seconds + 20)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps(asyncio.run(_run(chosen))))


if __name__ == "__main__":
    main()
