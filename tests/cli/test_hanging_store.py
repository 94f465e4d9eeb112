"""A store that hangs holds nobody up: SIGTERM ends serve and attach within the grace, with one line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from support import hanging_plugin
from support.client import raw_client
from support.distributions import install
from support.host import running_host

from iii_skill.errors import InvocationError
from iii_skill.host import open_host
from iii_skill.plugins import load_plugins

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "call-hangs": ("state::set", {"scope": "s", "key": "hang", "value": 1}),
    "call-ignores-its-end": ("state::get", {"scope": "s", "key": "k"}),
    "thread-hangs": ("state::list", {"scope": "s"}),
}
LEFT = dict.fromkeys(CALLS, "3 calls that the store has not answered") | {
    "close-hangs": "the store itself: `close` of the adapter 'close-hangs' has not ended"
}


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """An environment in which the hanging adapters are installed."""
    place = tmp_path / "site"
    place.mkdir()
    install(place, "hanging-stores", Path(hanging_plugin.__file__).read_text())
    return {"PYTHONPATH": str(place)}


@pytest.mark.parametrize("adapter", LEFT)
async def test_sigterm_ends_the_host_within_the_grace(
    tmp_path: Path, site: dict[str, str], adapter: str
) -> None:
    with running_host(tmp_path, "--adapter", adapter, env=site) as host:
        async with raw_client(host.ws) as client:
            await client.result("state::set", {"scope": "s", "key": "k", "value": 1})
            waiting = [
                asyncio.ensure_future(client.call(*CALLS[adapter])) for _ in range(3 * (adapter in CALLS))
            ]
            # A later call of the same connection is answered, so those above have reached the store: they
            # are sent when this gives way.
            await asyncio.sleep(0)
            await client.result("engine::functions::list", {})
            code = await asyncio.to_thread(host.sigterm)
            for call in waiting:
                call.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
    assert code == 1
    (line,) = [line for line in host.stderr.splitlines() if "without waiting" in line]
    queues = " and what iii-queue has asked the store for" if adapter == "thread-hangs" else ""
    assert line.endswith(f"ended without waiting any longer for {LEFT[adapter]}{queues}")
    assert "Traceback" not in host.stderr


async def test_a_store_that_answers_within_the_grace_is_waited_for(
    tmp_path: Path, site: dict[str, str]
) -> None:
    with running_host(tmp_path, "--adapter", "slow-close", env=site) as host:
        assert host.sigterm() == 0
    assert "without waiting" not in host.stderr


@pytest.mark.parametrize("adapter", LEFT)
async def test_sigterm_ends_attach_within_the_grace(
    tmp_path: Path, site: dict[str, str], adapter: str
) -> None:
    command = [sys.executable, "-m", "iii_skill", "attach", "--ready-json", "--adapter", adapter]
    log = tmp_path / "attach.log"
    with (
        running_host(tmp_path, "--no-state") as engine,
        log.open("wb") as stderr,
        subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            [*command, "--engine", engine.ws],
            cwd=tmp_path,
            env={**os.environ, **site},
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as attach,
    ):
        assert attach.stdout is not None
        assert await asyncio.to_thread(attach.stdout.readline), log.read_text()
        async with raw_client(engine.ws) as client:
            waiting = [
                asyncio.ensure_future(client.call(*CALLS[adapter])) for _ in range(3 * (adapter in CALLS))
            ]
            await asyncio.sleep(0)
            await client.result("state::list_groups", {})
            attach.terminate()
            assert await asyncio.to_thread(attach.wait) == 1
            for call in waiting:
                call.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
    assert f"ended without waiting any longer for {LEFT[adapter]}" in log.read_text()


async def test_in_process_the_caller_hears_that_the_fate_is_unknown() -> None:
    point = metadata.EntryPoint("hanging_plugin", "support.hanging_plugin", "iii_skill")
    plugins = load_plugins([*metadata.entry_points(group="iii_skill"), point])
    async with open_host(adapter="call-hangs", plugins=plugins) as host:
        function, payload = CALLS["call-hangs"]
        calls = [asyncio.ensure_future(host.trigger(function, payload)) for _ in range(2)]
        await asyncio.sleep(0)
        await host.close(grace_s=0.05)
        assert host.left == ["2 calls that the store has not answered"]
        for call in calls:
            with pytest.raises(InvocationError, match="it is unknown whether the write happened"):
                await call
