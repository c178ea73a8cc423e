"""The subscriber's consumer is stopped at the end of its block, whatever aiokafka raises then."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer
from tests.chassis.toy import job, leaking_stop, request, runtime_for, send, toy, until


async def test_a_consumer_that_leaks_a_cancellation_does_not_cancel_the_service(
    embedded_kafka: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AIOKafkaConsumer, "stop", leaking_stop)
    async with toy(embedded_kafka, database_url, runtime_for()) as made:

        async def handled() -> bool:
            return job(1) in await made.commits()

        await send(embedded_kafka, [request(1)])
        await until(handled)
