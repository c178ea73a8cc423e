"""The end of a process, seen from outside: it drains within its time limit, and exits when a component has failed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import asyncpg
import httpx
import pytest
from tests.chassis import toy as toy_module
from tests.chassis.toy import environment, job, lag, read, request, runtime_for, send, toy, until
from tests.patience import patient

from chassis.errors import EXIT_SETTINGS, EXIT_TEMPORARY, EXIT_UNHEALTHY, CannotStart, in_one_line, root_cause
from chassis.observability.telemetry import make_telemetry
from chassis.runtime.runtime import Runtime
from contracts.topics import JOBS, PARTITIONS, REQUESTS, TOPICS
from segue_cli.local.kafka import kafka
from segue_cli.local.process import Child, child, ready_with

TOY = [sys.executable, str(Path(toy_module.__file__)), "toy"]


class Output:
    """The output of a process so far."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def wait_for(self, text: str) -> None:
        async def written() -> bool:
            return any(text in line for line in self.lines)

        await until(written)

    def events(self) -> list[Mapping[str, object]]:
        return [json.loads(line) for line in self.lines if line.startswith("{")]


@asynccontextmanager
async def running_toy(servers: str, database_url: str, **more: str) -> AsyncIterator[tuple[Child, Output]]:
    output = Output()
    env = environment(servers, database_url, **more)
    async with child(TOY, name="toy", env=env, ready=ready_with("port"), on_line=output.lines.append) as process:
        await output.wait_for('"event": "ready"')
        yield process, output


@pytest.mark.e2e
async def test_the_metrics_name_the_release(embedded_kafka: str, database_url: str) -> None:
    async with (
        running_toy(embedded_kafka, database_url) as (process, _),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.ready['port']}", timeout=patient(60)) as client,
    ):
        page = await client.get("/metrics")
    assert f'segue_build_info{{service="toy",version="{version("segue-chassis")}"}} 1.0' in page.text


async def ends_within(process: Child, seconds: float) -> int:
    return await asyncio.wait_for(process.wait(), patient(seconds))


@pytest.mark.e2e
async def test_on_sigterm_it_finishes_commits_and_publishes_the_current_batch(
    embedded_kafka: str, database_url: str
) -> None:
    async with running_toy(embedded_kafka, database_url) as (process, output):
        port = process.ready["port"]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=patient(60)) as client:
            assert (await client.get("/livez")).json() == {"status": "ok"}
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (200, "ok")
            told = ready.json()["dependencies"]
            assert {name: told[name]["status"] for name in ("consumer", "kafka")} == {"consumer": "ok", "kafka": "ok"}
            await send(embedded_kafka, [request(1, "work"), request(2)])
            await output.wait_for("working")
            os.kill(process.pid, signal.SIGTERM)
            await output.wait_for('"stopping"')
            stopping = await client.get("/readyz")
            assert (stopping.status_code, stopping.json()["reason"]) == (503, "stopping")
        assert await ends_within(process, 15) == 0
    assert output.events()[-1]["event"] == "stopped"
    assert set((await lag(embedded_kafka, "toy", REQUESTS.name)).values()) == {0}
    assert len(await read(embedded_kafka, JOBS.name, 2)) == 2
    async with toy(embedded_kafka, database_url, runtime_for(), consuming=False) as after:
        assert await after.commits() == {job(1): 1, job(2): 1}
        assert await after.waiting() == 0


@pytest.mark.e2e
async def test_a_handler_that_does_not_stop_is_abandoned_at_the_time_limit(
    embedded_kafka: str, database_url: str
) -> None:
    async with running_toy(embedded_kafka, database_url, SEGUE_DRAIN_S=str(patient(1))) as (process, output):
        await send(embedded_kafka, [request(1, "hang")])
        await output.wait_for("working")
        began = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        assert await ends_within(process, 10) == EXIT_UNHEALTHY
        assert patient(0.9) < time.monotonic() - began < patient(4)
    await output.wait_for("did not drain in time")
    (told,) = (event for event in output.events() if str(event.get("event")).startswith("did not drain"))
    assert "LogicSubscriber" in str(told["waiting"])


