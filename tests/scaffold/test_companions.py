"""Companions of a produced worker: the schedule comes by itself; without a queue nothing is half created."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from support.projects import check_node, check_python, check_rust, write_project
from support.scaffold import covering
from support.sdk import CACHE, cargo_lock
from support.served import ServedHost, served_host, serving_worker, wait_until

CHECKS = {"python": check_python, "javascript": check_node, "rust": check_rust}
SOURCES = {"python": "sample_worker.py", "javascript": "worker.js", "rust": "src/main.rs"}
RECORD = {"name": "pen", "price": 1.5, "category": "office"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", CHECKS)
def test_the_schedule_comes_and_a_missing_queue_is_told(language: str, tmp_path: Path) -> None:
    combination: dict[str, Any] = {**covering()[0], "operations": ("create",), "with": ("queue", "cron")}
    with cargo_lock() if language == "rust" else nullcontext():
        place = CACHE / "project-rust" if language == "rust" else tmp_path / "project"
        project = write_project(language, {**combination, "adapter": "memory"}, place)
        source = project / SOURCES[language]
        text = source.read_text()
        assert text.count("0 */5 * * * *") == 1
        source.write_text(text.replace("0 */5 * * * *", "* * * * * *"))
        command, _ = CHECKS[language](project)
        options = ("--config", "iii-config.yaml", "--without", "queue")
        with (
            served_host(*options, cwd=project) as host,
            serving_worker(command, host, {"products::create"}, cwd=project),
        ):
            without_a_queue(host)


def without_a_queue(host: ServedHost) -> None:
    wait_until("the route", lambda: host.request("POST", "/products", {})[0] == 400)
    status, body = host.request("POST", "/products", RECORD)
    assert (status, body["error"]["code"]) == (503, "NOT_QUEUED")
    assert host.call("products::create", RECORD)["result"]["code"] == "NOT_QUEUED"
    assert host.call("state::list", {"scope": "products"})["result"] == []
    place = {"scope": "products-counts", "key": "products"}
    wait_until("the schedule", lambda: host.call("state::get", place).get("result") is not None)
    assert host.call("state::get", place)["result"]["count"] == 0
