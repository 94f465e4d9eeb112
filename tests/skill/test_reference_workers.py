"""The reference workers as a reader starts them: their log shows, with telemetry as they have it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

import pytest
from support.sdk import link_node_modules, python_sdk, rust_binary, tool
from support.skill_tools import NODE_SDK, PYTHON_SDK, RUST_SDK
from support.tree import ROOT
from support.workers import becomes, logged, running_site, running_worker, written

WORKERS = ("state-management.py", "state-management.js", "state-management.rs")
CRATES = f"""iii-helpers = "={RUST_SDK}"
chrono = {{ version = "0.4.41", default-features = false, features = ["clock"] }}
percent-encoding = "2"
tracing-subscriber = "0.3"
uuid = {{ version = "1", features = ["v4"] }}
"""
PEN = {"name": "Pen", "price": 2.5, "category": "office"}

pytestmark = pytest.mark.timeout(300)  # the first that needs it compiles the one in Rust


def command_for(name: str, folder: Path) -> list[str]:
    """How one of them is started."""
    source = ROOT / "references" / name
    if source.suffix == ".rs":
        return [str(rust_binary(RUST_SDK, source, name="reference-worker", crates=CRATES))]
    if source.suffix == ".py":
        return [str(python_sdk(PYTHON_SDK)), str(source)]
    shutil.copy(source, folder / "worker.mjs")
    link_node_modules(folder, NODE_SDK)
    return [tool("node"), "worker.mjs"]


@pytest.mark.parametrize("name", WORKERS)
async def test_its_log_says_that_it_is_ready_and_what_changed(name: str, tmp_path: Path) -> None:
    command = await asyncio.to_thread(command_for, name, tmp_path)
    log = tmp_path / "worker.log"
    async with (
        running_site() as site,
        running_worker(command, tmp_path, site, environment=site.environment_of_a_reader),
    ):
        status, pen = await site.request("POST", "/products", PEN)
        assert status == 201
        await becomes("the line of the start", written(log, "ready"))
        await becomes("the line of the change", written(log, "changed", "state:created", pen["id"]))


@pytest.mark.parametrize("name", WORKERS)
async def test_with_telemetry_the_lines_stand_in_the_log_of_the_host_alone(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From the moment on when it is connected: what a Rust worker says before that may still show."""
    command = await asyncio.to_thread(command_for, name, tmp_path)
    caplog.set_level(logging.INFO, logger="iii_skill.workers")
    async with running_site() as site:
        environment = site.environment_of_a_reader | {"OTEL_ENABLED": "true"}
        async with running_worker(command, tmp_path, site, environment=environment):
            status, pen = await site.request("POST", "/products", PEN)
            assert status == 201
            await becomes(
                "the line in the host's log", logged(caplog, "] changed", "state:created", pen["id"])
            )
    assert pen["id"] not in (tmp_path / "worker.log").read_text()
