"""The overlay for one node on a real API server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
from tests.k8s.applied import Applied, Cluster, applied_to, runs_and_stays

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def demo(cluster: Cluster) -> Iterator[Applied]:
    with applied_to(cluster, "demo") as applied:
        yield applied


def test_the_demo_runs_after_one_apply_and_a_second_changes_nothing(demo: Applied) -> None:
    runs_and_stays(demo)
    assert {each["metadata"]["name"] for each in demo.cluster.get("job", "--namespace=segue")} == {"setup", "demo"}


def test_no_key_is_anywhere_but_in_secrets(demo: Applied) -> None:
    keys = [
        base64.b64decode(value).decode()
        for each in demo.cluster.get("secret", "--namespace=segue")
        for name, value in each["data"].items()
        if name.endswith(("_KEY", "_TOKEN", "_PASSWORD"))
    ]
    assert len(keys) == 3
    kinds = demo.cluster.do("api-resources", "--verbs=list", "--namespaced", "--output=name").split()
    others = demo.cluster.get(",".join(kind for kind in kinds if kind != "secrets"), "--namespace=segue")
    assert {"Pod", "Deployment", "ConfigMap", "Event"} <= {each["kind"] for each in others}
    assert not [key for key in keys if key in json.dumps(others)]
