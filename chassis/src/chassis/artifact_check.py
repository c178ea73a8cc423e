"""Uses the artifact store while it is not known to work, so that its state does not wait for the next output."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal, assert_never

from chassis.artifacts import STORE_ERRORS, ArtifactStore
from chassis.runtime.background import background
from chassis.runtime.runtime import Runtime

CHECK_FOLDER: Final = "doctor"
CHECK_KEY: Final = f"{CHECK_FOLDER}/check"
"""The key of the small file that services which write overwrite, and others ask for or list."""
EVERY_S: Final = 30.0
Right = Literal["write", "read", "list"]
"""What a service may do in the store, so that its check can do it."""


@asynccontextmanager
async def store_checked(
    store: ArtifactStore, runtime: Runtime, *, right: Right, every_s: float = EVERY_S
) -> AsyncIterator[None]:
    """Within the block, use the store at the start, and every `every_s` seconds while its last use has failed.

    The use needs only the `right`: it writes a file of a few bytes, asks for that file, which need not exist, or lists
    it.
    """
    async with background(runtime, "the check of the artifact store", _check(store, runtime, every_s, right)):
        yield


async def _check(store: ArtifactStore, runtime: Runtime, every_s: float, right: Right) -> None:
    while True:
        if store.dependency.seen.status != "ok":
            with suppress(*STORE_ERRORS):  # The store has noted it.
                await _use(store, right)
        if not await runtime.pause(every_s):
            return


async def _use(store: ArtifactStore, right: Right) -> None:
    match right:
        case "write":
            await store.put_file(_content(), CHECK_KEY, content_type="text/plain")
        case "read":
            await store.head(CHECK_KEY)
        case "list":
            # Of this folder, since it has one file at most.
            await store.list_first(CHECK_FOLDER)
        case _:
            assert_never(right)


async def _content() -> AsyncIterator[bytes]:
    yield b"segue\n"
