"""The log of changes: one order, cursors, and gaps that are always told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import redis
from support.client import raw_client
from support.host import running_host
from support.redis import until
from websockets.exceptions import WebSocketException

from iii_skill import Host, InvocationError, open_host
from iii_skill.state.change_log import ChangeLog, CursorTooOld
from iii_skill.values import Change

CHANGES = "iii-skill::state::changes"


def change(number: int, *, size: int = 1) -> Change:
    return Change("s", f"k{number}", None, b"1" * size, number)


def log_of(count: int, **bounds: int) -> ChangeLog:
    log = ChangeLog(lambda: 0, **bounds)
    for number in range(1, count + 1):
        log.append(change(number))
    return log


def test_changes_come_in_order_after_any_cursor() -> None:
    log = log_of(10)
    for number in range(11):
        found = [one.number for one in log.after(log.cursor(number))]
        assert found == list(range(number + 1, 11))


@pytest.mark.parametrize("bounds", [{"keep": 3}, {"keep_bytes": 3 * 205}])
def test_what_made_room_is_told(bounds: dict[str, int]) -> None:
    log = log_of(10, **bounds)
    assert log.oldest == log.cursor(7)
    assert [one.number for one in log.after(log.cursor(7))] == [8, 9, 10]
    with pytest.raises(CursorTooOld, match=f"go on from {log.epoch}-10"):
        log.after(log.cursor(6))


def test_one_change_larger_than_the_log_is_kept() -> None:
    log = log_of(3, keep_bytes=1000)
    log.append(change(4, size=100_000))
    assert [one.number for one in log.after(log.cursor(3))] == [4]


@pytest.mark.parametrize("count", [1, 155, 156, 157, 10_000, 30_000])
def test_batches_lose_nothing_and_keep_what_is_promised(count: int) -> None:
    log = log_of(count)
    first = int(log.oldest.split("-")[1])
    assert count - first >= min(count, 10_000)
    assert count - first <= 10_000 + 156
    for number in {first, min(first + 1, count), (first + count) // 2, count - 1, count}:
        found = [(one.number, one.change.key) for one in log.after(log.cursor(number))]
        assert found == [(one, f"k{one}") for one in range(number + 1, count + 1)]


def test_large_values_make_room_before_anybody_reads() -> None:
    log = ChangeLog(lambda: 0)
    for number in range(1, 201):
        log.append(change(number, size=1_000_000))
    assert len(list(log.after(log.oldest))) <= 16
    assert [one.number for one in log.after(log.cursor(199))] == [200]


def test_what_is_passed_over_is_counted_whether_it_is_kept_or_not() -> None:
    log = log_of(100, keep=10)
    for after, count, left_out in ((0, 4, 96), (0, 50, 90), (95, 5, 0), (97, 10, 0), (95, 3, 2), (100, 1, 0)):
        passed, cursor = log.latest(log.cursor(after), count)
        assert (passed, cursor) == (left_out, log.cursor(after + left_out))
        assert len(list(log.after(cursor))) == 100 - after - left_out
    old = log.newest
    log.broken()
    with pytest.raises(CursorTooOld):
        log.latest(old, 5)


def test_after_a_break_no_old_cursor_counts() -> None:
    log = log_of(3)
    old = log.newest
    log.broken()
    for cursor in (old, log.cursor(1), "0123456789ab-0"):
        with pytest.raises(CursorTooOld):
            log.after(cursor)
    assert list(log.after(log.newest)) == []


@pytest.mark.parametrize("cursor", ["", "x", "-1", "a-", "a-x", "a-١", "a-" + "9" * 400])
def test_what_is_no_cursor(cursor: str) -> None:
    with pytest.raises(Exception, match="no cursor of this log") as caught:
        log_of(1).after(cursor)
    assert caught.value.code == "INVALID_CURSOR"


@pytest.fixture(params=["memory", "file", "redis"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    settings: dict[str, Any] = {}
    if request.param == "file":
        settings = {"data_dir": str(tmp_path / "data")}
    elif request.param == "redis":
        settings = dict(redis.settings())
    async with open_host(adapter=request.param, adapter_config=settings) as host:
        yield host


async def put(host: Host, key: str, value: Any, scope: str = "s") -> None:
    await host.trigger("state::set", {"scope": scope, "key": key, "value": value})


async def follow(host: Host, after: str, count: int, **filters: Any) -> tuple[list[Any], str]:
    """So many changes after the cursor, and the next cursor."""
    found: list[Any] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            answer = await host.trigger(CHANGES, {"after": after, "wait_ms": 5000, **filters})
            found += answer["changes"]
            after = answer["next"]
    assert len(found) == count
    return found, after


async def test_a_listener_goes_on_where_it_stopped(host: Host) -> None:
    cursor = (await host.trigger(CHANGES))["next"]
    for number in range(5):
        await put(host, "k", number)
    first, cursor = await follow(host, cursor, 5)
    await host.trigger("state::delete", {"scope": "s", "key": "k"})
    await host.trigger(
        "state::update", {"scope": "s", "key": "n", "ops": [{"type": "set", "path": "a", "value": 1}]}
    )
    rest, _ = await follow(host, cursor, 2)
    assert [row["new_value"] for row in first] == [0, 1, 2, 3, 4]
    assert [(row["event_type"], row["old_value"], row["new_value"]) for row in rest] == [
        ("state:deleted", 4, None),
        ("state:created", None, {"a": 1}),
    ]


async def test_nothing_is_recorded_before_somebody_asks(host: Host) -> None:
    await put(host, "k", 1)
    answer = await host.trigger(CHANGES, {"after": "oldest"})
    assert answer["changes"] == []
    assert answer["next"] == answer["oldest"]


async def test_filters_and_pages(host: Host) -> None:
    cursor = (await host.trigger(CHANGES))["next"]
    for scope in ("a", "b"):
        for key in ("x1", "x2", "y"):
            await put(host, key, 1, scope)
    everything, _ = await follow(host, cursor, 6, limit=2)
    assert [row["key"] for row in everything] == ["x1", "x2", "y"] * 2
    some, _ = await follow(host, cursor, 2, scope="b", key_prefix="x", values=False)
    assert [(row["scope"], row["key"], row.get("new_value")) for row in some] == [
        ("b", "x1", None),
        ("b", "x2", None),
    ]
    one, _ = await follow(host, cursor, 1, scope="a", key="y")
    assert one[0]["key"] == "y"


async def test_a_page_is_bounded_in_bytes_and_holds_one_change_at_least() -> None:
    async with open_host() as host:
        cursor = (await host.trigger(CHANGES))["next"]
        for number in range(3):
            await put(host, f"k{number}", "x" * 1000)
        answer = await host.trigger(CHANGES, {"after": cursor, "max_bytes": 10})
        assert [row["key"] for row in answer["changes"]] == ["k0"]
        answer = await host.trigger(CHANGES, {"after": answer["next"], "max_bytes": 5000})
        assert [row["key"] for row in answer["changes"]] == ["k1", "k2"]


async def test_a_wait_ends_when_its_time_is_over_and_passes_what_it_did_not_want() -> None:
    async with open_host() as host, asyncio.timeout(60):
        after = cursor = ""
        # On a busy machine the time may be over before the change has come by: then once more.
        while after == cursor:
            cursor = (await host.trigger(CHANGES))["next"]
            wanted = {"after": cursor, "scope": "other", "wait_ms": 50}
            waiting = asyncio.ensure_future(host.trigger(CHANGES, wanted))
            await asyncio.sleep(0)
            await put(host, "k", 1)
            answer = await waiting
            assert answer["changes"] == []
            after = answer["next"]


async def test_the_newest_come_with_how_many_were_left_out() -> None:
    async with open_host() as host:
        after = (await host.trigger(CHANGES))["next"]
        for number in range(12_000):
            await put(host, "k", number)
        told, left_out = 0, []
        for newest, limit in ((20, 5), (10, 100), (10, 100)):
            answer = await host.trigger(CHANGES, {"after": after, "newest": newest, "limit": limit})
            after = answer["next"]
            told += len(answer["changes"])
            left_out.append(answer.get("left_out"))
            if answer["changes"]:
                last = answer["changes"][-1]["new_value"]
        assert (last, told, left_out) == (11_999, 15, [11_980, 5, None])
        assert told + 11_980 + 5 == 12_000


async def test_closing_answers_whoever_waits() -> None:
    async with open_host() as host:
        waiting = asyncio.ensure_future(host.trigger(CHANGES, {"wait_ms": 60_000}))
        await asyncio.sleep(0)
        # This call comes behind it.
        await host.trigger(CHANGES)
        await host.close(grace_s=0.2)
        assert (await waiting)["changes"] == []


async def test_while_nobody_waits_many_turns_share_a_batch_and_whoever_waits_then_hears_at_once() -> None:
    async with open_host(adapter="memory") as host:
        cursor = (await host.trigger(CHANGES, {}))["next"]
        assert host.state is not None
        log, batches = host.state.log, 0
        told = log.on_append
        assert told is not None

        def appended() -> None:
            nonlocal batches
            batches += 1
            told()

        log.on_append = appended
        for number in range(3_000):
            await host.trigger("state::set", {"scope": "s", "key": f"k{number}", "value": number})
        assert batches < 1_500
        answer = await host.trigger(CHANGES, {"after": cursor, "limit": 1_000})
        assert [row["key"] for row in answer["changes"]] == [f"k{number}" for number in range(1_000)]
        after = log.newest
        waiting = asyncio.ensure_future(host.trigger(CHANGES, {"after": after, "wait_ms": 60_000}))
        while not waiting.done():
            await host.trigger("state::set", {"scope": "s", "key": "last", "value": 1})
        assert (await waiting)["changes"][0]["key"] == "last"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"after": "nope"}, "INVALID_CURSOR"),
        ({"after": "0123456789ab-0"}, "CURSOR_TOO_OLD"),
        ({"limit": 0}, "INVALID_PAGE_LIMITS"),
        ({"wait_ms": 10**9}, "INVALID_PAGE_LIMITS"),
        ({"newest": 0}, "INVALID_PAGE_LIMITS"),
        ({"newest": 5, "scope": "s"}, "INVALID_PAGE_LIMITS"),
        ({"after": 5}, "deserialization_error"),
        ([], "deserialization_error"),
    ],
)
async def test_requests_that_cannot_be_answered(payload: Any, code: str) -> None:
    async with open_host() as host:
        with pytest.raises(InvocationError) as caught:
            await host.trigger(CHANGES, payload)
        assert caught.value.code == code


async def test_two_hosts_on_one_store_record_every_change_once() -> None:
    settings = redis.settings()
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(open_host(adapter="redis", adapter_config=settings))
            for _ in range(2)
        ]
        cursors = [(await host.trigger(CHANGES))["next"] for host in hosts]
        for host in hosts:
            await host.trigger("state::get", {"scope": "s", "key": "k"})
        for number in range(100):
            await put(hosts[number % 2], f"k{number}", number)
        for host, cursor in zip(hosts, cursors, strict=True):
            found, _ = await follow(host, cursor, 100)
            assert sorted(row["new_value"] for row in found) == list(range(100))


async def test_a_host_that_was_killed_tells_that_changes_may_be_missing(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        async with raw_client(host.ws) as client:
            cursor = (await client.result(CHANGES, {}))["next"]
            await client.result("state::set", {"scope": "s", "key": "k", "value": 1})
        host.restart()
        async with raw_client(host.ws) as client:
            assert await client.code(CHANGES, {"after": cursor}) == "CURSOR_TOO_OLD"
            answer = await client.result(CHANGES, {})
            assert json.dumps(answer["next"])


@pytest.mark.timeout(600)
async def test_two_hosts_on_one_store_are_complete_or_say_that_they_are_not(tmp_path: Path) -> None:
    """One writes on, the other is killed, then the server is: a listener misses nothing unknowingly."""
    with redis.redis_server("--appendonly", "yes") as server, ExitStack() as stack:
        for name in ("writing", "followed"):
            (tmp_path / name).mkdir()
        writing, followed = (
            stack.enter_context(running_host(tmp_path / name, "--redis-url", server.url))
            for name in ("writing", "followed")
        )
        ended = asyncio.Event()
        made: list[int] = []

        async def write() -> None:
            async with raw_client(writing.ws) as client:
                number = 0
                # The last one counts, so that the listener knows where the end is.
                while not ended.is_set() or made[-1:] != [number]:
                    number += 1
                    request = {"scope": "s", "key": "n", "value": number}
                    answer = await client.call("state::set", request, timeout=60)
                    if "error" not in answer:
                        made.append(number)
                    await asyncio.sleep(0.002)

        segments: list[list[int]] = [[]]

        def over() -> bool:
            return writer.done() and segments[-1][-1:] == made[-1:]

        async def listen() -> None:
            after: str | None = None
            while not over():
                try:
                    async with raw_client(followed.ws) as client:
                        while not over():
                            answer = await client.call(CHANGES, {"after": after, "wait_ms": 200})
                            if "error" in answer:
                                assert answer["error"]["code"] == "CURSOR_TOO_OLD", answer
                                # As told: read the state again, and go on from now.
                                after = (await client.result(CHANGES, {}))["next"]
                                value = await client.result("state::get", {"scope": "s", "key": "n"})
                                segments.append([value])
                                continue
                            after = answer["result"]["next"]
                            segments[-1] += [row["new_value"] for row in answer["result"]["changes"]]
                except (OSError, ConnectionError, TimeoutError, WebSocketException):
                    await asyncio.sleep(0.05)

        listening, writer = asyncio.ensure_future(listen()), asyncio.ensure_future(write())

        async def told_more() -> None:
            """Some more changes have been made and told, so that what comes now comes in the middle."""
            goal = len(made) + 50
            await until(lambda: len(made) >= goal and segments[-1][-1:] > made[goal - 50 : goal - 49])

        async with asyncio.timeout(400):
            for _ in range(2):
                await told_more()
                await asyncio.to_thread(followed.restart)
                await told_more()
                server.kill()
                await asyncio.to_thread(server.start)
            await told_more()
            ended.set()
            await writer
            await listening
        assert len(segments) > 1
        for segment in segments:
            # After a break it begins with the state. That was read after the cursor was taken, so the log may
            # tell this change too, and some before it.
            first, *told = segment
            assert told == sorted(set(told))
            assert {first, *told} >= {number for number in made if first <= number <= segment[-1]}
