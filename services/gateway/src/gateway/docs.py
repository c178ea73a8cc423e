"""`/docs` and `/openapi.json`: the API's description, and a page to try it, with nothing loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic.json_schema import models_json_schema

from gateway.accept import TrackRequest
from gateway.attempts import Resolution
from gateway.problems import ProblemDocument

STATIC: Final = Path(__file__).parent / "static"
_POLICY: Final = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def install(app: FastAPI) -> None:
    """Give `app` its docs page."""

    @app.get("/docs", include_in_schema=False)
    async def docs_page() -> FileResponse:
        """The page."""
        return FileResponse(STATIC / "docs.html", headers={"Content-Security-Policy": _POLICY})

    app.mount("/docs/assets", StaticFiles(directory=STATIC))
    setattr(app, "openapi", lambda: _described(app))  # noqa: B010 - the documented way to add to FastAPI's description


def _described(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, added = models_json_schema(
            [(TrackRequest, "validation"), (Resolution, "validation"), (ProblemDocument, "serialization")],
            ref_template="#/components/schemas/{model}",
        )
        schema.setdefault("components", {}).setdefault("schemas", {}).update(added["$defs"])
        app.openapi_schema = schema
    return app.openapi_schema
