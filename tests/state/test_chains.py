"""Triggers whose functions are inside the host end where they go round in circles."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from iii_skill.engine.fanout import LONGEST_CHAIN
from iii_skill.host import open_host


@pytest.mark.parametrize("adapter", ["memory", "file"])
async def test_a_trigger_that_fires_itself_is_cut(
    adapter: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"data_dir": str(tmp_path / "d")} if adapter == "file" else {}
    async with open_host(adapter=adapter, adapter_config=settings) as host:
        fired: list[Any] = []
        host.register_function("t::seen", fired.append)
        host.register_trigger("state", "t::seen", {})
        # The event of a write has the fields that a delete needs.
        host.register_trigger("state", "state::delete", {})
        with caplog.at_level(logging.WARNING):
            await host.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
            while host.engine.busy:
                await asyncio.sleep(0.001)
        assert len(fired) == LONGEST_CHAIN
        assert caplog.text.count("fired one another") >= 1
        assert await host.trigger("state::set", {"scope": "s", "key": "other", "value": 1})


async def test_a_python_function_that_writes_what_fires_it_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async with open_host() as host:
        calls = 0

        async def again(event: Any) -> None:
            nonlocal calls
            calls += 1
            await host.trigger("state::set", {"scope": "s", "key": "k", "value": calls})

        host.register_function("t::again", again)
        host.register_trigger("state", "t::again", {"scope": "s"})
        await host.trigger("state::set", {"scope": "s", "key": "k", "value": 0})
        while host.engine.busy:
            await asyncio.sleep(0.001)
        assert calls == LONGEST_CHAIN
        assert "fired one another" in caplog.text


async def test_a_cancelled_handler_answers_its_caller() -> None:
    async with open_host() as host:

        async def cancelled(_payload: Any) -> None:
            raise asyncio.CancelledError

        host.register_function("t::cancelled", cancelled)
        with pytest.raises(Exception, match="cancelled before it answered"):
            await host.trigger("t::cancelled", {}, timeout=10)
