"""fal's platform API: prices, past requests, account metadata, and the public keys of webhooks."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.fal.api import fal_id, fal_refuses_key
from sandbox.fal.documents import listed, status_code
from sandbox.http.responses import Reply
from sandbox.http.serving import conduct, render
from sandbox.http.signing import Keys
from sandbox.models.endpoints import ENDPOINTS, Endpoint, find_endpoint
from sandbox.runs.intake import Desk
from sandbox.runs.job import Job
from sandbox.times import parse_time


class FalPlatform:
    """The endpoints of `api.fal.ai` and `rest.fal.ai`."""

    def __init__(self, desk: Desk, keys: Keys) -> None:
        self._desk, self._keys = desk, keys

    def routes(self) -> list[Route]:
        """The routes of the platform API."""
        return [
            Route("/v1/models/pricing", self.pricing),
            Route("/v1/models/requests/by-endpoint", self.by_endpoint),
            Route("/v1/meta", self.meta),
            Route("/.well-known/jwks.json", self.jwks),
        ]

    async def pricing(self, request: Request) -> Response:
        """Unit prices of the requested endpoints, or of all."""
        spoiled = await self._refused(request) or await self._desk.interfere(request, "fal", "probe", fal_id())
        if spoiled:
            return spoiled
        names = [n for value in request.query_params.getlist("endpoint_id") for n in value.split(",") if n]
        found = [find_endpoint("fal", name) for name in names]
        if None in found:
            return render(_error("not_found", "Endpoint not found"), fal_id())
        chosen = [e for e in found if e] or [e for e in ENDPOINTS.values() if e.provider == "fal"]
        document = {"prices": [_price(e) for e in chosen], "next_cursor": None, "has_more": False}
        return render(Reply(200, document), fal_id())

    async def by_endpoint(self, request: Request) -> Response:
        """Past requests of one endpoint, newest first."""
        spoiled = await self._refused(request) or await self._desk.interfere(request, "fal", "list", fal_id())
        if spoiled:
            return spoiled
        query = request.query_params
        try:
            start, end = parse_time(query.get("start")), parse_time(query.get("end"))
            limit, offset = min(int(query.get("limit", 50)), 100), int(query.get("cursor", 0))
        except ValueError:
            return render(_error("validation_error", "A parameter is not valid"), fal_id())
        names = {name.lower() for name in query.getlist("endpoint_id")}
        found = [
            job
            for job in self._desk.jobs.newest_first("fal")
            if job.endpoint.name.lower() in names and self._shown(job, query, start, end)
        ]
        with_payloads = "payloads" in ",".join(query.getlist("expand"))
        items = [listed(job, with_payloads=with_payloads) for job in found[offset : offset + limit]]
        more = offset + limit < len(found)
        document = {"items": items, "next_cursor": str(offset + limit) if more else None, "has_more": more}
        return render(Reply(200, document), fal_id())

    async def meta(self, request: Request) -> Response:
        """The IP ranges that webhooks are sent from."""
        return render(Reply(200, {"webhook_ip_ranges": ["127.0.0.1/32"]}), fal_id())

    async def jwks(self, request: Request) -> Response:
        """The public keys of webhooks, as a JWK set."""
        spoiled = await self._desk.interfere(request, "fal", "keys", fal_id())
        return spoiled or render(Reply(200, self._keys.jwks()), fal_id())

    async def _refused(self, request: Request) -> Response | None:
        refusal = fal_refuses_key(request.headers, self._desk.settings)
        return None if refusal is None else await conduct(request, refusal, own=fal_id())

    def _shown(self, job: Job, query: Mapping[str, str], start: float | None, end: float | None) -> bool:
        if job.outcome is None and not self._desk.settings.fal_lists_unfinished:
            return False
        code = status_code(job)
        kind = None if code is None else "success" if code < 400 else "user_error" if code < 500 else "error"
        wanted = query.get("status"), query.get("request_id")
        return (
            (start is None or job.created_at >= start)
            and (end is None or job.created_at <= end)
            and wanted[0] in (None, kind)
            and wanted[1] in (None, job.id)
        )


def _price(endpoint: Endpoint) -> dict[str, Any]:
    unit, price = endpoint.unit
    return {"endpoint_id": endpoint.name, "unit_price": price, "unit": unit, "currency": "USD"}


def _error(kind: str, message: str) -> Reply:
    status = 404 if kind == "not_found" else 422
    return Reply(status, {"error": {"type": kind, "message": message}})
