"""A host reads the stream of changes while a trigger of its own listens, and misses no write from then on."""

from __future__ import annotations

import asyncio
from typing import Any

from support.redis import RedisServer, until

from iii_skill import Host, open_host
from iii_skill.config.settings import Config, StateConfig


def followers(server: RedisServer) -> int:
    """Connections that wait for changes; companions would have some of their own."""
    return str(server.cli("CLIENT", "LIST")).count("cmd=xread")


def alone(server: RedisServer) -> Config:
    """State without companions."""
    state = StateConfig(adapter_name="redis", adapter_config={"redis_url": server.url})
    return Config(state=state, companions=())


def listening(host: Host, events: asyncio.Queue[Any], name: str) -> str:
    """Register a trigger that puts new values into the queue; its id."""

    async def handler(event: dict[str, Any]) -> None:
        events.put_nowait(event["new_value"])

    host.register_function(f"test::{name}", handler)
    return host.register_trigger("state", f"test::{name}", {"scope": "s"})


async def test_a_host_follows_from_its_first_trigger_to_its_last(server: RedisServer) -> None:
    events: asyncio.Queue[Any] = asyncio.Queue()
    async with (
        open_host(config=alone(server)) as one,
        open_host(config=alone(server)) as two,
    ):
        await one.trigger("state::set", {"scope": "s", "key": "k", "value": 0})
        await two.trigger("state::get", {"scope": "s", "key": "k"})
        assert followers(server) == 0

        trigger = listening(two, events, "first")
        # By the host itself in the turn of the registration; another host's may be before it at the server.
        await two.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
        async with asyncio.timeout(60):
            assert await events.get() == 1
        await one.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
        async with asyncio.timeout(60):
            assert await events.get() == 1
        assert followers(server) == 1

        two.unregister_trigger(trigger)
        await one.trigger("state::set", {"scope": "s", "key": "k", "value": 2})
        await until(lambda: followers(server) == 0)

        listening(two, events, "second")
        await two.trigger("state::get", {"scope": "s", "key": "k"})
        # It was answered after the host had asked where the stream ends.
        await one.trigger("state::set", {"scope": "s", "key": "k", "value": 3})
        async with asyncio.timeout(60):
            assert await events.get() == 3
        assert events.empty()
