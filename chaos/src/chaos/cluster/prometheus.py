"""A real Prometheus that scrapes services and evaluates rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from segue_cli.local.ports import LOOPBACK, free_port
from segue_cli.local.process import LineSink, child

PROGRAM: Final = "prometheus"
READY_WITHIN_S: Final = 60.0


@asynccontextmanager
async def prometheus_on(
    folder: Path,
    services: Mapping[str, Sequence[str]],
    rules: Sequence[Path],
    every_s: int,
    on_line: LineSink,
) -> AsyncIterator[httpx.AsyncClient]:
    """Run one for the length of the block; yields a client of its API. Raises TimeoutError.

    `services` are the addresses of the replicas of each service; scrapes and evaluations are `every_s` seconds apart.
    """
    config = {
        "global": {
            "scrape_interval": f"{every_s}s",
            "scrape_timeout": f"{every_s}s",
            "evaluation_interval": f"{every_s}s",
        },
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {
                "job_name": "segue",
                "static_configs": [
                    {"targets": [urlsplit(address).netloc for address in addresses], "labels": {"service": name}}
                    for name, addresses in services.items()
                ],
            }
        ],
    }
    file = folder / "prometheus.yaml"
    # JSON is YAML.
    file.write_text(json.dumps(config), "utf-8")
    address = f"{LOOPBACK}:{free_port()}"
    argv = [PROGRAM, f"--config.file={file}", f"--web.listen-address={address}", "--log.level=warn"]
    argv += [f"--storage.tsdb.path={folder / 'tsdb'}", "--enable-feature=exemplar-storage", "--web.enable-lifecycle"]
    client = httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=30)
    async with child(argv, name=PROGRAM, on_line=on_line), client as api:
        async with asyncio.timeout(READY_WITHIN_S):
            while not await _ready(api):  # noqa: ASYNC110 - there is no notification
                await asyncio.sleep(0.2)
        yield api


async def _ready(api: httpx.AsyncClient) -> bool:
    try:
        return (await api.get("/-/ready")).is_success
    except httpx.HTTPError:
        return False
