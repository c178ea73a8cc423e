"""The launcher of a real Kafka: when it is ready, brokers that crash and restart, and the end of all its processes."""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from tests.patience import eventually, patient

from segue_cli.local.process import Child, child, ready_with

LAUNCHER = Path(__file__).parents[2] / "deploy" / "kafka" / "kafka.py"

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(180),
]


async def test_a_broker_keeps_its_records_through_a_crash_and_ends_with_its_launcher() -> None:
    async with child(
        [sys.executable, str(LAUNCHER), "--brokers", "1"],
        name="kafka",
        ready=ready_with("brokers"),
        ready_within_s=patient(120),
        death_signal=signal.SIGTERM,
    ) as launcher:
        (broker,) = launcher.ready["brokers"]
        servers = launcher.ready["bootstrap_servers"]
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        await admin.create_topics([NewTopic("orders", 1, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
            assert (await producer.send_and_wait("orders", b"1")).offset == 0

        await kill(broker["pid"], launcher)
        async with child(broker["start"], name="broker", grace_s=1) as again:
            assert again.pid != broker["pid"]
            place = TopicPartition("orders", 0)
            known = await answering(servers)
            async with AIOKafkaConsumer(bootstrap_servers=known, auto_offset_reset="earliest") as consumer:
                consumer.assign([place])
                record = await asyncio.wait_for(consumer.getone(place), patient(60))
                assert (record.value, record.timestamp_type) == (b"1", 1)
    assert launcher.returncode == 0
    assert not exists(broker["dir"])


async def test_a_broker_ends_when_its_launcher_is_killed() -> None:
    async with child(
        [sys.executable, str(LAUNCHER)], name="kafka", ready=ready_with("brokers"), ready_within_s=patient(120)
    ) as launcher:
        (broker,) = launcher.ready["brokers"]
        await launcher.stop(signal.SIGKILL)
    await gone(broker["pid"])
    shutil.rmtree(Path(broker["dir"]).parent)


async def test_missing_java_is_reported_in_one_line(tmp_path: Path) -> None:
    lines: list[str] = []
    env = {"PATH": str(tmp_path)}
    async with child([sys.executable, str(LAUNCHER)], name="kafka", env=env, on_line=lines.append) as launcher:
        assert await launcher.wait() == 2
    assert len(lines) == 1
    assert "is not on the PATH" in lines[0]


def exists(path: str) -> bool:
    """Whether the path exists."""
    return Path(path).exists()


async def kill(pid: int, launcher: Child) -> None:
    """Kill a broker by its process id; the launcher keeps running."""
    os.kill(pid, signal.SIGKILL)
    await gone(pid)
    assert launcher.returncode is None


async def gone(pid: int) -> None:
    """Wait until the process has ended and been reaped."""

    async def ended() -> bool:
        return not exists(f"/proc/{pid}")

    await eventually(ended)


async def answering(servers: str) -> str:
    """The address, once a broker listens there again."""
    host, _, port = servers.rpartition(":")

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return False
        writer.close()
        return True

    await eventually(listens, what="a broker that came back")
    return servers
