"""The services that run: whether each is ready, and why not, as it says itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from segue_cli.doctor.advice import Finding
from segue_cli.local.ports import LOOPBACK
from segue_cli.stack import environment
from segue_cli.stack.folder import FOLDER

LIMIT_S: Final = 5.0
_EVERYWHERE: Final = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not bound


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a service should answer."""

    what: str
    address: str
    required: bool
    """Whether it has to run: `segue up` started it, and runs itself."""


async def running_services(env: Mapping[str, str]) -> list[Finding]:
    """Ask the services of the `segue up` in this folder, or those that the settings name, whether they are ready."""
    up = environment.read_env(FOLDER / "up.env")
    places = list(_started(up) if up else _configured(env))
    api = (up or env).get(environment.API)
    async with httpx.AsyncClient(trust_env=False, timeout=LIMIT_S) as client:
        found = await asyncio.gather(*(_asked(client, place) for place in places))
        return [*found, *(await _providers(client, api) if api else [])]


def _started(up: Mapping[str, str]) -> Iterator[_Place]:
    for part in filter(None, up.get(environment.SERVICES, "").split(",")):
        name, _, address = part.partition("=")
        yield _Place(name, address, required=True)


def _configured(env: Mapping[str, str]) -> Iterator[_Place]:
    if api := env.get(environment.API):
        yield _Place("API", api.rstrip("/"), required=False)
    for what, host, port in (
        ("health pages", "SEGUE_HEALTH_HOST", "SEGUE_HEALTH_PORT"),
        ("service", "SEGUE_HOST", "SEGUE_PORT"),
    ):
        if (number := env.get(port, "0")).isdecimal() and int(number):
            name = env.get(host, LOOPBACK)
            address = LOOPBACK if name in _EVERYWHERE else f"[{name}]" if ":" in name else name
            yield _Place(f"{what} at {port}", f"http://{address}:{number}", required=False)


async def _asked(client: httpx.AsyncClient, place: _Place) -> Finding:
    page = f"{place.address}/readyz"
    try:
        answer = await client.get(page)
        told = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        what = f"does not answer at {_shown(place.address)}: {type(error).__name__}"
        if place.required:
            return Finding(place.what, "fail", what, "Its log says why; `segue up` printed how to start it again.")
        return Finding(place.what, "warn", what, "Nothing to do if it does not run yet.")
    except ValueError:
        told = None
    if not isinstance(told, dict) or told.get("status") not in ("ok", "fail"):
        what = f"{_shown(place.address)} answers {answer.status_code}, but not as a service of Segue"
        return Finding(place.what, "fail" if place.required else "warn", what, "Is another program there?")
    failing = [each for each in _failing(told.get("dependencies")) if each != str(told.get("reason"))]
    if told["status"] == "fail":
        why = "; ".join([str(told.get("reason")), *failing])
        return Finding(place.what, "fail", f"not ready: {why}", "It becomes ready by itself once that is over.")
    if failing or told.get("warnings"):
        why = "; ".join([*failing, *map(str, told.get("warnings") or ())])
        return Finding(place.what, "warn", f"ready; {why}", "Look at what it names.")
    return Finding(place.what, "ok", "ready")


def _failing(dependencies: Any) -> Iterator[str]:
    for name, state in dependencies.items() if isinstance(dependencies, dict) else ():
        if isinstance(state, dict) and state.get("status") == "fail":
            yield f"{name}: {state.get('reason')} (for {state.get('for_s')} s)"


async def _providers(client: httpx.AsyncClient, api: str) -> list[Finding]:
    """What the gateway says about the providers; nothing if it does not answer, which has a finding already."""
    what = "providers, by the gateway"
    try:
        answer = await client.get(f"{api.rstrip('/')}/api/health/providers")
        told = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return []
    if not isinstance(told, dict):
        return []
    if not answer.is_success:
        return [Finding(what, "warn", str(told.get("title") or answer.status_code), "Look at the gateway's log.")]
    states = {name: state for name, state in told.items() if state in ("ok", "fail")}
    words = [f"{name}: {told.get(f'{name}_error') or state}" for name, state in states.items()]
    failed = "fail" in states.values()
    todo = "`segue providers` says more." if failed else ""
    return [Finding(what, "warn" if failed else "ok", "; ".join(words), todo)]


def _shown(address: str) -> str:
    """The address without a user and password."""
    try:
        return (
            address.replace(f"{urlsplit(address).netloc.rpartition('@')[0]}@", "…@", 1) if "@" in address else address
        )
    except ValueError:
        return "its address"
