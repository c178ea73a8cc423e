"""The LiteLLM proxy with one deployment that refuses and a second one that it falls back to."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
from bench.accounts import cpu_of
from bench.measures import Throughput, each
from bench.peers.celery_stack import ready_when
from bench.peers.environments import LITELLM, environment
from bench.system import client

from segue_cli.local.ports import free_port
from segue_cli.local.process import LineSink, child


@dataclass(frozen=True, slots=True)
class LiteLlm:
    """A running proxy."""

    api: aiohttp.ClientSession
    parts: Mapping[str, int]
    options: Mapping[str, object] = field(default_factory=dict)
    """What each request asks of the proxy, beside its image."""

    @property
    def without_retries(self) -> LiteLlm:
        """The same proxy, which is asked to send each image to a deployment only once."""
        return replace(self, options={"num_retries": 0})

    async def throughput(self, jobs: int, at_once: int) -> Throughput:
        """Request images over `at_once` connections, each refused by the first deployment and made by the second."""
        run = uuid.uuid4().hex[:8]

        async def request(n: int) -> None:
            body = {"model": "first", "prompt": f"refused {run} {n}", **self.options}
            async with self.api.post("/v1/images/generations", json=body) as answer:
                await answer.read()

        with cpu_of(self.parts) as cpu:
            began = time.perf_counter()
            await each(request, jobs, at_once)
            took_s = time.perf_counter() - began
        return Throughput(jobs, jobs / took_s, {part: 1000 * s / jobs for part, s in cpu.by_part.items()}, 0, 0)


@asynccontextmanager
async def litellm_proxy(addresses: Mapping[str, str], folder: Path, log: LineSink) -> AsyncIterator[LiteLlm]:
    """Run it, with the stand-in's addresses. Raises Missing if it cannot be installed here."""
    programs = await asyncio.to_thread(environment, "litellm", LITELLM)
    deployments = {"first": f"{addresses['FAL_API_URL']}/refusing/v1", "second": f"{addresses['FAL_API_URL']}/v1"}
    config = {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {"model": "openai/dall-e-3", "api_base": base, "api_key": "not-a-secret"},
            }
            for name, base in deployments.items()
        ],
        "router_settings": {"fallbacks": [{"first": ["second"]}]},
        "litellm_settings": {"telemetry": False},
    }
    # YAML is a superset of JSON.
    file = folder / "litellm.yaml"
    file.write_text(json.dumps(config))
    port = free_port()
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env |= {"SSL_CERT_FILE": addresses["SSL_CERT_FILE"], "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    key = f"sk-{secrets.token_hex(32)}"
    env["LITELLM_MASTER_KEY"] = key
    argv = [str(programs / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    started = child(argv, name="litellm", env=env, on_line=log, ready=ready_when("Uvicorn running on"))
    requests = client(f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"})
    async with started as running, requests as api:
        yield LiteLlm(api, {"litellm": running.pid})
