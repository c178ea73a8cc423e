"""Webhooks of the stand-in."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit


class Callbacks:
    """Posts webhooks over kept connections, each once."""

    def __init__(self) -> None:
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def at(self, when: float, url: str, body: bytes, sign: Callable[[], dict[str, str]], noted: dict[str, Any]) -> None:
        """Post `body` to `url` at a time of the event loop's clock, with the headers that `sign` returns then.

        The Unix time of that becomes `called_at` of `noted`.
        """
        if math.isfinite(when):
            asyncio.get_running_loop().call_at(when, self._start, url, body, sign, noted)

    def _start(self, url: str, body: bytes, sign: Callable[[], dict[str, str]], noted: dict[str, Any]) -> None:
        noted["called_at"] = time.time()
        task = asyncio.get_running_loop().create_task(self._post(url, body, sign))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, url: str, body: bytes, sign: Callable[[], dict[str, str]]) -> None:
        to = urlsplit(url)
        fields = {"host": to.netloc, "content-type": "application/json", "content-length": str(len(body))} | sign()
        head = f"POST {to.path}{'?' + to.query if to.query else ''} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(to.hostname, to.port or 80)
        with suppress(OSError, asyncio.IncompleteReadError):
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = answer.partition(b"content-length:")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            self._idle.append((reader, writer))
            return
        writer.close()
