"""`http::on-request`: observers are routes, beside those of triggers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.http import post

from iii_skill import Host, open_host
from iii_skill.config import Config, HttpSettings, StateConfig
from iii_skill.config.settings import Middleware
from iii_skill.errors import CallerError
from iii_skill.observers.hosted import HostedObserver


class Site:
    """A host with an HTTP port, and a function that answers with what it got."""

    def __init__(self, host: Host, url: str) -> None:
        self.host = host
        self.url = url
        self.got: list[Any] = []
        self.function(
            "t::g", lambda payload: {"status_code": 201, "body": {"id": payload["path_params"].get("id")}}
        )

    def function(self, function_id: str, answer: Any) -> None:
        def handler(payload: Any) -> Any:
            self.got.append(payload)
            return answer(payload)

        self.host.register_function(function_id, handler)

    async def route(self, method: str, path: str, target: str = "t::g", **fields: Any) -> HostedObserver:
        args = {"method": method, "path": path, **fields.pop("args", {})}
        return await self.host.observe("http::on-request", target, args=args, **fields)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        return await asyncio.to_thread(post, f"{self.url}{path}", body, method=method, headers=headers)


@asynccontextmanager
async def site(**http: Any) -> AsyncIterator[Site]:
    memory = StateConfig(adapter_name="memory")
    async with open_host(config=Config(state=memory, http=HttpSettings(**http))) as host:
        servers = await host.serve(port=0, http_port=0)
        assert servers.http_url is not None
        yield Site(host, servers.http_url)


@pytest.fixture
async def made() -> AsyncIterator[Site]:
    async with site() as opened:
        yield opened


async def test_an_observer_is_a_route_until_it_ends(made: Site) -> None:
    observer = await made.route("post", "/things/:id", metadata={"m": 1})
    assert observer.state == "active"
    assert await made.ask("POST", "/things/7?a=1", {"n": 1}) == (201, {"id": "7"})
    (payload,) = made.got
    assert payload["path"] == "/things/:id"
    assert (payload["body"], payload["query_params"], payload["method"]) == ({"n": 1}, {"a": "1"}, "POST")
    assert {"request_body", "response", "trigger", "headers"} <= set(payload)
    assert (await made.ask("GET", "/things/7"))[0] == 405
    assert observer.fires == 1
    observer.unobserve()
    assert (await made.ask("POST", "/things/7", {}))[0] == 404


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({}, "INVALID_ARGS"),
        ({"method": "GET"}, "INVALID_ARGS"),
        ({"path": "/x"}, "INVALID_ARGS"),
        ({"method": "GET", "path": 5}, "INVALID_ARGS"),
        ({"method": "FETCH", "path": "/x"}, "INVALID_ARGS"),
        ({"method": "GET", "path": "/b/{"}, "INVALID_ARGS"),
        ({"method": "GET", "path": "/x", "middleware_function_ids": "m"}, "INVALID_ARGS"),
        ({"method": "PUT", "path": "/taken/:other"}, "HTTP_ROUTE_CONFLICT"),
    ],
)
async def test_args_that_make_no_route_are_refused(made: Site, args: Any, code: str) -> None:
    await made.route("GET", "/taken/:id")
    with pytest.raises(CallerError) as refused:
        await made.host.observe("http::on-request", "t::g", args=args)
    assert refused.value.code == code
    assert (await made.ask("PUT", "/taken/1"))[0] == 405


async def test_triggers_and_observers_share_one_table(made: Site) -> None:
    made.function("t::old", lambda _payload: {"status_code": 200, "body": "old"})
    trigger = made.host.register_trigger("http", "t::old", {"api_path": "/x", "http_method": "GET"})
    observer = await made.route("GET", "/x")
    assert (await made.ask("GET", "/x"))[0] == 201, "the last one serves"
    observer.unobserve()
    assert (await made.ask("GET", "/x"))[0] == 200, "and the earlier one again when it goes"
    made.host.unregister_trigger(trigger)
    assert (await made.ask("GET", "/x"))[0] == 404


@pytest.mark.parametrize(
    ("filters", "path", "status"),
    [
        ({"input.body.n": {"$gt": 1}}, "/x?a=1", 201),
        ({"input.body.n": {"$gt": 5}}, "/x?a=1", 422),
        ({"input.query_params.a": {"$eq": "1"}}, "/x?a=1", 201),
        ({"input.headers.x-who": {"$eq": "me"}}, "/x", 201),
        ({"input.headers.x-who": {"$ne": "me"}}, "/x", 422),
        ({"input.method": {"$eq": "POST"}}, "/x", 201),
    ],
)
async def test_a_filter_stands_where_a_condition_stood(
    made: Site, filters: Any, path: str, status: int
) -> None:
    observer = await made.route("POST", "/x", filters=filters)
    got, body = await made.ask("POST", path, {"n": 2}, **{"x-who": "me"})
    assert got == status
    assert observer.fires == (status == 201)
    if status == 422:
        assert body["error"]["code"] == "CONDITION_NOT_MET"


async def test_global_middleware_comes_before_the_filter_and_that_of_the_route_after_it() -> None:
    async with site(middleware=(Middleware(function_id="m::global", priority=1),)) as made:
        for name in ("m::global", "m::one", "m::two"):
            made.function(name, lambda _payload: {"action": "continue"})
        await made.route(
            "GET", "/x", filters={"input.query_params.a": {"$eq": "1"}},
            args={"middleware_function_ids": ["m::one", "m::two"]},
        )  # fmt: skip
        assert (await made.ask("GET", "/x"))[0] == 422
        assert len(made.got) == 1
        assert (await made.ask("GET", "/x?a=1"))[0] == 201
        names = ["global" if "phase" in payload else "target" for payload in made.got]
        assert names == ["global", "global", "global", "global", "target"]


async def test_a_middleware_may_answer(made: Site) -> None:
    made.function(
        "m::no", lambda _payload: {"action": "respond", "response": {"status_code": 403, "body": "no"}}
    )
    observer = await made.route("GET", "/x", args={"middleware_function_ids": ["m::no"]})
    assert (await made.ask("GET", "/x"))[0] == 403
    assert observer.fires == 0


async def test_limits_hold_for_routes(made: Site) -> None:
    gate = asyncio.Event()

    async def slow(_payload: Any) -> Any:
        await gate.wait()
        return {"status_code": 200, "body": 1}

    made.host.register_function("t::slow", slow)
    observer = await made.route("GET", "/slow", "t::slow", max_in_flight=1, max_fires=2)
    first = asyncio.ensure_future(made.ask("GET", "/slow"))
    async with asyncio.timeout(10):
        while observer.fires == 0:
            await asyncio.sleep(0.001)
    status, body = await made.ask("GET", "/slow")
    assert (status, body["error"]["code"]) == (503, "OVERFLOW")
    gate.set()
    assert (await first)[0] == 200
    assert (await made.ask("GET", "/slow"))[0] == 200
    assert observer.state == "disposed"
    assert (await made.ask("GET", "/slow"))[0] == 404


async def test_a_slot_is_free_again_after_a_time_out() -> None:
    async with site(default_timeout_ms=100) as made:

        async def never(_payload: Any) -> Any:
            await asyncio.Event().wait()

        made.host.register_function("t::never", never)
        observer = await made.route("GET", "/never", "t::never", max_in_flight=1)
        assert [(await made.ask("GET", "/never"))[0] for _ in range(2)] == [504, 504]
        assert observer.fires == 2


async def test_a_route_whose_target_is_not_there_says_so(made: Site) -> None:
    observer = await made.route("GET", "/later", "t::later")
    status, body = await made.ask("GET", "/later")
    assert (status, body["error"]["code"]) == (503, "OBSERVER_NOT_ACTIVE")
    made.function("t::later", lambda _payload: {"body": "here"})
    assert observer.state == "active"
    assert await made.ask("GET", "/later") == (200, "here")


async def test_the_target_of_a_route_may_be_observed_and_be_asked_who_calls(made: Site) -> None:
    seen: list[Any] = []
    made.host.register_function("o::seen", seen.append)
    await made.route("GET", "/x")
    await made.host.observe("t::g", "o::seen", capture=["caller", "output"])
    await made.ask("GET", "/x")
    async with asyncio.timeout(10):
        while not seen:
            await asyncio.sleep(0.001)
    assert seen[0]["caller"] == {"worker_name": "iii-http"}
    assert seen[0]["output"]["status_code"] == 201


async def test_nobody_calls_the_source_and_its_args_can_be_read(made: Site) -> None:
    info = await made.host.trigger("engine::functions::info", {"function_id": "http::on-request"})
    assert info["private"] is True
    assert info["args_format"]["required"] == ["method", "path"]
