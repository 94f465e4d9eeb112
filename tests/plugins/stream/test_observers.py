"""`stream::on-changed`, `stream::on-join` and `stream::on-leave`: what observers hear of streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support import redis
from support.jobs import Handler, until
from websockets.asyncio.client import ClientConnection, connect

from iii_skill import Host, InvocationError, open_host
from iii_skill.config import CompanionSection, Config, StateConfig


@pytest.fixture(params=["memory", "file", "redis"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    settings: dict[str, Any] = {}
    if request.param == "file":
        settings = {"data_dir": str(tmp_path / "data")}
    elif request.param == "redis":
        settings = dict(redis.settings())
    state = StateConfig(adapter_name=request.param, adapter_config=settings)
    section = CompanionSection(name="iii-stream", config={"port": 0})
    async with open_host(config=Config(state=state, companions=(section,))) as host:
        await host.serve(port=0, http_port=0)
        yield host


async def put(host: Host, item: str, data: Any, group: str = "room", stream: str = "chat") -> None:
    payload = {"stream_name": stream, "group_id": group, "item_id": item, "data": data}
    await host.trigger("stream::set", payload)


def subscribe(host: Host) -> connect:
    return connect(str(host.companions.ready()["iii-stream"]["url"]))


async def say(socket: ClientConnection, kind: str, **topic: Any) -> None:
    topic = {"subscriptionId": "1", "streamName": "chat", "groupId": "room", **topic}
    await socket.send(json.dumps({"type": kind, "data": topic}))


class TestChanged:
    async def test_every_event_comes_as_a_trigger_gets_it(self, host: Host) -> None:
        observed, triggered = Handler(host, "new"), Handler(host, "old")
        host.register_trigger("stream", "old", {"stream_name": "chat"})
        observer = await host.observe(
            "stream::on-changed", "new", filters={"input.streamName": {"$eq": "chat"}}, deliver="input"
        )
        assert (observer.state, observer.warnings) == ("active", [])
        await put(host, "a", 1)
        await put(host, "a", 2)
        await put(host, "a", 3, stream="other")
        named = {"stream_name": "chat", "group_id": "room"}
        await host.trigger("stream::delete", {**named, "item_id": "a"})
        await host.trigger("stream::send", {**named, "id": "a", "type": "note", "data": [1]})
        events = [event["event"] for event in await observed.has(4)]
        assert events == [
            {"type": "create", "data": 1},
            {"type": "update", "data": 2},
            {"type": "delete", "data": 2},
            {"type": "event", "data": {"type": "note", "data": [1]}},
        ]
        await triggered.has(4)
        assert triggered.got == observed.got

    async def test_filters_look_into_items_and_the_envelope_says_who(self, host: Host) -> None:
        handler = Handler(host)
        wanted = {"input.event.data.n": {"$gte": 2}, "output.groupId": {"$in": ["room", "hall"]}}
        await host.observe("stream::on-changed", "work", filters=wanted)
        for number in range(4):
            await put(host, "a", {"n": number})
            await put(host, "a", {"n": number}, group="cellar")
        first, second = await handler.has(2)
        assert [told["input"]["event"]["data"] for told in (first, second)] == [{"n": 2}, {"n": 3}]
        assert first["output"] == first["input"]
        assert (first["function_id"], first["caller"]) == (
            "stream::on-changed",
            {"worker_name": "iii-stream"},
        )

    async def test_who_ended_hears_no_more_and_who_stays_does(self, host: Host) -> None:
        gone, stays = Handler(host, "gone"), Handler(host, "stays")
        observer = await host.observe("stream::on-changed", "gone")
        await host.observe("stream::on-changed", "stays")
        assert observer.unobserve()
        await put(host, "a", 1)
        await stays.has(1)
        assert gone.got == []


class TestPresence:
    async def test_a_join_and_a_leave_are_told_and_filtered(self, host: Host) -> None:
        joined, left, lost = (Handler(host, name) for name in ("joined", "left", "lost"))
        room = {"input.group_id": {"$eq": "room"}}
        await host.observe("stream::on-join", "joined", filters=room, deliver="input")
        await host.observe("stream::on-leave", "left", filters=room, deliver="input")
        await host.observe("stream::on-leave", "lost", filters={"input.group_id": {"$eq": "hall"}})
        async with subscribe(host) as socket:
            await say(socket, "join", subscriptionId="2", groupId="hall")
            await say(socket, "join")
            await joined.has(1)
            await say(socket, "leave")
            await left.has(1)
        await lost.has(1)
        expected = {"subscription_id": "1", "stream_name": "chat", "group_id": "room", "id": None}
        assert joined.got == left.got == [{**expected, "context": None}]

    async def test_a_refused_client_has_not_joined(self, host: Host) -> None:
        joined = Handler(host, "joined")
        host.register_function("judge", lambda event: {"unauthorized": event["group_id"] == "room"})
        host.register_trigger("stream:join", "judge")
        await host.observe("stream::on-join", "joined", deliver="input")
        async with subscribe(host) as socket:
            await say(socket, "join")
            assert json.loads(await socket.recv())["event"]["type"] == "unauthorized"
            await say(socket, "join", groupId="hall")
            assert json.loads(await socket.recv())["event"]["type"] == "sync"
        await until(lambda: joined.got)
        assert [event["group_id"] for event in joined.got] == ["hall"]

    async def test_an_observer_that_fails_refuses_nobody(self, host: Host) -> None:
        joined = Handler(host, "joined", fails=1)
        await host.observe("stream::on-join", "joined")
        async with subscribe(host) as socket:
            await say(socket, "join")
            assert json.loads(await socket.recv())["event"]["type"] == "sync"
        await joined.has(1)


@pytest.mark.parametrize("source", ["stream::on-changed", "stream::on-join", "stream::on-leave"])
async def test_nobody_calls_them(source: str) -> None:
    async with open_host() as host:
        with pytest.raises(InvocationError) as refused:
            await host.trigger(source, {})
        assert refused.value.code == "FORBIDDEN"
