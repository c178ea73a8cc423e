"""What `/readyz` says about what a service depends on: how it was last seen, since when, and why."""

from __future__ import annotations

import asyncio
import faulthandler

import httpx
from prometheus_client import REGISTRY
from tests.chassis.toy import runtime_for
from tests.patience import eventually, patient

from chassis.http.health import Verdict
from chassis.http.server import health_app, serve_http
from chassis.runtime.dependencies import NOT_USED, Dependency, failed_with
from chassis.runtime.watchdog import watch


def test_a_dependency_keeps_since_when_and_when_last_it_was_seen_so() -> None:
    now = [10.0]
    dependency = Dependency(lambda: now[0])
    assert (dependency.seen.status, dependency.seen.reason) == ("unknown", NOT_USED)
    now[0] = 20.0
    dependency.works()
    now[0] = 30.0
    dependency.works()
    assert (dependency.seen.status, dependency.seen.since, dependency.seen.at) == ("ok", 20.0, 30.0)
    for reason in ("one", "two"):
        now[0] += 10
        dependency.fails(reason)
    seen = dependency.seen
    assert (seen.status, seen.since, seen.at, seen.reason) == ("fail", 40.0, 50.0, "two")
    dependency.works()
    assert (dependency.seen.status, dependency.seen.since, dependency.seen.reason) == ("ok", 50.0, None)


def test_a_reason_names_no_address() -> None:
    assert failed_with(ConnectionRefusedError(111, "Connect call failed ('10.1.2.3', 5432)")) == (
        "the last use failed: ConnectionRefusedError"
    )


async def test_the_page_names_each_dependency_and_only_checks_decide_its_status() -> None:
    runtime, store, faults = runtime_for(), Dependency(), list[str]()
    runtime.depends_on("artifact_store", store)
    runtime.must_be_ready(lambda: None, part="consumer")
    runtime.must_be_ready(lambda: faults[0] if faults else None, part="consumer")
    runtime.started = True
    async with (
        serve_http(health_app(runtime), "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=patient(60)) as client,
    ):

        async def page() -> tuple[int, dict[str, tuple[str, str | None]]]:
            answer = await client.get("/readyz")
            told = answer.json()["dependencies"]
            assert all(each["for_s"] >= each["seen_s"] >= 0 for each in told.values())
            return answer.status_code, {name: (each["status"], each.get("reason")) for name, each in told.items()}

        assert await page() == (200, {"artifact_store": ("unknown", NOT_USED), "consumer": ("ok", None)})
        store.fails("the last use failed: OSError")
        assert await page() == (
            200,
            {"artifact_store": ("fail", "the last use failed: OSError"), "consumer": ("ok", None)},
        )
        store.works()
        faults.append("not moving")
        assert await page() == (503, {"artifact_store": ("ok", None), "consumer": ("fail", "not moving")})
        assert "dependencies" not in (await client.get("/livez")).json()


def test_a_metric_says_whether_the_last_use_failed() -> None:
    runtime, store = runtime_for(), Dependency()
    runtime.depends_on("artifact_store", store)

    def up() -> float | None:
        return REGISTRY.get_sample_value("segue_dependency_up", {"dependency": "artifact_store"})

    assert up() == 1, "it was not used yet"
    store.fails("the last use failed: OSError")
    assert up() == 0
    store.works()
    assert up() == 1


def test_another_thread_reads_what_was_recorded() -> None:
    runtime, store = runtime_for(), Dependency()
    runtime.depends_on("artifact_store", store)
    verdict = Verdict(runtime)
    store.works()
    assert verdict.dependencies()["artifact_store"].status == "unknown"
    verdict.record()
    assert verdict.dependencies()["artifact_store"].status == "ok"


async def test_the_watchdog_notes_since_when_and_a_check_that_raises_ends_nothing() -> None:
    runtime, raises = runtime_for(), list[str]()
    looked = 0

    def check() -> str | None:
        nonlocal looked
        looked += 1
        if raises:
            raise RuntimeError(raises[0])
        return None

    async def seen(times: int) -> None:
        async def so() -> bool:
            return looked >= times

        await eventually(so, 30)

    runtime.must_be_ready(check, part="consumer")
    runtime.started = True
    watching = asyncio.create_task(watch(runtime))
    await seen(2)
    raises.append("no such partition")
    await seen(looked + 2)
    assert runtime.failure is None
    watching.cancel()
    faulthandler.cancel_dump_traceback_later()
