"""The same seed gives the same storm: the same injections at the same moments, and the same requests."""

import random
from itertools import pairwise

from chaos.load.faults import PERSISTENT_FAULTS, REQUEST_FAULTS, TIMED_FAULTS, request_fault_rules, timed_fault_rules
from chaos.load.requests import PERSISTENT_FAULT_DEADLINE_S, draw_request
from chaos.load.storm import plan
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
