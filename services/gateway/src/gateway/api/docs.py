"""`/docs` and `/openapi.json`: the OpenAPI document, and Swagger UI, which loads nothing from other hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.datastructures import Headers
from starlette.types import Scope

from gateway.http.conditional import precondition
from gateway.http.json_body import JsonBody
from gateway.http.problem_document import Problem, ProblemDocument

STATIC: Final = Path(__file__).parents[1] / "static"
_POLICY: Final = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def install(app: FastAPI) -> None:
    """Add the OpenAPI document and the docs page to `app`, which has all its other routes already."""
    assets = _Assets(directory=STATIC)

    @cache
    def document() -> bytes:
        return json.dumps(_openapi(app), ensure_ascii=False, separators=(",", ":")).encode()

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        """The OpenAPI document, encoded once; FastAPI's own route encodes it for each request."""
        return Response(document(), media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs_page(request: Request) -> Response:
        """The docs page."""
        page = await assets.get_response("docs.html", request.scope)
        page.headers["Content-Security-Policy"] = _POLICY
        return page

    app.mount("/docs/assets", assets)


class _Assets(StaticFiles):
    """The static files of the page. They are small, so Range is ignored; errors are problem documents."""

    def file_response(self, full_path: Any, stat_result: Any, scope: Scope, status_code: int = 200) -> Response:
        """The file, or 304 if the client has it. Raises Problem (412) if If-Match has other ETags only."""
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"range"]
        response = super().file_response(full_path, stat_result, scope, status_code)
        status = precondition(Headers(scope=scope), response.headers["etag"])
        if status is HTTPStatus.PRECONDITION_FAILED:
            raise Problem(status, "precondition-failed", "the ETag of the file is none of those in If-Match")
        return response


def _openapi(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    bodies = list(_json_bodies(app))
    schemas, definitions = models_json_schema(
        [*((body.model, "validation") for _, body in bodies), (ProblemDocument, "serialization")],
        ref_template="#/components/schemas/{model}",
    )
    for path, body in bodies:
        content: dict[str, Any] = {"schema": schemas[body.model, "validation"]}
        if body.examples:
            content["examples"] = body.examples
        document["paths"][path]["post"]["requestBody"] = {"required": True, "content": {"application/json": content}}
    document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
    return document


def _json_bodies(app: FastAPI) -> Iterator[tuple[str, JsonBody[BaseModel]]]:
    """The path and the body of each POST with a `JsonBody`, which FastAPI does not include in its OpenAPI document."""
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute) and route.path_format is not None:
            readers = (getattr(each.call, "__self__", None) for each in route.dependant.dependencies)
            yield from ((route.path_format, body) for body in readers if isinstance(body, JsonBody))