@pytest.mark.e2e
async def test_with_kafka_unavailable_it_ends_within_the_time_limit(database_url: str) -> None:
    async with kafka({topic.name: PARTITIONS for topic in TOPICS}) as cluster:
        made = running_toy(cluster.bootstrap_servers, database_url, SEGUE_DRAIN_S=str(patient(2)))
        process, output = await made.__aenter__()
        await send(cluster.bootstrap_servers, [request(1, "work")])
        await output.wait_for("working")
    try:
        os.kill(process.pid, signal.SIGTERM)
        assert await ends_within(process, 6) in {0, EXIT_UNHEALTHY}
    finally:
        await made.__aexit__(None, None, None)


@pytest.mark.e2e
async def test_on_sigterm_while_it_waits_for_kafka_it_stops_at_once(database_url: str) -> None:
    async with child(TOY, name="toy", env=environment("127.0.0.1:1", database_url)) as process:
        await until(lambda: _answers(process))
        os.kill(process.pid, signal.SIGTERM)
        assert await ends_within(process, 10) == 0
    assert "stopped while starting" in "".join(process.tail)


async def _answers(process: Child) -> bool:
    return any('"serving http"' in line for line in process.tail)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("misdeed", "reason"),
    [
        ("kill loop", "the consume loop of segue.requests"),
        ("kill coordinator", "the group coordinator task of segue.requests"),
        ("kill fetcher", "the fetch task of segue.requests"),
        ("kill metadata", "the metadata task of segue.requests"),
        ("kill sender", "the producer's sender task"),
        ("kill producer's metadata", "the producer's metadata task"),
    ],
)
async def test_a_process_with_a_failed_component_exits(
    embedded_kafka: str, database_url: str, misdeed: str, reason: str
) -> None:
    async with running_toy(embedded_kafka, database_url, SEGUE_DRAIN_S=str(patient(2))) as (process, output):
        await send(embedded_kafka, [request(1, misdeed)])
        assert await ends_within(process, 15) == EXIT_UNHEALTHY
    assert [event["reason"] for event in output.events() if event.get("level") == "critical"] == [reason]


@pytest.mark.e2e
async def test_a_process_with_a_blocked_event_loop_exits(embedded_kafka: str, database_url: str) -> None:
    async with running_toy(embedded_kafka, database_url) as (process, output):
        await send(embedded_kafka, [request(1, "block")])
        await output.wait_for("working")
        assert await ends_within(process, 15) == 1
    await output.wait_for("in _block")


