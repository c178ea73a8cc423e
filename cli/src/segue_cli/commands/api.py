"""A client of Segue's REST API that reports refusals as sentences."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urljoin

import httpx

from segue_cli.commands.output_place import unfinished
from segue_cli.stack import environment
from segue_cli.stack.folder import FOLDER

DEFAULT: Final = "http://127.0.0.1:8080"
TIMEOUT_S: Final = 30.0
FINAL: Final = frozenset({"succeeded", "failed", "cancelled"})

CANCEL_UNKNOWN: Final = (
    "The job may be cancelled all the same. Repeating the command is safe, and says what became of it."
)
RESOLVE_UNKNOWN: Final = "The report may have been taken all the same. Repeating the command is safe: it is taken once."
COLLECT_UNKNOWN: Final = "The files may be fetched all the same. Repeating the command is safe: nothing is paid for."
"""What holds if the answer to such a request is lost."""
_NOT_TAKEN: Final = "No job was created, and nothing will be billed."
_MEANINGS: Final[dict[str, str]] = {
    "invalid-request": f"{_NOT_TAKEN} Change the request and send it again.",
    "malformed-json": _NOT_TAKEN,
    "unknown-model": f"{_NOT_TAKEN} {{api}}/api/models lists the models.",
    "no-route": f"{_NOT_TAKEN} No provider can do what was asked; the reasons are above.",
    "body-too-large": _NOT_TAKEN,
    "invalid-idempotency-key": _NOT_TAKEN,
    "idempotency-key-reused": "The earlier job with this key continues unchanged; no new job was created.",
    "job-unreadable": "The job continues unchanged, and nothing new will be billed.",
    "read-model-away": "Jobs continue, but cannot be looked up right now.",
    "events-away": "Jobs continue, but one that was accepted a moment ago cannot be looked up right now.",
    "artifact-expired": "The job and its data are kept; only the file was deleted.",
    "artifact-store-away": "The file is not lost; try again in a moment.",
    "too-many-downloads": "The file is not lost; try again in a moment.",
    "attempt-not-ambiguous": "Nothing was changed.",
    "attempt-not-found": "Nothing was changed.",
    "run-of-another-attempt": "Nothing was changed. Look again at the provider: which run is this attempt's own?",
    "job-not-found": "There is no such job here; nothing was billed for it.",
}


class ApiFailed(Exception):
    """The API refused or could not be reached; the text is for the user."""


class NotFetched(ApiFailed):
    """A file did not arrive, or could not be written."""


def submit_unknown(key: str) -> str:
    """What holds if the answer to a submit with this Idempotency-Key is lost."""
    return f"The job may exist all the same. Repeating it with the same key is safe and bills once: --key {key}"


def address(option: str | None, folder: Path = FOLDER) -> str:
    """The API's base URL: the option, SEGUE_API, that of `segue up` in this folder, or the default, in this order."""
    told = option or os.environ.get(environment.API) or environment.read_env(folder / "up.env").get(environment.API)
    return (told or DEFAULT).rstrip("/")


