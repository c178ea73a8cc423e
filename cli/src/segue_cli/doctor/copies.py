"""The doctor's check of Kafka's copies: how many each topic has, and how many of them a confirmed record is in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chassis.kafka.metadata import TopicState
from chassis.kafka.topics import brokers_up, min_in_sync
from chassis.settings.kafka.cluster import KafkaCluster
from segue_cli.doctor.advice import Finding
from segue_cli.stack.topics import ADD_COPIES, asked, too_few_copies

_SAFE: Final = 2
"""Copies with which the loss of one broker loses nothing."""
_WHAT: Final = "copies of topics"


async def copies(cluster: KafkaCluster, there: Mapping[str, TopicState], limit_s: float) -> list[Finding]:
    """Findings about the topics that this client sees; none on a cluster with one broker, which has nothing to choose.

    Each question to the cluster is answered within `limit_s` seconds. Raises BrokerAway.
    """
    seen = {name: state for name, state in there.items() if state.copies}
    if not seen or await asked(cluster, limit_s, lambda: brokers_up(cluster)) < _SAFE:
        return []
    return judged(seen, await asked(cluster, limit_s, lambda: min_in_sync(cluster, seen)), cluster.principal)


def judged(there: Mapping[str, TopicState], in_sync: Mapping[str, int], principal: str) -> list[Finding]:
    """Findings about topics with copies, and their `min.insync.replicas` as far as `principal` may see it. Pure."""
    found = []
    if few := too_few_copies(there, _SAFE):
        found.append(Finding(_WHAT, "warn", few, f"{ADD_COPIES}."))
    if alone := [name for name, least in sorted(in_sync.items()) if least < _SAFE <= there[name].copies]:
        named = ", ".join(alone)
        said = f"min.insync.replicas is less than {_SAFE}: {named}: a record is confirmed once one broker has it"
        todo = f"Set it to {_SAFE}, and let the topics have 3 copies: docs/operations/kafka.md says how."
        found.append(Finding(_WHAT, "warn", said, todo))
    if found:
        return found
    least = min(state.copies for state in there.values())
    if untold := sorted(there.keys() - in_sync.keys()):
        said = f"{least} or more; {principal} may not see (DescribeConfigs) how many confirm: {', '.join(untold)}"
        return [Finding(_WHAT, "ok", said)]
    return [Finding(_WHAT, "ok", f"{least} or more; confirmed records are in {min(in_sync.values())} or more")]
