"""A write whose answer is too large for its caller is answered as made, without the values."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.peers import Peer

from iii_skill.host import Host, open_host

OLD_PYTHON = {"runtime": "python", "version": "0.23.0"}
VALUE = "x" * 600_000


async def answered(host: Host, peer: Peer, function_id: str, data: dict[str, Any]) -> dict[str, Any]:
    invocation_id = peer.call(function_id, {"scope": "s", "key": "k", **data})
    async with asyncio.timeout(60):
        while not (answers := [m for m in peer.received() if m.get("invocation_id") == invocation_id]):
            await asyncio.sleep(0)
    (answer,) = answers
    return answer


@pytest.mark.parametrize(
    ("function_id", "data", "stored"),
    [
        ("state::set", {"value": VALUE + "y"}, VALUE + "y"),
        ("state::update", {"ops": [{"type": "append", "path": "", "value": "z"}]}, VALUE + "z"),
        ("state::delete", {}, None),
    ],
)
async def test_a_write_that_was_made_says_so(function_id: str, data: dict[str, Any], stored: Any) -> None:
    async with open_host() as host:
        await host.trigger("state::set", {"scope": "s", "key": "k", "value": VALUE})
        peer = Peer(host.engine, **OLD_PYTHON)
        if function_id == "state::delete":
            data = dict(data)
            await host.trigger("state::set", {"scope": "s", "key": "k", "value": VALUE * 2})
        answer = await answered(host, peer, function_id, data)
        assert "error" not in answer
        assert "The write was made" in answer["result"]["values_left_out"]
        assert len(json.dumps(answer)) < 1000
        assert await host.trigger("state::get", {"scope": "s", "key": "k"}) == stored


async def test_a_read_that_is_too_large_is_an_error() -> None:
    async with open_host() as host:
        await host.trigger("state::set", {"scope": "s", "key": "k", "value": VALUE * 2})
        answer = await answered(host, Peer(host.engine, **OLD_PYTHON), "state::get", {})
        assert answer["error"]["code"] == "payload_too_large"


async def test_whoever_can_take_it_gets_the_values() -> None:
    async with open_host() as host:
        await host.trigger("state::set", {"scope": "s", "key": "k", "value": VALUE})
        answer = await answered(host, Peer(host.engine), "state::set", {"value": VALUE + "y"})
        assert answer["result"] == {"new_value": VALUE + "y", "old_value": VALUE}
