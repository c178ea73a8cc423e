"""`/docs` and `/openapi.json`: the API's description, and a page to try it, with nothing loaded from elsewhere."""

from __future__ import annotations

import json
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.staticfiles import StaticFiles
from pydantic.json_schema import models_json_schema
from starlette.datastructures import Headers
from starlette.types import Scope

from gateway.api.attempts import Resolution
from gateway.http.conditional import precondition
from gateway.http.problems import Problem, ProblemDocument
from gateway.intake.track_request import TrackRequest

STATIC: Final = Path(__file__).parents[1] / "static"
_POLICY: Final = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def install(app: FastAPI) -> None:
    """Give `app` its description, once its routes are there, and its docs page."""
    assets = _Assets(directory=STATIC)

    @cache
    def described() -> bytes:
        return json.dumps(_described(app), ensure_ascii=False, separators=(",", ":")).encode()

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        """The description, written once: FastAPI's own route writes it anew for each request."""
        return Response(described(), media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs_page(request: Request) -> Response:
        """The page."""
        page = await assets.get_response("docs.html", request.scope)
        page.headers["Content-Security-Policy"] = _POLICY
        return page

    app.mount("/docs/assets", assets)


class _Assets(StaticFiles):
    """The page's files: small, so that a Range gets the whole, and with Segue's own refusals."""

    def file_response(self, full_path: Any, stat_result: Any, scope: Scope, status_code: int = 200) -> Response:
        """The file, 304 or 412, by the ETag that it has."""
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"range"]
        response = super().file_response(full_path, stat_result, scope, status_code)
        told = precondition(Headers(scope=scope), response.headers["etag"])
        if told is HTTPStatus.PRECONDITION_FAILED:
            raise Problem(told, "precondition-failed", "the file is none of those in If-Match")
        return response


def _described(app: FastAPI) -> dict[str, Any]:
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, added = models_json_schema(
        [(TrackRequest, "validation"), (Resolution, "validation"), (ProblemDocument, "serialization")],
        ref_template="#/components/schemas/{model}",
    )
    described.setdefault("components", {}).setdefault("schemas", {}).update(added["$defs"])
    return described
