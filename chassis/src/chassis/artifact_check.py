"""Uses the artifact store while it is not known to work, so that its state does not wait for the next output."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from chassis.artifacts import STORE_ERRORS, ArtifactStore
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime

CHECK_KEY: Final = "doctor/check"
"""The key of the small file that services which write overwrite, and others ask for."""
EVERY_S: Final = 30.0


@asynccontextmanager
async def store_checked(
    store: ArtifactStore, runtime: Runtime, *, writing: bool, every_s: float = EVERY_S
) -> AsyncIterator[None]:
    """Within the block, use the store at the start, and every `every_s` seconds while its last use has failed.

    With `writing` the use writes a file of a few bytes; otherwise it asks for that file, which need not exist.
    """
    async with background(runtime, "the check of the artifact store", _check(store, runtime, every_s, writing=writing)):
        yield


async def _check(store: ArtifactStore, runtime: Runtime, every_s: float, *, writing: bool) -> None:
    while True:
        if store.dependency.seen.status != "ok":
            with suppress(*STORE_ERRORS):  # The store has noted it.
                if writing:
                    await store.put_file(_content(), CHECK_KEY, content_type="text/plain")
                else:
                    await store.head(CHECK_KEY)
        if not await runtime.pause(every_s):
            return


async def _content() -> AsyncIterator[bytes]:
    yield b"segue\n"
