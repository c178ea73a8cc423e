"""Schemathesis: every answer of the API conforms to its OpenAPI document."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from tests.patience import patient

from chassis.http.server import serve_http
from gateway.app import api

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
)


async def test_every_answer_is_described_in_the_document(world: Any, tmp_path: Any) -> None:
    async with serve_http(api(world.parts), "127.0.0.1", 0) as port:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            f"http://127.0.0.1:{port}/openapi.json",
            "--phases=examples,coverage,fuzzing",
            "--max-examples=8",
            "--seed=7",
            f"--checks={','.join(CHECKS)}",
            "--header=Prefer: wait=0",
            "--no-color",
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), patient(120))
        finally:
            if process.returncode is None:
                process.kill()
    assert process.returncode == 0, output.decode()[-6000:]
    described = (await world.client.get("/openapi.json")).json()["paths"]
    assert f"Tested: {sum(map(len, described.values()))}".encode() in output
    assert "/api/providers" in described
