"""When triggers fired, and how: recorded from the first question on, forgotten with the trigger."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from iii_skill import Host, open_host
from iii_skill.engine.activity import LONGEST, Fired

ACTIVITY = "iii-skill::triggers::activity"


async def asked(host: Host) -> dict[str, Fired]:
    answer = await host.trigger(ACTIVITY)
    return msgspec.convert(answer["by_id"], dict[str, Fired])


async def test_firings_and_failures_are_told_from_the_first_question_on() -> None:
    async with open_host() as host:

        def work(event: Any) -> None:
            if event["key"] == "bad":
                raise ValueError("x" * 2000)

        host.register_function("shop::work", work)
        trigger = host.register_trigger("state", "shop::work", {"scope": "s"})
        await host.trigger("state::set", {"scope": "s", "key": "unseen", "value": 1})
        await asyncio.sleep(0.05)
        assert host.engine.fanout.activity is None
        assert await asked(host) == {}
        before = time.time_ns() // 1_000_000
        for key in ("good", "bad", "good"):
            await host.trigger("state::set", {"scope": "s", "key": key, "value": key})
        while (found := (await asked(host))[trigger]).fires < 3 or found.failures == 0:
            await asyncio.sleep(0.01)
        assert (found.fires, found.failures, found.dropped) == (3, 1, 0)
        assert found.last_fired_ms is not None
        assert found.last_failed_ms is not None
        assert before <= found.last_fired_ms <= found.last_failed_ms + 1000
        assert found.last_error is not None
        assert len(found.last_error) == LONGEST
        host.unregister_trigger(trigger)
        assert await asked(host) == {}


async def test_failing_conditions_and_routes_count_too() -> None:
    async with open_host() as host:

        def fail(_call: Any) -> None:
            raise ValueError("no")

        host.register_function("shop::fail", fail)
        host.register_function("shop::work", lambda _call: None)
        config = {"scope": "s", "condition_function_id": "shop::fail"}
        conditional = host.register_trigger("state", "shop::work", config)
        route = host.register_trigger("http", "shop::fail", {"api_path": "fail", "http_method": "GET"})
        servers = await host.serve(port=0, http_port=0)
        await asked(host)
        await host.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
        assert servers.http_url is not None
        address, _, port = servers.http_url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(address, int(port))
        writer.write(b"GET /fail HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert b" 500 " in await reader.readline()
        writer.close()
        while (found := await asked(host))[conditional].failures == 0:
            await asyncio.sleep(0.01)
        assert (found[conditional].fires, found[conditional].failures) == (1, 1)
        assert found[conditional].last_error == "condition shop::fail: no"
        assert (found[route].fires, found[route].failures) == (1, 1)
