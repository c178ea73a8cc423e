"""`/api/models` and `/api/health/providers`: the catalogue of models, and the health of the providers."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter

from contracts.catalogue import Limits, Range, Route
from contracts.providers.registry import PROVIDERS
from gateway.context import GatewayDep
from gateway.http.plain import Answer
from gateway.http.problem_document import documented
from gateway.views.schemas import (
    LimitsAnswer,
    ModelAnswer,
    ModelList,
    PriceAnswer,
    ProviderHealth,
    RangeAnswer,
    RouteAnswer,
)

router = APIRouter(prefix="/api", tags=["overview"])


@router.get("/models")
async def list_models(gateway: GatewayDep) -> ModelList:
    """List the models of the catalogue with their routes, limits and prices."""
    models = [
        ModelAnswer(
            name=model.name,
            title=model.title,
            modality=model.modality,
            routes=[_route(route, model.ignored_by(route)) for route in model.routes],
        )
        for model in gateway.catalogue.models.values()
    ]
    return ModelList(models=models)


@router.get("/health/providers", response_model=ProviderHealth, responses=documented(HTTPStatus.SERVICE_UNAVAILABLE))
async def provider_health(gateway: GatewayDep) -> Answer:
    """Get the health of each provider, such as whether it accepts the API key. No request to a provider is made."""
    errors = await gateway.health.problems()
    return ProviderHealth.model_validate(
        {name: "fail" if errors.get(name) else "ok" if name in errors else "disabled" for name in PROVIDERS}
        | {f"{name}_error": errors.get(name) for name in PROVIDERS}
    )


def _route(route: Route, ignores: tuple[str, ...]) -> RouteAnswer:
    return RouteAnswer(
        provider=route.provider,
        endpoint=route.endpoint,
        substitute=route.substitute,
        ignores=list(ignores),
        limits=_limits(route.limits),
        price=None if route.price is None else PriceAnswer(usd=route.price.usd, per=route.price.per),
        source=route.source,
    )


def _limits(limits: Limits) -> LimitsAnswer:
    return LimitsAnswer(
        prompt_chars=_range(limits.prompt_chars),
        duration_s=_range(limits.duration_s),
        lyrics_chars=_range(limits.lyrics_chars),
        num_images=_range(limits.num_images),
        vocals=limits.vocals,
        lyrics=limits.lyrics,
    )


def _range(limits: Range) -> RangeAnswer:
    return RangeAnswer(min=limits.min, max=limits.max)