class Api:
    """The calls that the command line makes. Each raises ApiFailed."""

    def __init__(self, base: str, client: httpx.Client) -> None:
        self.base = base
        self._client = client

    def submit(self, request: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Submit a request and return the job as JSON; a repeat with the same `key` returns the same job."""
        headers, unknown = {"Idempotency-Key": key}, submit_unknown(key)
        return self._json("POST", "/api/tracks", unknown=unknown, json=dict(request), headers=headers)

    def job(self, job_id: str) -> dict[str, Any]:
        """One job, as JSON."""
        return self._json("GET", f"/api/jobs/{quote(job_id, safe='')}")

    def jobs(self, limit: int, status: str | None) -> list[dict[str, Any]]:
        """The newest jobs, as JSON."""
        asked = {"limit": limit, **({"status": status} if status else {})}
        found: list[dict[str, Any]] = self._json("GET", "/api/jobs", params=asked)["jobs"]
        return found

    def log(self, job_id: str) -> list[dict[str, Any]]:
        """The entries of a job's log so far, in order."""
        entries: list[dict[str, Any]] = self.whole_log(job_id)["entries"]
        return entries

    def whole_log(self, job_id: str) -> dict[str, Any]:
        """A job's log so far, as JSON: its entries, and where its trace is shown."""
        return self._json("GET", f"/api/jobs/{quote(job_id, safe='')}/logs")

    def cancel(self, job_id: str, wait_s: int) -> dict[str, Any]:
        """Cancel a job, wait up to `wait_s` seconds for the result, and return the job as JSON."""
        headers, timeout = {"Prefer": f"wait={wait_s}"}, wait_s + TIMEOUT_S
        path = f"/api/jobs/{quote(job_id, safe='')}/cancel"
        return self._json("POST", path, unknown=CANCEL_UNKNOWN, headers=headers, timeout=timeout)

    def attempts(self, limit: int, provider: str | None, *, ambiguous: bool) -> list[dict[str, Any]]:
        """The newest attempts, as JSON."""
        asked = {"limit": limit, "ambiguous": ambiguous, **({"provider": provider} if provider else {})}
        found: list[dict[str, Any]] = self._json("GET", "/api/attempts", params=asked)["attempts"]
        return found

    def attempt(self, attempt_id: str) -> dict[str, Any]:
        """One attempt, as JSON."""
        return self._json("GET", f"/api/attempts/{quote(attempt_id, safe='')}")

    def resolve(self, attempt_id: str, accepted: str | None) -> dict[str, Any]:
        """Report that an attempt was accepted as this run, or was never accepted; returns the API's answer."""
        verdict = {"never_accepted": True} if accepted is None else {"accepted": accepted}
        path = f"/api/attempts/{quote(attempt_id, safe='')}/resolve"
        return self._json("POST", path, unknown=RESOLVE_UNKNOWN, json=verdict)

    def collect(self, attempt_id: str) -> dict[str, Any]:
        """Request that an attempt's output is fetched again; returns the API's answer."""
        return self._json("POST", f"/api/attempts/{quote(attempt_id, safe='')}/collect", unknown=COLLECT_UNKNOWN)

    def providers(self) -> dict[str, Any]:
        """The state of each provider, as JSON."""
        return self._json("GET", "/api/providers")

    def download(self, url: str, to: Path) -> int:
        """Write one of the API's files to `to`, completely or not at all; returns its size in bytes.

        Raises NotFetched if it may be fetched again, and ApiFailed if the API refuses it.
        """
        part = unfinished(to)
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            with self._client.stream("GET", self.url(url)) as answer, part.open("wb") as file:
                if not answer.is_success:
                    answer.read()
                    raise ApiFailed(problem_in_words(answer, self.base))
                for chunk in answer.iter_bytes():
                    file.write(chunk)
            part.replace(to)
            return to.stat().st_size
        except httpx.HTTPError as error:
            raise NotFetched(unreachable(self.base, error)) from error
        except OSError as error:
            raise NotFetched(f"{to} cannot be written: {error.strerror or error}.") from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def url(self, path: str) -> str:
        """The whole URL of one of the API's files."""
        return urljoin(self.base, path)

    def _json(self, method: str, path: str, *, unknown: str = "", **rest: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, self.base + path, **rest)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ApiFailed(unreachable(self.base, error, unknown=unknown)) from error
        if not answer.is_success:
            raise ApiFailed(problem_in_words(answer, self.base, unknown=unknown))
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ApiFailed(f"{self.base} answered, but not as Segue's API does: is another program there?")
        return document


@contextmanager
def connected(base: str) -> Iterator[Api]:
    """A client of the API at `base`, for the length of the block."""
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
        yield Api(base, client)


def problem_in_words(answer: httpx.Response, api: str, *, unknown: str = "") -> str:
    """A refusal as text: what it was, each field that is wrong, and what it means for the job and its cost.

    `unknown` is what holds if the request may have been taken nevertheless.
    """
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict) or "title" not in document:
        said = f"{api} answered {answer.status_code} {answer.reason_phrase}, but not as Segue's API does."
        return f"{said} {unknown}".rstrip() if answer.is_server_error else said
    lines = [f"{document['title']} ({answer.status_code}): {document.get('detail', '')}"]
    errors = document.get("errors") or []
    lines += [f"  {each['field']}: {each['problem']}" for each in errors if len(errors) > 1]
    lines += [f"  {each['provider']} {each['model']}: {each['reason']}" for each in document.get("routes") or []]
    kind = str(document.get("type", "")).rpartition(":")[2]
    if kind == "not-confirmed":
        key = document.get("idempotency_key")
        lines.append(submit_unknown(key) if key else unknown)
    elif meaning := _MEANINGS.get(kind):
        lines.append(meaning.format(api=api))
    return "\n".join(lines)


def unreachable(api: str, error: Exception, *, unknown: str = "") -> str:
    """A missing answer as text: what to do, and `unknown` if the request may have been taken."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"No Segue answers at {api} ({error}). Start one with `segue up`, or say where it is with --api."
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return f"{api} is not the address of an API: {error}"
    return f"{api} was reached, but gave no answer ({type(error).__name__}). {unknown}".rstrip()
