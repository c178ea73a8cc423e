"""`/metrics`: OpenMetrics with exemplars for a scraper that accepts it, else the text format."""

from __future__ import annotations

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.chassis.toy import runtime_for

import adapter_kit.metrics
import chassis.observability.metrics
import gateway.metrics
import log_sink.metrics
import orchestrator.metrics
from chassis.http.server import health_app
from chassis.observability.exemplars import exemplar_of
from chassis.observability.metric import MetricList
from chassis.observability.metrics import BATCH_SECONDS
from chassis.observability.telemetry import Telemetry

LISTS: tuple[MetricList, ...] = (
    chassis.observability.metrics.METRICS,
    gateway.metrics.METRICS,
    orchestrator.metrics.METRICS,
    adapter_kit.metrics.METRICS,
    log_sink.metrics.METRICS,
)
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain"
TRACE = "0123456789abcdef0123456789abcdef"
SAMPLED, DROPPED = (f"00-{TRACE}-0123456789abcdef-{flags}" for flags in ("01", "00"))


async def page(accept: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=health_app(runtime_for()))
    async with httpx.AsyncClient(transport=transport, base_url="http://toy") as client:
        return await client.get("/metrics", headers={"accept": accept})


def everything_observed() -> None:
    """Give each metric a value, so that each is on the page with its labels."""
    modules = (each for each in (chassis.observability, adapter_kit, gateway, orchestrator, log_sink))
    for module in modules:
        for metric in vars(module.metrics).values():
            if isinstance(metric, Counter | Gauge | Histogram):
                one = metric.labels(*["a b"] * len(metric._labelnames)) if metric._labelnames else metric
                if isinstance(one, Histogram):
                    one.observe(0.1, {"trace_id": TRACE})
                else:
                    one.inc(0)


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS,
        PROMETHEUS_2,
        "application/openmetrics-text",
        "text/plain, Application/OpenMetrics-Text; Version=1.0.0",
    ],
)
async def test_a_scraper_that_accepts_openmetrics_gets_every_metric_in_it(accept: str) -> None:
    everything_observed()
    answer = await page(accept)
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.text.endswith("# EOF\n")
    families = {family.name for family in openmetrics.text_string_to_metric_families(answer.text)}
    assert {metric.name.removesuffix("_total") for each in LISTS for metric in each.defined} <= families


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain;version=0.0.4",
        "text/html, */*;q=0.1",
        "application/openmetrics-text;version=2.0.0",
        ";;,=,;version=",
    ],
)
async def test_any_other_gets_the_text_format(accept: str) -> None:
    everything_observed()
    answer = await page(accept)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert " # {" not in answer.text
    families = {family.name for family in text_string_to_metric_families(answer.text)}
    assert "segue_batch_seconds" in families


def exemplars(text: str, name: str) -> dict[str, float]:
    """The exemplars of a metric: the value of each trace."""
    [family] = [each for each in openmetrics.text_string_to_metric_families(text) if each.name == name]
    assert isinstance(family, Metric)
    found = (sample.exemplar for sample in family.samples if sample.exemplar is not None)
    return {each.labels["trace_id"]: each.value for each in found}


async def test_an_exemplar_names_the_trace_of_an_observation() -> None:
    telemetry = Telemetry(TracerProvider(), "toy", exporting=True)
    BATCH_SECONDS.labels("exemplary").observe(0.2, exemplar_of(telemetry, SAMPLED))
    assert exemplars((await page(PROMETHEUS)).text, "segue_batch_seconds")[TRACE] == 0.2


@pytest.mark.parametrize(
    ("exporting", "traceparent", "named"),
    [
        (True, SAMPLED, {"trace_id": TRACE}),
        (True, DROPPED, None),
        (True, "not a traceparent", None),
        (True, None, None),
        (False, SAMPLED, None),
    ],
)
def test_only_a_trace_that_is_exported_is_an_exemplar(
    exporting: bool, traceparent: str | None, named: dict[str, str] | None
) -> None:
    assert exemplar_of(Telemetry(TracerProvider(), "toy", exporting=exporting), traceparent) == named
