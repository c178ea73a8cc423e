"""Jobs and faults of a few minutes, so that every panel has something to show."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from contracts.topics import JOBS, PARTITIONS

SETTINGS: Final = {
    "MUSIC_PROVIDER": "fal",
    "SEGUE_SUBMIT_TIMEOUT_S": "2",
    "SEGUE_SUBMIT_GRACE_S": "25",
    "SEGUE_START_DEADLINE_S": "8",
    "LOG_LEVEL": "WARNING",
    # Only a trace that is exported, be it to the log, is an exemplar.
    "OTEL_TRACES_EXPORTER": "console",
}
LENGTH_S: Final = 240
_PAUSE_S: Final = 0.9

_PROMPTS: Final = (
    "Warm ambient pad for the opening credits",
    "Slow piano, close and dry, a rainy evening",
    "Marching drums that fade into a choir",
    "Bright synth arpeggio, 120 bpm",
    "Solo cello over distant thunder",
    "Lo-fi beat with vinyl crackle",
    "Tense strings, a door that opens",
)
_SUNG: Final = {
    "has_vocals": True,
    "lyrics": "We walk along the river\nuntil the lights go on",
    "model": "music/minimax-1.5",
}
_FAL_FIRST: Final = ("(not audio)", "(found late)")
"""The words of faults that fal alone has."""
_KINDS: Final[Sequence[Mapping[str, Any]]] = ({}, {}, _SUNG, {"model": "music/elevenlabs"}, {"route_by": "weights"})

_NO_MEDIA: Final = {"status": 500, "error": "nothing came of it", "error_type": "no_media_generated"}
_SINGLE: Final[Mapping[str, Mapping[str, Any]]] = {
    "(answer lost)": {"action": {"accept_then": "drop"}},
    "(never received)": {"action": {"refuse": "drop"}, "times": 3},
    "(held)": {"action": {"accept_then": "hang"}},
    "(refused prompt)": {"action": {"refuse": "content_policy"}},
    "(no media)": {"provider": "fal", "action": {"fail": _NO_MEDIA}},
    "(file gone)": {"provider": "fal", "action": {"files": "gone"}},
    "(not audio)": {"provider": "fal", "action": {"files": "html"}},
    "(found late)": {"provider": "fal", "action": {"accept_then": "drop", "run_s": 45}},
    "(file late)": {"action": {"files": {"not_yet": 1000, "status": 503}}},
    "(full)": {"provider": "fal", "action": {"stuck_queue": True}},
    "(throttled)": {"action": {"refuse": "rate_limited"}, "times": 6},
}
"""The fault of a single job, by the words in its prompt."""
_FOR_A_WHILE: Final[Sequence[tuple[int, int, Mapping[str, Any]]]] = (
    (30, 60, {"provider": "fal", "action": {"refuse": "balance"}}),
    (85, 110, {"provider": "replicate", "action": {"refuse": "unauthorized"}}),
    (85, 110, {"provider": "replicate", "on": "probe", "action": {"refuse": "unauthorized"}}),
    (135, 155, {"provider": "fal", "action": {"refuse": "nginx_503"}}),
    (165, LENGTH_S, {"provider": "fal", "on": "list", "action": {"refuse": "internal_500"}}),
    (LENGTH_S - 35, LENGTH_S, {"provider": "replicate", "action": {"refuse": "unauthorized"}}),
    (LENGTH_S - 35, LENGTH_S, {"provider": "replicate", "on": "probe", "action": {"refuse": "unauthorized"}}),
)
"""Faults of a provider, with the seconds at which each begins and ends."""
_GARBAGE: Final = (
    ("segue.requests", b"\x00 not json", b"segue.job.requested.v1"),
    ("segue.commands.fal", b'{"job_id": 7}', b"segue.attempt.run.v1"),
    ("segue.requests", b"{}", b"com.example.thing.v1"),
    # Of a release that is newer.
    ("segue.attempts", b"{}", b"segue.attempt.admired.v1"),
)
_NUL: Final = b',"mood":"\\u0000"}'
"""The end of an event that the log sink alone reads, and that PostgreSQL does not store."""
_GARBAGE_AT_S: Final = (20, 120, 200)


@dataclass(frozen=True, slots=True)
class Stage:
    """What the scene is played on."""

    api: httpx.AsyncClient
    sandbox: httpx.AsyncClient
    kafka: str
    say: Callable[[str], None]


async def play(stage: Stage) -> None:
    """Play all of it; returns after LENGTH_S seconds."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_faults(stage, began))
        tasks.create_task(_garbage(stage, began))
        tasks.create_task(_jobs(stage, began))


