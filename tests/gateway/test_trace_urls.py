"""The address at which a job's trace is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from gateway.app import api
from gateway.settings import GatewaySettings
from gateway.views.jobs import Presenter

SEED = {"prompt": "Warm ambient pad", "duration_s": 20, "has_vocals": False, "style_strength": 0.5}
RIGHT: dict[str, Any] = {
    "KAFKA_BOOTSTRAP_SERVERS": "a:9092",
    "DATABASE_URL": "postgresql://me@db/segue",
    "ARTIFACT_STORE_URL": "file:///tmp",
}
GRAFANA = "https://grafana.example/explore?left=%7B%22query%22:%22{trace_id}%22%7D"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://jaeger:16686/trace/", "must contain {trace_id}"),
        ("jaeger/{trace_id}", "must begin with http:// or https://"),
        ("http:///{trace_id}", "must begin with http:// or https://"),
        ("http://{trace_id}/", "must begin with http:// or https://"),
        ("http://me:secret@jaeger/{trace_id}", "without a user"),
        ("http://jaeger/\u200b{trace_id}", "ZERO WIDTH SPACE"),
    ],
)
def test_a_wrong_template_is_refused(url: str, told: str) -> None:
    with pytest.raises(ValidationError, match="SEGUE_TRACE_URL") as raised:
        GatewaySettings(_env_file=None, **RIGHT, SEGUE_TRACE_URL=url)
    assert told in str(raised.value)


def test_the_id_takes_its_place() -> None:
    settings = GatewaySettings(_env_file=None, **RIGHT, SEGUE_TRACE_URL=GRAFANA)
    present = Presenter("", settings.trace_url)
    answer = present.accepted("j", "t", "a" * 32)
    assert answer.trace_url == GRAFANA.replace("{trace_id}", "a" * 32)
    assert present.accepted("j", "t", None).trace_url is None
    assert Presenter("").accepted("j", "t", "a" * 32).trace_url is None


@pytest.mark.asyncio(loop_scope="session")
async def test_a_job_and_its_log_have_it(world: Any) -> None:
    parts = replace(world.parts, present=Presenter("", GRAFANA))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api(parts)), base_url="http://gateway") as client:
        accepted = (await client.post("/api/tracks", json=SEED)).json()
        url = GRAFANA.replace("{trace_id}", accepted["trace_id"])
        job = f"/api/jobs/{accepted['job_id']}"
        answers = accepted, (await client.get(job)).json(), (await client.get(f"{job}/logs")).json()
    assert [answer["trace_url"] for answer in answers] == [url] * 3
    assert (await world.client.get(job)).json()["trace_url"] is None