async def test_a_wrong_environment_is_one_line_on_stderr_and_exit_78(tmp_path: Path) -> None:
    env = {"PATH": os.defpath, "DATABASE_URL": "mysql://root:hunter2@db/x"}
    process = await asyncio.create_subprocess_exec(
        *TOY, env=env, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert (process.returncode, out) == (EXIT_SETTINGS, b"")
    (line,) = err.decode().splitlines()
    assert line.startswith("toy cannot start: KAFKA_BOOTSTRAP_SERVERS is not set")
    assert "DATABASE_URL: must start with postgresql://" in line
    assert "hunter2" not in line


@pytest.mark.e2e
async def test_a_taken_port_and_a_cluster_without_topics_are_one_line(database_url: str) -> None:
    async with kafka({"other": 1}) as cluster:
        for changed, told in (
            ({}, "KAFKA_BOOTSTRAP_SERVERS: the cluster lacks segue.dead-letters, segue.jobs, segue.requests"),
            (
                {"SEGUE_PORT": cluster.bootstrap_servers.rpartition(":")[2]},
                "cannot be listened on: Address already in use",
            ),
        ):
            env = environment(cluster.bootstrap_servers, database_url, **changed)
            process = await asyncio.create_subprocess_exec(*TOY, env=env, stdout=-3, stderr=asyncio.subprocess.PIPE)
            _, err = await process.communicate()
            assert process.returncode == EXIT_SETTINGS
            (line,) = err.decode().splitlines()
            assert line.startswith("toy cannot start: ")
            assert told in line


def test_the_first_failed_component_is_reported_and_a_failure_is_permanent() -> None:
    runtime = Runtime("toy", make_telemetry("toy", None))
    dead: list[str] = []
    runtime.must_live(lambda: None)
    runtime.must_live(lambda: dead[0] if dead else None)
    assert runtime.unhealthy() is None
    assert runtime.unready() == "starting"
    runtime.started = True
    assert runtime.unready() is None
    dead.append("the pump")
    assert runtime.unhealthy() == "the pump"
    runtime.fail("the first")
    runtime.fail("the second")
    dead.clear()
    assert (runtime.unhealthy(), runtime.unready(), runtime.stopping.is_set()) == ("the first", "stopping", True)


BROKEN = """
import asyncio, sys
from aiokafka.errors import NodeNotReadyError
from asyncpg import ConnectionDoesNotExistError
from contextlib import asynccontextmanager
from importlib.metadata import version
from chassis.runtime.process import run_service
from chassis.settings.service import ServiceSettings

@asynccontextmanager
async def app(settings, runtime):
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(fail(settings.database_url.get_secret_value(), runtime))
        if sys.argv[1] in ("early", "kafka", "database", "server"):
            await asyncio.wait([task])
            await asyncio.sleep(0)
        yield

async def fail(url, runtime):
    while sys.argv[1] == "late" and not runtime.started:
        await asyncio.sleep(0)
    if sys.argv[1] == "kafka":
        raise NodeNotReadyError("node id 1")
    if sys.argv[1] == "database":
        raise ConnectionDoesNotExistError("connection was closed in the middle of operation")
    if sys.argv[1] == "server":
        raise ConnectionRefusedError(111, "Connection refused")
    raise ExceptionGroup("outer", [LookupError(f"\x1b[31mno such thing\\nat {url}")])

run_service("broken", ServiceSettings, app)
"""


async def broken(when: str, **more: str) -> tuple[int | None, str, str]:
    env = environment("127.0.0.1:1", "postgresql://me:hunter2@db/x", **more)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BROKEN, when, env=env, cwd="/", stdout=pipe, stderr=pipe
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ("kafka", "KAFKA_BOOTSTRAP_SERVERS: NodeNotReadyError: "),
        ("database", "DATABASE_URL: ConnectionDoesNotExistError: connection was closed"),
        ("server", "ConnectionRefusedError: [Errno 111] Connection refused"),
    ],
)
async def test_a_server_that_goes_away_during_the_start_is_a_reason_to_start_again(server: str, says: str) -> None:
    code, _, err = await broken(server)
    assert code == EXIT_TEMPORARY
    assert err.startswith(f"broken cannot start: {says}")


SAID = "LookupError: \\u001b[31mno such thing; at …"


async def test_an_unexpected_error_at_the_start_is_one_line_with_its_type_and_text() -> None:
    code, out, err = await broken("early")
    assert (code, err) == (1, f"broken cannot start: {SAID} (LOG_LEVEL=DEBUG logs the traceback)\n")
    assert "Traceback" not in out
    _, out, err = await broken("early", LOG_LEVEL="DEBUG")
    (logged,) = [json.loads(line) for line in out.splitlines() if '"traceback"' in line]
    assert "in fail" in logged["exception"]
    assert err.count("\n") == 1
    assert "hunter2" not in out + err


async def test_an_unexpected_error_later_is_one_log_line() -> None:
    code, out, err = await broken("late")
    assert (code, err) == (EXIT_UNHEALTHY, "")
    last = json.loads(out.splitlines()[-1])
    assert (last["level"], last["error"]) == ("critical", SAID)
    assert "hunter2" not in out


def test_the_reason_is_found_inside_exception_groups() -> None:
    mine = CannotStart("SEGUE_X: no")
    assert root_cause(ExceptionGroup("", [OSError(), ExceptionGroup("", [ValueError(), mine])])) is mine
    assert isinstance(root_cause(ExceptionGroup("", [OSError(), ValueError()])), OSError)
    assert in_one_line(mine) == "SEGUE_X: no"
    assert in_one_line(asyncpg.DivisionByZeroError("1/0")) == "DATABASE_URL: DivisionByZeroError: 1/0"
    assert in_one_line(KeyError()) == "KeyError"


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"), ("OTEL_BSP_MAX_QUEUE_SIZE", "many")]
)
async def test_a_wrong_setting_of_opentelemetry_causes_no_traceback(name: str, value: str) -> None:
    code, out, err = await broken("early", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", **{name: value})
    assert code in (1, EXIT_SETTINGS)
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