async def _jobs(stage: Stage, began: float) -> None:
    dice = random.Random(7)
    words = itertools.cycle(["", "", "", *itertools.chain.from_iterable((word, "") for word in _SINGLE)])
    async with asyncio.TaskGroup() as tasks:
        while time.monotonic() - began < LENGTH_S:
            word, kind = next(words), dice.choice(_KINDS)
            if word in _FAL_FIRST:
                # With a deadline that is near, an output counts as lost half a minute after the end of its run.
                kind = {"providers": ["fal", "replicate"], "model": "music/stable-audio-2.5", "deadline_s": 75}
            prompt = f"{dice.choice(_PROMPTS)} {word}".strip()
            policy = {"ambiguity_policy": dice.choice(["hold", "resubmit"])} if word == "(held)" else {}
            body = {"prompt": prompt, "has_vocals": False, "duration_s": dice.choice([3, 5, 8]), **kind, **policy}
            if "lyrics" in body:
                del body["duration_s"]
            tasks.create_task(_job(stage, body))
            await asyncio.sleep(_PAUSE_S * dice.uniform(0.4, 1.6))


async def _job(stage: Stage, body: Mapping[str, Any]) -> None:
    try:
        answer = await stage.api.post("/api/tracks", json=body, headers={"Idempotency-Key": str(uuid4())})
        if answer.status_code == 202:
            await stage.api.get(f"/api/jobs/{answer.json()['job_id']}")
        else:
            stage.say(f"{answer.status_code}: {answer.text}")
    except httpx.TransportError as error:
        # A machine that is busy with other things.
        stage.say(f"no answer: {error!r}")


async def _faults(stage: Stage, began: float) -> None:
    single = [{"prompt_contains": word, **rule} for word, rule in _SINGLE.items()]
    before: list[Mapping[str, Any]] | None = None
    while (now := time.monotonic() - began) < LENGTH_S:
        active = [rule for since, until, rule in _FOR_A_WHILE if since <= now < until]
        if active != before:
            stage.say(
                f"{now:.0f} s: {[(rule['provider'], rule['action']) for rule in active] or 'no fault of a provider'}"
            )
            (await stage.sandbox.put("/faults", json=[*active, *single])).raise_for_status()
            before = active
        await asyncio.sleep(1)


async def _garbage(stage: Stage, began: float) -> None:
    for at in _GARBAGE_AT_S:
        await asyncio.sleep(max(0.0, at - (time.monotonic() - began)))
        async with AIOKafkaProducer(bootstrap_servers=stage.kafka) as producer:
            for topic, value, kind in _GARBAGE:
                headers = [("ce_id", b"6f1c4a3e-0000-4000-8000-000000000001"), ("ce_type", kind), ("ce_source", b"/x")]
                await producer.send_and_wait(topic, value, b"garbage", headers=headers)
            if (event := await _last_of(stage.kafka, JOBS.name)) is not None:
                value = (event.value or b"")[:-1] + _NUL
                # With an id of its own: a known event is not stored again.
                headers = [(name, str(uuid4()).encode() if name == "ce_id" else raw) for name, raw in event.headers]
                await producer.send_and_wait(JOBS.name, value, event.key, headers=headers)


async def _last_of(kafka: str, topic: str) -> ConsumerRecord[bytes, bytes] | None:
    """The last record of any partition that has one."""
    async with AIOKafkaConsumer(bootstrap_servers=kafka) as consumer:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        for place, end in (await consumer.end_offsets(places)).items():
            if end:
                consumer.assign([place])
                consumer.seek(place, end - 1)
                found: ConsumerRecord[bytes, bytes] = await consumer.getone()
                return found
    return None
