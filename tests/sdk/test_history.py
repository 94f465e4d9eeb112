"""Versions and the past through the SDK for Node, whose numbers cannot tell revisions of Redis apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import redis
from support.host import running_host
from support.sdk_workers import running_worker

pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize("sdk", ["node-0.3.0", "node-0.22.1"])
def test_versions_and_the_past_are_exact_in_node_over_redis(tmp_path: Path, sdk: str) -> None:
    settings = {**redis.settings(), "history": {"keep": 1000}}
    config = tmp_path / "iii-config.yaml"
    # JSON is YAML.
    adapter = json.dumps({"name": "redis", "config": settings})
    config.write_text(f"workers:\n  - name: iii-state\n    config: {{adapter: {adapter}}}\n")
    with (
        running_host(tmp_path, "--config", str(config)) as host,
        running_worker(sdk, tmp_path / "worker", host.ws, program="history") as worker,
    ):
        found = worker.line("found", timeout=60)
    assert found["pages"] == [50, 50, 20]
    revisions = [int(text) for text in found["revisions"]]
    assert revisions[0] > 2**53
    assert revisions == sorted(set(revisions), reverse=True)
    assert sorted(found["values"]) == list(range(120))
    assert found["past"] == found["values"]
    assert found["told"] == found["revisions"][::-1]
