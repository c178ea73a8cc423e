"""The same seed gives the same storm: the same injections at the same moments, and the same requests."""

import random
from itertools import pairwise

from chaos.cluster.disturbances import Disturbance
from chaos.load.faults import (
    PERSISTENT_FAULTS,
    REQUEST_FAULTS,
    TIMED_FAULTS,
    disturbance_windows,
    request_fault_rules,
    timed_fault_rules,
)
from chaos.load.requests import PERSISTENT_FAULT_DEADLINE_S, Request, RequestSpec, draw_request
from chaos.load.storm import plan, share_of_plain
from contracts.topics import SERVICES
from sandbox.runs.faults import Rule

KILLS = 36
JOBS = 600


def test_the_same_seed_gives_the_same_storm() -> None:
    assert plan(random.Random(7), KILLS, JOBS) == plan(random.Random(7), KILLS, JOBS)
    assert plan(random.Random(7), KILLS, JOBS) != plan(random.Random(8), KILLS, JOBS)


def test_a_storm_has_all_its_kills_in_order_and_before_its_end() -> None:
    injections = plan(random.Random(7), KILLS, JOBS)
    assert sum(injection.how in ("kill", "broker", "postgres") for injection in injections) == KILLS
    assert {injection.how for injection in injections} == {"kill", "term", "freeze", "broker", "postgres", "provider"}
    assert all(earlier.after <= later.after for earlier, later in pairwise(injections))
    assert 0 < injections[0].after <= injections[-1].after < JOBS


def test_many_seeds_cover_all_targets() -> None:
    injections = [injection for seed in range(20) for injection in plan(random.Random(seed), KILLS, JOBS)]
    assert {injection.target for injection in injections if injection.how == "kill"} == set(SERVICES)
    assert {injection.target for injection in injections if injection.how == "broker"} == {"0", "1", "2"}
    degraded = {injection.target for injection in injections if injection.how == "provider"}
    assert degraded == {f"{provider} {name}" for provider in ("fal", "replicate") for name in TIMED_FAULTS}


def test_the_same_seed_gives_the_same_requests() -> None:
    def requests(seed: int) -> list[object]:
        rng = random.Random(seed)
        return [draw_request(rng, 0.5).body(f"t-{n:04d}") for n in range(200)]

    assert requests(3) == requests(3)
    assert requests(3) != requests(4)


def test_faults_are_named_in_the_prompt_and_persistent_ones_have_a_short_deadline() -> None:
    rng = random.Random(1)
    faulty = [one for one in (draw_request(rng, 1.0) for _ in range(500)) if one.faults]
    assert {one.faults[0] for one in faulty} == set(REQUEST_FAULTS)
    assert all(f"<{one.faults[0]}>" in one.body("t-0001")["prompt"] for one in faulty)
    assert all("[t-0001]" in one.body("t-0001")["prompt"] for one in faulty)
    persistent = [one for one in faulty if one.faults[0] in PERSISTENT_FAULTS]
    assert {one.fields["deadline_s"] for one in persistent} == {PERSISTENT_FAULT_DEADLINE_S}


def test_the_sandbox_accepts_every_fault_rule() -> None:
    timed = [
        rule
        for provider in ("fal", "replicate")
        for name in TIMED_FAULTS
        for rule in timed_fault_rules({provider: name})
    ]
    assert all(Rule.model_validate(rule) for rule in [*request_fault_rules(), *timed])


def test_only_the_adapter_of_a_provider_explains_a_lost_submit() -> None:
    windows = {
        service: disturbance_windows([Disturbance("SIGKILL", f"{service}-1", service, 1.0, 2.0)])[0]
        for service in SERVICES
    }
    explained = {service: one.provider for service, one in windows.items() if one.explains}
    assert explained == {"fal-adapter": "fal", "replicate-adapter": "replicate"}


def test_only_requests_that_nothing_is_wrong_with_have_to_succeed() -> None:
    specs = [
        RequestSpec("plain"),
        RequestSpec("plain"),
        RequestSpec("a fault", faults=("no-media",)),
        RequestSpec("a short deadline", {"deadline_s": 8}),
        RequestSpec("a cancel", cancelled=True),
    ]
    requests = [Request(f"t-{n:04d}", spec, job_id=f"job-{n}") for n, spec in enumerate(specs)]
    requests[0].ended, requests[1].ended = "succeeded", "failed"
    assert share_of_plain([*requests, Request("t-0009", RequestSpec("never accepted"))]) == 0.5
