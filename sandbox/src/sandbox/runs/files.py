"""The URLs of outputs, and their files, which are generated at each request."""

import asyncio
import gzip
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from sandbox.http.serving import cut_short
from sandbox.models.endpoints import Endpoint, Made, Sound
from sandbox.models.media import picture, sound, sound_bytes
from sandbox.runs.faults import OddFile
from sandbox.runs.job import Job

_NAME = re.compile(r"(?P<seed>[0-9a-f]{16})-(?:(?P<ms>\d{1,6})\.wav|(?P<w>\d{1,4})x(?P<h>\d{1,4})\.png)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class File:
    """One output as a provider describes it; `size` in bytes if it is known in advance."""

    url: str
    name: str
    content_type: str
    size: int | None
    width: int | None = None
    height: int | None = None


def files_for(endpoint: Endpoint, made: Made, text: str, base: str, fault: str | None) -> tuple[File, ...]:
    """URLs that contain the parameters of the file, so that no file has to be stored."""
    folder = f"{base}/files/{fault or 'ok'}"
    digest = hashlib.sha256(f"{endpoint.provider}:{endpoint.name}:{text}".encode(errors="surrogatepass")).digest()
    seed = int.from_bytes(digest[:8], "big")
    if isinstance(made, Sound):
        milliseconds = round(made.seconds * 1000)
        name = f"{seed:016x}-{milliseconds}.wav"
        return (File(f"{folder}/{name}", name, "audio/wav", sound_bytes(milliseconds)),)
    seeds = [hashlib.sha256(digest + bytes([i])).hexdigest()[:16] for i in range(made.count)]
    names = [f"{each}-{made.width}x{made.height}.png" for each in seeds]
    return tuple(File(f"{folder}/{name}", name, "image/png", None, made.width, made.height) for name in names)


JobOf = Callable[[str], Job | None]
"""Finds a job by its id; None if there is none."""


class Files:
    """Serves outputs."""

    def __init__(self, job_of: JobOf) -> None:
        self._job_of = job_of

    async def serve(self, request: Request) -> Response:
        """Answers a GET or HEAD with the file, the requested range of it, or what the job's rule defines."""
        fault, name = request.path_params["fault"], request.path_params["name"]
        found = _NAME.fullmatch(name)
        job = self._job_of(fault.removeprefix("odd-")) if fault.startswith("odd-") else None
        if found and job is not None and isinstance(job.action.files, OddFile):
            return await _odd(job, job.action.files, found)
        if not found or fault not in ("ok", "broken", "html"):
            return Response("Not found", 404, media_type="text/plain")
        return await _usual(fault, name, found, request.headers)


async def _odd(job: Job, file: OddFile, found: re.Match[str]) -> Response:
    job.file_looks += 1
    if job.file_looks <= file.not_yet:
        return Response(b"", file.status, file.headers)
    content = file.content if file.content is not None else await asyncio.to_thread(_make, found)
    if file.coding == "gzip":
        content = gzip.compress(content, 1)
    elif file.coding == "aws-chunked":
        content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    headers = {"content-type": "audio/wav" if found["ms"] else "image/png"} | file.headers
    return Response(content, 200, headers)


async def _usual(fault: str, name: str, found: re.Match[str], headers: Headers) -> Response:
    if fault == "html":
        return HTMLResponse("<html><body>Please wait while we check your browser.</body></html>")
    kind = "audio/wav" if found["ms"] else "image/png"
    content = await asyncio.to_thread(_make, found)
    response = _ranged(content, f'"{hashlib.sha256(name.encode()).hexdigest()[:32]}"', kind, headers)
    return cut_short(response) if fault == "broken" else response


def _make(found: re.Match[str]) -> bytes:
    seed = int(found["seed"], 16)
    if found["ms"]:
        return sound(seed, int(found["ms"]))
    return picture(seed, int(found["w"]), int(found["h"]))


def _ranged(content: bytes, etag: str, kind: str, headers: Headers) -> Response:
    common = {"etag": etag, "accept-ranges": "bytes", "cache-control": "public, max-age=31536000, immutable"}
    if headers.get("if-none-match") == etag:
        return Response(None, 304, common)
    found = _RANGE.fullmatch(headers.get("range", ""))
    if not found or found.groups() == ("", "") or headers.get("if-range", etag) != etag:
        return Response(content, 200, common, media_type=kind)
    size = len(content)
    first, last = found[1], found[2]
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        return Response(None, 416, common | {"content-range": f"bytes */{size}"})
    part = common | {"content-range": f"bytes {start}-{stop - 1}/{size}"}
    return Response(content[start:stop], 206, part, media_type=kind)
