"""SharedAdapter: batches, races, lost connections, time-outs and the changes of all hosts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.redis import until

from iii_skill.adapters.shared import SharedAdapter, Swap
from iii_skill.adapters.shared import change_follower as follower_module
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.testing import Proxy, ServerProcess
from iii_skill.values import Change

from .conftest import OpenAdapter

FATE = "the fate of the write is unknown"


def bump(old: bytes | None) -> bytes:
    """Add one."""
    return b"%d" % (int(old or 0) + 1)


async def works(adapter: SharedAdapter[Any, int]) -> bool:
    """True when a write is answered."""
    try:
        await adapter.set("probe", "k", b"1")
    except AdapterError:
        return False
    return True


@pytest.mark.timeout(300)
def test_the_rendered_project_passes_its_own_tests(project: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for tool in (["ruff", "check", "."], ["ruff", "format", "--check", "."]):
        done = subprocess.run(
            [sys.executable, "-m", *tool], cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


async def test_the_calls_of_a_turn_travel_together(open_adapter: OpenAdapter, proxy: Proxy) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "k", b"0")
        assert await adapter.get("s", "k") == b"0"
        before = proxy.requests
        await asyncio.gather(*(adapter.set("s", f"k{number}", b"1") for number in range(200)))
        assert (
            await asyncio.gather(*(adapter.get("s", f"k{number}") for number in range(200))) == [b"1"] * 200
        )
        assert proxy.requests - before <= 4
        before = proxy.requests
        made = await asyncio.gather(*(adapter.update("s", "k", bump) for _ in range(150)))
        assert [change.new for change in made] == [b"%d" % number for number in range(1, 151)]
        assert proxy.requests - before <= 8


async def test_hosts_that_change_one_key_lose_no_update(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as one, open_adapter() as other:
        calls = [host.update("s", "n", bump) for _ in range(60) for host in (one, other)]
        made = await asyncio.gather(*calls)
        assert await one.get("s", "n") == b"120"
        assert sorted(int(change.new or 0) for change in made) == list(range(1, 121))


async def test_what_is_done_alone_is_in_order_with_the_calls_for_its_key(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as adapter:
        seen: list[bytes | None] = []

        async def look() -> int:
            (value,) = await adapter.use_reader(lambda connection: adapter.read(connection, [("s", "k")]))
            seen.append(value)
            return len(seen)

        for _ in range(2):
            seen.clear()
            numbers = [
                adapter.set("s", "k", b"1"),
                adapter.alone("s", "k", look),
                adapter.update("s", "k", bump),
                adapter.update("s", "k", bump),
                adapter.alone("s", "k", look),
                adapter.alone("s", "k", look),
                adapter.delete("s", "k"),
                adapter.alone("s", "k", look),
            ]
            answers: list[Any] = await asyncio.gather(*numbers)
            assert seen == [b"1", b"3", b"3", None]
            assert [answer for answer in answers if isinstance(answer, int)] == [1, 2, 3, 4]

        async def raises(error: Exception) -> None:
            raise error

        for error, words in ((AdapterError("not so"), "not so"), (ValueError("what"), "ValueError: what")):
            failing = adapter.alone("s", "k", lambda error=error: raises(error))  # type: ignore[misc]
            after = adapter.set("s", "k", b"2")
            with pytest.raises(AdapterError, match=words):
                await failing
            assert (await after).new == b"2"


async def test_what_is_done_alone_on_a_lost_connection_has_an_unknown_fate(
    open_adapter: OpenAdapter, proxy: Proxy
) -> None:
    async with open_adapter(timeout=0.5) as adapter, open_adapter() as other:
        await other.set("s", "k", b"1")
        await until(lambda: works(adapter))

        async def write() -> Any:
            return await adapter.use_writer(lambda connection: adapter.read(connection, [("s", "k")]))

        proxy.swallow()
        alone = adapter.alone("s", "k", write)
        behind = adapter.update("s", "k", bump)
        with pytest.raises(AdapterTimeout, match=FATE):
            await alone
        # It was not sent.
        with pytest.raises(AdapterUnavailable):
            await behind
        proxy.resume()
        await until(lambda: works(adapter))
        assert await other.get("s", "k") == b"1"


async def test_connections_that_are_cut_again_and_again_do_nothing_twice_and_lose_nothing(
    open_adapter: OpenAdapter, proxy: Proxy
) -> None:
    async with open_adapter() as adapter:
        changes = adapter.changes()
        seen: list[Change] = []

        async def follow() -> None:
            async for change in changes:
                seen.append(change)

        following = asyncio.ensure_future(follow())
        acknowledged = 0

        async def add() -> None:
            nonlocal acknowledged
            for _ in range(40):
                await adapter.update("s", "n", bump)
                acknowledged += 1

        adding = [asyncio.ensure_future(add()) for _ in range(5)]
        for goal in range(20, 200, 20):
            await until(lambda goal=goal: acknowledged >= goal)  # type: ignore[misc]
            proxy.cut()
        await asyncio.gather(*adding)
        assert await adapter.get("s", "n") == b"200"
        await until(lambda: len(seen) >= 200)
        assert [change.new for change in seen] == [b"%d" % number for number in range(1, 201)]
        following.cancel()


async def test_an_answer_that_is_lost_is_asked_for_and_not_written_again(
    open_adapter: OpenAdapter, proxy: Proxy
) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "n", b"1")
        answers = proxy.answers
        proxy.swallow()
        overwriting = adapter.set("s", "n", b"7")
        waiting = adapter.update("s", "n", bump)
        await until(lambda: proxy.answers > answers)
        proxy.resume()
        proxy.cut()
        done = await overwriting
        assert (done.old, done.new) == (b"1", b"7")
        assert (await waiting).new == b"8"


async def test_a_server_that_falls_silent_is_answered_for_in_time_and_recovers(
    open_adapter: OpenAdapter, server: ServerProcess
) -> None:
    async with open_adapter(timeout=0.5) as adapter, open_adapter() as other:
        await other.set("s", "k", b"1")
        await until(lambda: works(adapter))
        server.pause()
        calls = [adapter.set("s", "k", b"2"), adapter.update("s", "other", bump), adapter.get("s", "free")]
        async with asyncio.timeout(40):
            outcomes = await asyncio.gather(*calls, adapter.list("s"), return_exceptions=True)
        write, _, read, listed = outcomes
        assert isinstance(write, AdapterTimeout)
        assert FATE in write.message
        assert isinstance(read, AdapterTimeout)
        assert isinstance(listed, (AdapterTimeout, AdapterUnavailable))
        server.resume()
        await until(lambda: works(adapter))
        await until(lambda: adapter._reader.up)
        assert await other.get("s", "k") in (b"1", b"2")


async def test_a_server_that_is_absent_at_start_is_waited_for(
    open_adapter: OpenAdapter, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.refuse()
    async with open_adapter() as adapter:
        assert "cannot be used now: Connection refused. Calls are refused until it can" in caplog.text
        calls = (adapter.get("s", "k"), adapter.set("s", "k", b"1"), adapter.update("s", "k", bump))
        for call in calls:
            with pytest.raises(AdapterUnavailable, match="Connection refused"):
                await call
        changes = adapter.changes()
        first = asyncio.ensure_future(anext(changes))
        proxy.resume()
        await until(lambda: works(adapter))
        async with asyncio.timeout(10):
            assert (await first).scope == "probe"


async def test_what_is_written_right_after_changes_is_seen(open_adapter: OpenAdapter, proxy: Proxy) -> None:
    async with open_adapter() as adapter, open_adapter() as other:
        await adapter.set("s", "k", b"0")
        proxy.delay(0.05)
        changes = adapter.changes()
        made = [await adapter.set("s", "k", b"1"), await other.set("s", "k", b"2")]
        async with asyncio.timeout(10):
            assert [await anext(changes), await anext(changes)] == made


async def test_a_slow_reader_of_changes_holds_no_more_than_its_share(
    open_adapter: OpenAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "MOST_READY_BYTES", 100_000)
    async with open_adapter() as adapter:
        changes = adapter.changes()
        value = b'"' + b"x" * 1_000 + b'"'
        first = asyncio.ensure_future(anext(changes))
        for number in range(30):
            calls = [adapter.set("s", f"{number}-{key}", value) for key in range(100)]
            await asyncio.gather(*calls)
        await first
        position = changes.followers[0].position
        # One batch of 500 changes may be more than the share; what comes after it stays at the server.
        assert position is not None
        assert position <= 1_000
        seen = [await anext(changes) for _ in range(2_999)]
        assert [change.key for change in seen[-100:]] == [f"29-{key}" for key in range(100)]


async def test_a_call_that_waits_for_a_silent_server_does_not_hold_up_closing(
    open_adapter: OpenAdapter, server: ServerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(60), open_adapter(timeout=600.0) as adapter:
        await adapter.set("s", "k", b"1")
        server.pause()
        calls = [adapter.set("s", "k", b"2"), adapter.update("s", "k", bump), adapter.get("s", "free")]
        listing = asyncio.ensure_future(adapter.list("s"))
        await asyncio.sleep(0)
    assert "did not answer all calls before the adapter closed" in caplog.text
    server.resume()
    for call in calls:
        with pytest.raises(AdapterError):
            await call
    with pytest.raises((AdapterError, asyncio.CancelledError)):
        await listing


async def test_a_cancelled_list_costs_nobody_the_connection(open_adapter: OpenAdapter, proxy: Proxy) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "k", b"1")
        assert await adapter.list("s") == [("k", b"1")]
        accepted = proxy.accepted
        for _ in range(20):
            listing = asyncio.ensure_future(adapter.list("s"))
            await asyncio.sleep(0)
            listing.cancel()
        assert await adapter.list("s") == [("k", b"1")]
        assert proxy.accepted == accepted


@pytest.mark.parametrize(
    ("swap", "made"),
    [
        (Swap("s", "k", None, [b"1"]), 0),
        (Swap("s", "k", b"0", [b"1"]), None),
        (Swap("s", "k", b"0", [None, b"1"]), 1),
        (Swap("s", "k", None, [b"1", None, b"2", b"3"]), 2),
        (Swap("s", "k", b"0", [b"1", None]), None),
        (Swap("s", "k", None, [b"1"], overwrite=True), None),
    ],
)
def test_a_swap_knows_which_value_gives_the_key_its_place(swap: Swap, made: int | None) -> None:
    assert swap.key_made == made
