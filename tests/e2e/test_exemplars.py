"""A real Prometheus, with the flags of Docker Compose, finds the trace of a job at the metrics of two services."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from tests.e2e.conftest import System, system_on

from contracts.topics import SERVICES
from segue_cli.local.ports import free_port
from segue_cli.local.process import child

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

DEPLOY = Path(__file__).parents[2] / "deploy"
SEED = {"prompt": "Warm ambient pad", "duration_s": 20, "has_vocals": False, "style_strength": 0.5}


@asynccontextmanager
async def prometheus_of(system: System, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Prometheus as `deploy/compose.yaml` starts it, with folders and addresses of this test; yields its API."""
    config = yaml.safe_load((DEPLOY / "compose" / "prometheus.yaml").read_text("utf-8"))
    [job] = config["scrape_configs"]
    targets = [
        {"targets": [urlsplit(system.parts[name].address).netloc], "labels": {"service": name}} for name in SERVICES
    ]
    config["scrape_configs"] = [{"job_name": job["job_name"], "scrape_interval": "1s", "static_configs": targets}]
    config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in ("rules.yaml", "budget.yaml")]
    file, address = folder / "prometheus.yaml", f"127.0.0.1:{free_port()}"
    file.write_text(yaml.safe_dump(config), "utf-8")
    own = {"--config.file": str(file), "--storage.tsdb.path": str(folder / "tsdb")}
    flags = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]["prometheus"]["command"]
    given = [f"{name}={own.get(name, value)}" for name, _, value in (flag.partition("=") for flag in flags)]
    argv = ["prometheus", *given, f"--web.listen-address={address}"]
    async with (
        child(argv, name="prometheus", on_line=lambda _: None),
        httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as api,
    ):
        yield api


async def ask(prometheus: httpx.AsyncClient, what: str, **given: Any) -> Any:
    """The answer of its API; None while it starts."""
    try:
        answer = await prometheus.get(f"/api/v1/{what}", params=given)
    except httpx.TransportError:
        return None
    return answer.json()["data"] if answer.is_success else None


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")
async def test_prometheus_keeps_the_trace_of_a_job(tmp_path: Path) -> None:
    async with (
        system_on("embedded", tmp_path, {"OTEL_TRACES_EXPORTER": "console"}) as system,
        prometheus_of(system, tmp_path) as prometheus,
    ):

        async def scraped() -> bool:
            found = await ask(prometheus, "targets")
            return found is not None and [one["health"] for one in found["activeTargets"]] == ["up"] * len(SERVICES)

        await system.until("every service is scraped", scraped)
        accepted = (await system.api.post("/api/tracks", json=SEED)).json()
        assert (await system.ended(accepted["job_id"]))["status"] == "succeeded"

        for metric in ("segue_http_request_seconds_bucket", "segue_job_seconds_bucket"):

            async def is_kept(metric: str = metric) -> bool:
                found = await ask(prometheus, "query_exemplars", query=metric, start=0, end=4e9)
                kept = [one["labels"] for series in found for one in series["exemplars"]]
                return {"trace_id": accepted["trace_id"]} in kept

            await system.until(f"{metric} has the job's trace", is_kept)
        rules = [rule["health"] for group in (await ask(prometheus, "rules"))["groups"] for rule in group["rules"]]
    assert rules
    assert set(rules) <= {"ok", "unknown"}, "unknown: not evaluated yet"
