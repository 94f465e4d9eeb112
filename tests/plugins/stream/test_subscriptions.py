"""The port for subscriptions: sync, events in order, who may join, and clients that behave badly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from support import redis
from support.jobs import Handler, until
from websockets.asyncio.client import ClientConnection, connect

from iii_skill import Host, open_host
from iii_skill.config import CompanionSection, Config, StateConfig
from iii_skill.errors import PortTaken


@asynccontextmanager
async def serving(state: StateConfig | None = None, **settings: Any) -> AsyncIterator[Host]:
    section = CompanionSection(name="iii-stream", config={"port": 0, **settings})
    config = Config(state=state or StateConfig(adapter_name="memory"), companions=(section,))
    async with open_host(config=config) as host:
        await host.serve(port=0, http_port=0)
        yield host


@pytest.fixture(params=["memory", "file", "redis"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    settings: dict[str, Any] = {}
    if request.param == "file":
        settings = {"data_dir": str(tmp_path / "data")}
    elif request.param == "redis":
        settings = dict(redis.settings())
    async with serving(StateConfig(adapter_name=request.param, adapter_config=settings)) as host:
        yield host


def url(host: Host) -> str:
    return str(host.companions.ready()["iii-stream"]["url"])


async def say(socket: ClientConnection, kind: str, subscription: str = "1", **topic: Any) -> None:
    topic = {"streamName": "chat", "groupId": "room", **topic}
    await socket.send(json.dumps({"type": kind, "data": {"subscriptionId": subscription, **topic}}))


async def hear(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(socket.recv(), 5))  # type: ignore[no-any-return]


async def put(host: Host, item: str, data: Any, group: str = "room") -> None:
    payload = {"stream_name": "chat", "group_id": group, "item_id": item, "data": data}
    await host.trigger("stream::set", payload)


async def test_a_client_gets_the_state_and_then_every_event_in_order(host: Host) -> None:
    await put(host, "a", 1)
    async with connect(url(host)) as socket:
        await say(socket, "join")
        sync = await hear(socket)
        assert (sync["type"], sync["streamName"], sync["groupId"], sync["id"]) == (
            "stream",
            "chat",
            "room",
            None,
        )
        assert sync["event"] == {"type": "sync", "data": [1]}
        for number in range(50):
            await put(host, "a", number)
        await put(host, "b", 1, group="other")
        await host.trigger("stream::delete", {"stream_name": "chat", "group_id": "room", "item_id": "a"})
        events = [(await hear(socket))["event"] for _ in range(51)]
        if events[0] == {"type": "create", "data": 1}:
            # What hosts share is told by the store, a moment after it was read.
            events = [*events[1:], (await hear(socket))["event"]]
        assert events[:50] == [{"type": "update", "data": number} for number in range(50)]
        assert events[50] == {"type": "delete", "data": 49}


async def test_an_item_and_a_group_are_two_subscriptions(host: Host) -> None:
    async with connect(url(host)) as socket:
        await say(socket, "join", "one", id="a")
        assert (await hear(socket))["event"] == {"type": "sync", "data": None}
        await say(socket, "join", "all")
        assert (await hear(socket))["event"] == {"type": "sync", "data": []}
        await put(host, "a", 1)
        await put(host, "b", 2)
        assert [(await hear(socket))["id"] for _ in range(3)] == ["a", "a", "b"]
        await say(socket, "leave", "all")
        await say(socket, "join", "again", id="a")
        assert (await hear(socket))["event"] == {"type": "sync", "data": 1}
        await put(host, "b", 3)
        await put(host, "a", 4)
        assert [(await hear(socket))["event"]["data"] for _ in range(2)] == [4, 4]


async def test_no_event_is_missed_while_many_write_and_join() -> None:
    async with serving() as host:

        async def write() -> None:
            for number in range(300):
                await put(host, f"i{number % 7}", number)

        async def follow() -> dict[str, int]:
            async with connect(url(host)) as socket:
                await say(socket, "join")
                sync = await hear(socket)
                seen = {f"i{value % 7}": value for value in sync["event"]["data"]}
                while seen.get("i5") != 299:
                    event = await hear(socket)
                    seen[event["id"]] = event["event"]["data"]
                return seen

        found, *_ = await asyncio.gather(asyncio.gather(*(follow() for _ in range(8))), write())
        for seen in found:
            assert {item: value for item, value in seen.items() if item == "i5"} == {"i5": 299}
            assert all(value >= 287 for value in seen.values())


async def test_join_and_leave_are_told_and_a_join_can_be_refused() -> None:
    async with serving() as host:
        joined, left = Handler(host, "joined"), Handler(host, "left")

        def judge(event: dict[str, Any]) -> Any:
            return {"unauthorized": event["group_id"] == "secret"}

        host.register_function("judge", judge)
        for kind, function_id in (
            ("stream:join", "joined"),
            ("stream:join", "judge"),
            ("stream:join", "missing"),
            ("stream:leave", "left"),
        ):
            host.register_trigger(kind, function_id, {})
        async with connect(url(host)) as socket:
            await say(socket, "join", "1", groupId="secret")
            assert (await hear(socket))["event"] == {"type": "unauthorized"}
            await say(socket, "join", "2", id="x")
            assert (await hear(socket))["event"]["type"] == "sync"
            await put(host, "x", 1, group="secret")
            await put(host, "x", 2)
            assert (await hear(socket))["event"] == {"type": "create", "data": 2}
            await say(socket, "leave", "never")
            await left.has(1)
        assert [event["subscription_id"] for event in await joined.has(2)] == ["1", "2"]
        assert joined.got[1] == {
            "subscription_id": "2",
            "stream_name": "chat",
            "group_id": "room",
            "id": "x",
            "context": None,
        }
        assert [event["subscription_id"] for event in await left.has(2)] == ["never", "2"]


async def test_the_auth_function_says_who_may_come_and_what_joins_are_told() -> None:
    async with serving(auth_function="auth") as host:
        asked: list[Any] = []

        def auth(request: dict[str, Any]) -> Any:
            asked.append(request)
            return {"context": {"user": request["query_params"]["user"][0]}}

        joined = Handler(host, "joined")
        host.register_function("auth", auth)
        host.register_trigger("stream:join", "joined", {})
        async with connect(f"{url(host)}/?user=ada", additional_headers={"X-Room": "7"}) as socket:
            await say(socket, "join")
            await hear(socket)
        assert (await joined.has(1))[0]["context"] == {"user": "ada"}
        assert asked[0]["headers"]["x-room"] == "7"
        assert asked[0]["path"] == "/"
        assert asked[0]["addr"].startswith("127.0.0.1:")


@pytest.mark.parametrize("answer", ["raise", None, "text", 5, "missing"])
async def test_whoever_the_auth_function_does_not_know_is_sent_away(answer: Any) -> None:
    async with serving(auth_function="auth") as host:

        def auth(_request: Any) -> Any:
            if answer == "raise":
                raise ValueError("who?")
            return answer

        if answer != "missing":
            host.register_function("auth", auth)
        async with connect(url(host)) as socket:
            await say(socket, "join")
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await hear(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


async def test_what_is_no_message_is_passed_over() -> None:
    async with serving() as host, connect(url(host)) as socket:
        for text in (
            "",
            "x",
            "[]",
            '{"type":"JOIN","data":{"subscriptionId":"1","streamName":"s","groupId":"g"}}',
            '{"type":"join","data":{"subscriptionId":1,"streamName":"s","groupId":"g"}}',
            '{"type":"join","data":{"subscriptionId":"1","groupId":"g"}}',
            '{"type":"join"}',
            "[" * 100_000,
        ):
            await socket.send(text)
        await socket.send(
            b'{"type":"join","data":{"subscriptionId":"1","streamName":"chat","groupId":"room"}}'
        )
        assert (await hear(socket))["event"] == {"type": "sync", "data": []}


async def test_a_client_that_does_not_read_is_closed_and_holds_back_nobody() -> None:
    async with (
        serving() as host,
        connect(url(host), max_queue=1, ping_interval=None) as lazy,
        connect(url(host)) as other,
    ):
        for socket in (lazy, other):
            await say(socket, "join")
            await hear(socket)
        lazy.transport.pause_reading()
        for number in range(60):
            await put(host, "i", "x" * 300_000 + str(number))
            assert (await hear(other))["event"]["data"].endswith(str(number))
        stream = host.companions.running["iii-stream"]
        await until(lambda: len(stream.listeners) == 1)
        lazy.transport.abort()


async def test_foreign_pages_and_other_paths_are_refused() -> None:
    async with serving() as host:
        for target, headers, status in (
            ("/", {"Origin": "https://evil.example"}, 403),
            ("/other", {}, 404),
        ):
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with connect(url(host) + target, additional_headers=headers):
                    pass
            assert refused.value.response.status_code == status


async def test_the_token_of_the_host_is_asked_for() -> None:
    section = CompanionSection(name="iii-stream", config={"port": 0})
    config = Config(state=None, companions=(section,))
    async with open_host(config=config) as host:
        await host.serve(port=0, http_port=0, token="secret")
        with pytest.raises(websockets.InvalidStatus):
            async with connect(url(host)):
                pass
        async with connect(f"{url(host)}/?token=secret") as socket:
            await say(socket, "join")
            await hear(socket)


async def test_a_port_that_is_taken_ends_the_start_only_if_it_was_chosen() -> None:
    async with serving() as first:
        taken = int(url(first).rpartition(":")[2])
        with pytest.raises(PortTaken, match=r"another by the setting `port` of iii-stream \(0 picks"):
            async with serving(port=taken):
                pass
    # Nobody chose 3112: two hosts start beside each other.
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(open_host()) for _ in range(2)]
        for host in hosts:
            await host.serve(port=0, http_port=0)
        assert len({url(host) for host in hosts}) == 2


async def test_hosts_on_one_store_serve_their_clients_alike() -> None:
    state = StateConfig(adapter_name="redis", adapter_config=dict(redis.settings()))
    async with serving(state) as one, serving(state) as two, connect(url(two)) as socket:
        await say(socket, "join")
        await hear(socket)
        for number in range(20):
            await put(one, "a", number)
        got = [(await hear(socket))["event"] for _ in range(20)]
        assert [event["data"] for event in got] == list(range(20))
