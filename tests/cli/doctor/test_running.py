"""What `segue doctor` says about the services that run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.chassis.toy import runtime_for

from chassis.http.server import health_app, serve_http
from chassis.runtime.dependencies import Dependency
from segue_cli.doctor.advice import Finding
from segue_cli.doctor.running import running_services
from segue_cli.local.ports import free_port
from segue_cli.stack.environment import SERVICES, write_env


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".segue").mkdir()
    return tmp_path


async def test_each_service_says_whether_it_is_ready_and_what_fails(folder: Path) -> None:
    runtime, database, faults = runtime_for(), Dependency(), list[str]()
    runtime.depends_on("database", database)
    runtime.must_be_ready(lambda: faults[0] if faults else None, part="consumer")
    gone = free_port()
    async with serve_http(health_app(runtime), "127.0.0.1", 0) as port:
        places = f"toy=http://127.0.0.1:{port},other=http://127.0.0.1:{gone}"
        write_env(folder / ".segue" / "up.env", {SERVICES: places})

        async def said() -> Finding:
            toy, other = await running_services({"SEGUE_PORT": "1"})
            assert (toy.what, other.what, other.verdict) == ("toy", "other", "fail")
            assert other.found == f"does not answer at http://127.0.0.1:{gone}: ConnectError"
            return toy

        assert (await said()).found == "not ready: starting"
        runtime.started = True
        database.works()
        assert ((await said()).verdict, (await said()).found) == ("ok", "ready")
        database.fails("the last use failed: ConnectionRefusedError")
        warned = await said()
        assert warned.verdict == "warn"
        assert warned.found.startswith("ready; database: the last use failed: ConnectionRefusedError (for ")
        faults.append("nothing moves")
        failed = await said()
        assert failed.verdict == "fail"
        assert failed.found.startswith("not ready: nothing moves; database: the last use failed")


async def test_configured_ports_are_asked_where_no_up_runs() -> None:
    runtime = runtime_for()
    runtime.started = True
    gone = free_port()
    async with serve_http(health_app(runtime), "127.0.0.1", 0) as port:
        found = await running_services(
            {"SEGUE_HEALTH_PORT": str(port), "SEGUE_PORT": str(gone), "SEGUE_HOST": "0.0.0.0"}  # noqa: S104
        )
        assert [(one.what, one.verdict) for one in found] == [
            ("health pages at SEGUE_HEALTH_PORT", "ok"),
            ("service at SEGUE_PORT", "warn"),
        ]
        api = await running_services({"SEGUE_API": f"http://me:sesame@127.0.0.1:{gone}"})
        assert [one.verdict for one in api] == ["warn"]
        assert "sesame" not in api[0].found
    assert await running_services({"SEGUE_PORT": "0", "SEGUE_HEALTH_PORT": "many"}) == []
