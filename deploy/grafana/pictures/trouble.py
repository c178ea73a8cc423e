"""What happens around the jobs: clients that are turned away, a database that ends connections, rows that are old."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import asyncpg

_EVERY_S: Final = 30
_ROUNDS: Final = 7
_MALFORMED: Final = (b"\x16\x03\x01\x00\xa5\x01\x00\x00", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n")
"""The first bytes of TLS, and a path that is too long."""
_DISCONNECT: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_DISCONNECTS: Final = 40
_AGED: Final = (
    # What retention goes by; the jobs themselves stay. Several services, since each looks at a time of its own choice.
    """UPDATE gateway.idempotency SET created_at = created_at - interval '100 days'
    WHERE created_at < now() - interval '20 s'""",
    """UPDATE fal_adapter.attempts
    SET updated_at = updated_at - interval '100 days', deadline_at = deadline_at - interval '100 days'
    WHERE state = 'succeeded' AND next_action_at IS NULL AND updated_at < now() - interval '20 s'""",
    """UPDATE replicate_adapter.attempts
    SET updated_at = updated_at - interval '100 days', deadline_at = deadline_at - interval '100 days'
    WHERE state = 'succeeded' AND next_action_at IS NULL AND updated_at < now() - interval '20 s'""",
)


async def trouble(api: str, database_url: str, say: Callable[[str], None]) -> None:
    """Turn clients away and make rows old again and again; end the connections to the database once."""
    for number in range(_ROUNDS):
        await asyncio.sleep(_EVERY_S)
        for first in _MALFORMED:
            await _send(api, first)
        owner = await asyncpg.connect(database_url)
        try:
            for statement in _AGED:
                await owner.execute(statement)
            if number == 1:
                # A batch that is under way fails and is tried again.
                say("PostgreSQL ends every connection for some seconds")
                for _ in range(_DISCONNECTS):
                    await owner.execute(_DISCONNECT)
                    await asyncio.sleep(0.1)
        finally:
            await owner.close()


async def _send(api: str, first: bytes) -> None:
    at = urlsplit(api)
    with suppress(OSError):
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        writer.write(first)
        await writer.drain()
        await reader.read(200)
        writer.close()
        await writer.wait_closed()
