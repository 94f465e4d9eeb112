"""Streams: items, their events, and streams that a worker keeps itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from support import redis
from support.jobs import Handler

from iii_skill import Host, InvocationError, open_host

ITEM = {"stream_name": "chat", "group_id": "room"}


@pytest.fixture(params=["memory", "file", "redis"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    settings: dict[str, Any] = {}
    if request.param == "file":
        settings = {"data_dir": str(tmp_path / "data")}
    elif request.param == "redis":
        settings = dict(redis.settings())
    async with open_host(adapter=request.param, adapter_config=settings) as host:
        yield host


async def stream(host: Host, verb: str, item: str | None = None, **more: Any) -> Any:
    named = ITEM if item is None else {**ITEM, "item_id": item}
    return await host.trigger(f"stream::{verb}", {**named, **more})


def kinds(events: list[Any]) -> list[tuple[str, Any, Any]]:
    return [(event["event"]["type"], event["id"], event["event"].get("data")) for event in events]


async def test_items_keep_their_place_and_their_json(host: Host) -> None:
    big = {"n": 9007199254740993, "f": 1.0}
    assert await stream(host, "set", "z", data=big) == {"old_value": None, "new_value": big}
    await stream(host, "set", "a", data=[])
    await stream(host, "set", "z", data=None)
    assert await stream(host, "list") == [None, []]
    assert await stream(host, "get", "a") == []
    assert await stream(host, "delete", "a") == {"old_value": []}
    assert await stream(host, "list") == [None]


async def test_names_that_look_alike_are_apart(host: Host) -> None:
    for name, group in (("a:b", "c"), ("a", "b:c"), ("a", 'b","c')):
        await host.trigger(
            "stream::set", {"stream_name": name, "group_id": group, "item_id": "i", "data": group}
        )
    assert await host.trigger("stream::list_groups", {"stream_name": "a"}) == ['b","c', "b:c"]
    assert await host.trigger("stream::list_all") == {
        "count": 2,
        "stream": [{"id": "a", "groups": ['b","c', "b:c"]}, {"id": "a:b", "groups": ["c"]}],
    }


async def test_every_change_is_an_event_and_nothing_else_is(host: Host) -> None:
    heard = Handler(host, "hear")
    host.register_trigger("stream", "hear", {"stream_name": "chat"})
    await stream(host, "set", "i", data=1)
    await stream(host, "set", "i", data=1)
    await stream(host, "update", "i", ops=[{"type": "increment", "path": "", "by": 2}])
    await stream(host, "delete", "i")
    await stream(host, "delete", "i")
    await stream(host, "get", "i")
    await stream(host, "update", "new", ops=[])
    assert await stream(host, "send", id="i", type="typing", data={"who": "me"}) is None
    got = await heard.has(6)
    assert [e for e in kinds(got) if e[1] == "i"] == [
        ("create", "i", 1),
        ("update", "i", 1),
        ("update", "i", 3),
        ("delete", "i", 3),
        ("event", "i", {"type": "typing", "data": {"who": "me"}}),
    ]
    assert ("create", "new", {}) in kinds(got)
    assert {(e["type"], e["streamName"], e["groupId"]) for e in got} == {("stream", "chat", "room")}
    assert all(event["timestamp"] > 1_700_000_000_000 for event in got)


async def test_concurrent_writes_of_an_item_are_told_in_their_order(host: Host) -> None:
    heard = Handler(host, "hear")
    host.register_trigger("stream", "hear", {"stream_name": "chat", "item_id": "i"})
    ops = [{"type": "increment", "path": "", "by": 1}]
    await stream(host, "set", "i", data=0)
    await asyncio.gather(*(stream(host, "update", "i", ops=ops) for _ in range(100)))
    assert [data for _, _, data in kinds(await heard.has(101))] == list(range(101))


@pytest.mark.parametrize(
    ("config", "heard"),
    [
        ({}, 3),
        (None, 3),
        ({"stream_name": ""}, 3),
        ({"stream_name": "chat"}, 2),
        ({"stream_name": "chat", "group_id": "room"}, 1),
        ({"stream_name": "chat", "group_id": "", "item_id": "i"}, 2),
        ({"stream_name": "chat", "item_id": "other"}, 0),
        ({"stream_name": "other"}, 1),
    ],
)
async def test_filters(config: Any, heard: int) -> None:
    async with open_host() as host:
        handler = Handler(host, "hear")
        host.register_trigger("stream", "hear", config)
        for name, group in (("chat", "room"), ("chat", "hall"), ("other", "room")):
            await host.trigger(
                "stream::set", {"stream_name": name, "group_id": group, "item_id": "i", "data": 1}
            )
        await asyncio.sleep(0.02)
        await handler.has(heard)


async def test_only_false_and_errors_of_a_condition_skip() -> None:
    async with open_host() as host:
        handler = Handler(host, "hear")
        host.register_function("may", lambda event: event["event"]["data"] != 1)
        host.register_trigger("stream", "hear", {"stream_name": "chat", "condition_function_id": "may"})
        for number in range(3):
            await stream(host, "set", "i", data=number)
        assert [data for _, _, data in kinds(await handler.has(2))] == [0, 2]


async def test_a_value_that_not_every_sdk_can_read_is_not_stored(host: Host) -> None:
    deep: Any = 1
    for _ in range(130):
        deep = [deep]
    with pytest.raises(InvocationError) as caught:
        await stream(host, "set", "i", data=deep)
    assert caught.value.code in ("VALUE_REFUSED", "payload_unreadable")
    assert await stream(host, "list") == []


async def test_a_worker_may_keep_the_items_of_a_stream_itself(host: Host) -> None:
    kept: dict[str, Any] = {}
    heard = Handler(host, "hear")
    host.register_trigger("stream", "hear", {"stream_name": "chat"})

    def put(payload: Any) -> Any:
        old = kept.get(payload["item_id"])
        kept[payload["item_id"]] = payload["data"]
        return {"old_value": old, "new_value": payload["data"]}

    host.register_function("stream::set(chat)", put)
    host.register_function("stream::get(chat)", lambda payload: kept.get(payload["item_id"]))
    host.register_function("stream::list(chat)", lambda _payload: list(kept.values()))
    host.register_function("stream::list_groups(chat)", lambda _payload: ["theirs"])
    host.register_function(
        "stream::delete(chat)", lambda payload: {"old_value": kept.pop(payload["item_id"], None)}
    )
    assert await stream(host, "set", "i", data=5) == {"old_value": None, "new_value": 5}
    assert await stream(host, "get", "i") == 5
    assert await stream(host, "list") == [5]
    assert await host.trigger("stream::list_groups", {"stream_name": "chat"}) == ["theirs"]
    assert await stream(host, "delete", "i") == {"old_value": 5}
    assert await stream(host, "delete", "i") == {"old_value": None}
    assert kinds(await heard.has(2)) == [("create", "i", 5), ("delete", "i", 5)]


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (None, "STREAM_SET_ERROR", "Failed to set value: Function returned no result"),
        ({"old_value": 1}, "JSON_ERROR", "Failed to convert result to value: missing field `new_value`"),
        ([1], "JSON_ERROR", "Failed to convert result to value: "),
        (
            "raise",
            "STREAM_SET_ERROR",
            "Failed to set value: Failed to invoke function: invocation_failed: broken",
        ),
    ],
)
async def test_a_provider_that_answers_something_else(answer: Any, code: str, text: str) -> None:
    async with open_host() as host:

        def put(_payload: Any) -> Any:
            if answer == "raise":
                raise ValueError("broken")
            return answer

        host.register_function("stream::set(chat)", put)
        with pytest.raises(InvocationError) as caught:
            await stream(host, "set", "i", data=1)
        assert caught.value.code == code
        assert caught.value.message.startswith(text)


async def test_hosts_on_one_store_hear_of_each_others_changes_once() -> None:
    settings = redis.settings()
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(open_host(adapter="redis", adapter_config=settings))
            for _ in range(2)
        ]
        handlers = [Handler(host, "hear") for host in hosts]
        for host in hosts:
            host.register_trigger("stream", "hear", {"stream_name": "chat"})
            # A host hears of the others' writes from its first answer on.
            await stream(host, "get", "i")
        await stream(hosts[0], "set", "i", data=1)
        await stream(hosts[1], "set", "i", data=2)
        await stream(hosts[1], "send", type="x", data=3)
        for handler in handlers:
            got = kinds(await handler.has(3))
            assert [e for e in got if e[1]] == [("create", "i", 1), ("update", "i", 2)]
            assert ("event", None, {"type": "x", "data": 3}) in got
        assert await stream(hosts[0], "list") == [2]
        assert await hosts[0].trigger("stream::list_all") == {
            "count": 1,
            "stream": [{"id": "chat", "groups": ["room"]}],
        }
