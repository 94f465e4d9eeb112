"""The operation `total`: right with several copies, after SIGKILL, and when events were never sent."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.projects import check_node, check_python, check_rust, write_project
from support.scaffold import covering
from support.sdk import CACHE, cargo_lock
from support.served import ServedHost, served_host, wait_until

from iii_skill.cli.scaffold import scaffold

CHECKS = {"python": check_python, "javascript": check_node, "rust": check_rust}
SOURCES = {"python": "sample_worker.py", "javascript": "worker.js", "rust": "src/main.rs"}
INTERVALS = {
    "RECOUNT_S = 60": "RECOUNT_S = 1",
    "RECOUNT_MS = 60_000": "RECOUNT_MS = 1000",
    "RECOUNT: Duration = Duration::from_secs(60)": "RECOUNT: Duration = Duration::from_secs(1)",
}
STATE = {"adapter": {"name": "kv", "config": {"store_method": "file_based", "file_path": "./data/state"}}}


@contextmanager
def copy_of(
    command: list[str], host: ServedHost, project: Path, log: str
) -> Iterator[subprocess.Popen[bytes]]:
    """One copy of the worker."""
    environment = os.environ | {"III_URL": host.ws, "OTEL_ENABLED": "false"}
    with (project / log).open("wb") as output:
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=output, stderr=output)
    try:
        wait_until(
            f"the worker: {log}", lambda: process.poll() is not None or "products::total" in host.functions()
        )
        assert process.poll() is None, (project / log).read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def change(host: ServedHost, seed: int) -> None:
    """Writes and removals, the same for the same seed."""
    choose = random.Random(seed)
    for _ in range(25):
        key = f"p{choose.randrange(12)}"
        place = {"scope": "products", "key": key}
        if choose.random() < 0.3:
            host.call("state::delete", place)
        else:
            host.call("state::set", place | {"value": {"id": key, "price": choose.randrange(10_000) / 100}})


def truth(host: ServedHost) -> tuple[int, float]:
    values = host.call("state::list", {"scope": "products"})["result"]
    return len(values), round(sum(value["price"] for value in values), 2)


def total(host: ServedHost) -> tuple[int, float]:
    answer = host.call("products::total", {}).get("result") or {"count": -1, "sum": 0}
    return answer["count"], round(answer["sum"], 2)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", CHECKS)
def test_it_comes_to_the_truth_whatever_happens(language: str, tmp_path: Path) -> None:
    combination: dict[str, Any] = {**covering()[0], "operations": ("create", "total"), "trigger": False}
    with cargo_lock() if language == "rust" else nullcontext():
        place = CACHE / "project-rust" if language == "rust" else tmp_path / "project"
        project = write_project(language, combination, place)
        source = project / SOURCES[language]
        text = source.read_text()
        for interval, shorter in INTERVALS.items():
            text = text.replace(interval, shorter)
        source.write_text(text)
        command, _ = CHECKS[language](project)
        with served_host("--config", "iii-config.yaml", cwd=project) as host:
            survives_copies_and_kills(host, command, project)


def survives_copies_and_kills(host: ServedHost, command: list[str], project: Path) -> None:
    with (
        copy_of(command, host, project, "first.log") as first,
        copy_of(command, host, project, "second.log"),
        ThreadPoolExecutor(6) as pool,
    ):
        writers = [pool.submit(change, host, seed) for seed in range(6)]
        wait_until("some writes", lambda: truth(host)[0] > 3)
        first.send_signal(signal.SIGKILL)
        first.wait()
        with copy_of(command, host, project, "third.log"):
            for writer in writers:
                writer.result()
            wait_until("the total after a SIGKILL", lambda: total(host) == truth(host))
            assert [total(host) for _ in range(20)] == [truth(host)] * 20

            off = {"id": "iii-state", "value": {**STATE, "triggers_enabled": False}}
            assert "error" not in host.call("configuration::set", off)
            change(host, 7)
            wait_until("the total without events", lambda: total(host) == truth(host))
    place = {"scope": "products-totals", "key": "price"}
    assert host.call("state::get", place)["result"]["count"] == truth(host)[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fields", "a:text,b:boolean"], "--fields: --total-field needs a field of type amount or integer"),
        (
            ["--fields", "a:text,b:amount", "--total-field", "a"],
            "'a' is no amount or integer field",
        ),
        (["--fields", "a:text,b:amount", "--total-field", "c"], "take b"),
    ],
)
def test_what_cannot_be_added_up_is_one_error(arguments: list[str], words: str, tmp_path: Path) -> None:
    command = ["python", str(tmp_path / "w"), "--defaults", "--operations", "create,total", *arguments]
    result = CliRunner().invoke(scaffold, command)
    assert (result.exit_code, result.output.count("Error")) == (2, 1)
    assert words in result.output
    assert not (tmp_path / "w").exists()
