"""Keys that end: the function, the events, the host's clock, and what a kill leaves."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from iii_state_memory import MemoryAdapter
from support import redis
from support.calls import Asking, OneCall
from support.client import RawClient, raw_client
from support.host import running_host
from support.redis import until

from iii_skill import Host, InvocationError, open_host
from iii_skill.clock import Clock
from iii_skill.state import sweeper
from iii_skill.state.sweeper import Sweeper

EXPIRE = "iii-skill::state::expire"
CHANGES = "iii-skill::state::changes"
KEY = {"scope": "s", "key": "k"}


@pytest.fixture(params=["memory", "file", "redis"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    settings: dict[str, Any] = {"data_dir": str(tmp_path / "data")} if request.param == "file" else {}
    if request.param == "redis":
        settings = dict(redis.settings())
    async with open_host(adapter=request.param, adapter_config=settings) as host:
        yield host


async def until_told(told: list[Any], count: int) -> None:
    await until(lambda: len(told) >= count)


def now_ms(host: Host) -> int:
    return int(host.clock.now() * 1000)


async def test_the_function_tells_and_sets_when_a_key_ends(host: Host) -> None:
    never = {"found": True, "expires_at_ms": None}
    absent = {"found": False, "expires_at_ms": None}
    assert await host.trigger(EXPIRE, {**KEY, "ttl_ms": 1000}) == absent
    await host.trigger("state::set", {**KEY, "value": 1})
    assert await host.trigger(EXPIRE, KEY) == never
    before = now_ms(host)
    told = await host.trigger(EXPIRE, {**KEY, "ttl_ms": 60_000})
    assert told["found"]
    assert before + 60_000 <= told["expires_at_ms"] <= now_ms(host) + 60_000
    assert await host.trigger(EXPIRE, KEY) == told
    at = before + 120_000
    assert await host.trigger(EXPIRE, {**KEY, "at_ms": at}) == {"found": True, "expires_at_ms": at}
    for nothing in ({"ttl_ms": None}, {"ttl_ms": 0}, {"at_ms": None}, {"at_ms": 0}):
        await host.trigger(EXPIRE, {**KEY, "at_ms": at})
        assert await host.trigger(EXPIRE, {**KEY, **nothing}) == never
    assert await host.trigger(EXPIRE, {**KEY, "at_ms": 1}) == {"found": True, "expires_at_ms": 1}
    assert await host.trigger("state::get", KEY) is None


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ({"ttl_ms": 1, "at_ms": 2}, "INVALID_EXPIRY", "not both"),
        ({"ttl_ms": 2**53}, "INVALID_EXPIRY", "at the latest"),
        ({"at_ms": 2**53}, "INVALID_EXPIRY", "at the latest"),
        ({"at_ms": 2**70}, "deserialization_error", "floating point"),
        ({"ttl_ms": -1}, "deserialization_error", "invalid value: integer `-1`"),
        ({"ttl_ms": 1.5}, "deserialization_error", "floating point `1.5`"),
        ({"ttl_ms": "60s"}, "deserialization_error", 'string "60s"'),
        ({"key": None}, "deserialization_error", "expected a string"),
        ({"scope": "state_barrier"}, "RESERVED_SCOPE", "bookkeeping"),
    ],
)
async def test_what_is_wrong_with_a_call_is_said(
    host: Host, given: dict[str, Any], code: str, says: str
) -> None:
    await host.trigger("state::set", {**KEY, "value": 1})
    with pytest.raises(InvocationError, match=says) as caught:
        await host.trigger(EXPIRE, {**KEY, **given})
    assert caught.value.code == code
    assert (await host.trigger(EXPIRE, KEY))["expires_at_ms"] is None


async def test_an_end_is_one_event_and_one_change(host: Host) -> None:
    told: list[Any] = []
    host.register_function("told", told.append)
    host.register_trigger("state", "told", {"scope": "s"})
    after = (await host.trigger(CHANGES))["next"]
    for number in range(5):
        await host.trigger("state::set", {"scope": "s", "key": f"k{number}", "value": number})
        await host.trigger(EXPIRE, {"scope": "s", "key": f"k{number}", "ttl_ms": (5 - number) * 60_000})
    # The first of them ends after 60 s: the rest of that is for a machine that is busy.
    host.clock.advance(6)
    await host.trigger("state::set", {"scope": "s", "key": "fence", "value": 1})
    await until_told(told, 6)
    assert {event["event_type"] for event in told} == {"state:created"}
    host.clock.advance(294)
    await until_told(told, 11)
    # Events of different keys have no order; the changes have, that of the ends.
    ended = [(event["event_type"], event["key"], event["old_value"]) for event in told[6:]]
    assert sorted(ended) == [("state:deleted", f"k{number}", number) for number in range(5)]
    changes = (await host.trigger(CHANGES, {"after": after}))["changes"]
    assert [row["key"] for row in changes if row["event_type"] == "state:deleted"] == [
        "k4",
        "k3",
        "k2",
        "k1",
        "k0",
    ]
    assert await host.trigger("state::list_keys", {"scope": "s"}) == {"keys": ["fence"]}


async def test_a_write_that_meets_an_end_is_told_after_it(host: Host) -> None:
    told: list[Any] = []
    host.register_function("told", told.append)
    host.register_trigger("state", "told", {"scope": "s"})
    for how in ("update", "compare-and-set", "set"):
        await host.trigger("state::set", {**KEY, "value": {"n": 5}})
        await until_told(told, 1)
        del told[:]
        await host.trigger(EXPIRE, {**KEY, "at_ms": 1})
        ops = [{"type": "increment", "path": "n", "by": 1}]
        answer = await host.trigger(f"state::{how}", {**KEY, "value": {"n": 1}, "ops": ops})
        assert answer.get("swapped", True)
        assert await host.trigger("state::get", KEY) == {"n": 1}
        await until_told(told, 2)
        assert [(event["event_type"], event["old_value"], event["new_value"]) for event in told] == [
            ("state:deleted", {"n": 5}, None),
            ("state:created", None, {"n": 1}),
        ]
        await host.trigger("state::delete", KEY)
        await until_told(told, 3)
        del told[:]


async def test_a_lock_that_ended_is_free(host: Host) -> None:
    """Compare-and-set against a key that is over: as against one that is not there."""

    async def take(owner: str) -> bool:
        answer = await host.trigger("state::compare-and-set", {**KEY, "value": owner})
        if answer["swapped"]:
            await host.trigger(EXPIRE, {**KEY, "ttl_ms": 600_000})
        return bool(answer["swapped"])

    assert await take("a")
    host.clock.advance(300)
    assert not await take("b")
    host.clock.advance(301)
    assert await take("b")
    # What keeps the lock keeps its end.
    renewed = {**KEY, "expected": "b", "value": "b again"}
    assert (await host.trigger("state::compare-and-set", renewed))["swapped"]
    assert (await host.trigger(EXPIRE, KEY))["expires_at_ms"] is not None
    host.clock.advance(601)
    expected = {**KEY, "expected": "b again", "value": "late"}
    assert await host.trigger("state::compare-and-set", expected) == {"swapped": False, "current": None}


class NoEnds(MemoryAdapter):
    """Another store."""

    name: ClassVar[str] = "plain"
    expires: ClassVar[bool] = False


async def test_an_adapter_without_ends_says_so() -> None:
    call = OneCall(json.dumps({**KEY, "ttl_ms": 1}).encode(), None, [])
    Asking(NoEnds()).worker.functions[EXPIRE](call)
    with pytest.raises(InvocationError, match="'plain' keeps no ends of keys") as caught:
        await call.answer
    assert caught.value.code == "EXPIRE_ERROR"


class Sweeping(MemoryAdapter):
    """Counts its sweeps and fails as often as it is told."""

    sweeps = 0
    failures = 0

    def sweep(self) -> int | None:
        self.sweeps += 1
        if self.failures:
            self.failures -= 1
            raise OSError("no disk")
        return super().sweep()


async def test_while_nothing_ends_nothing_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(sweeper, "START_SECONDS", 0.0)
    adapter = Sweeping()
    adapter.clock = Clock()
    adapter.failures = 2
    sweeping = Sweeper(adapter, adapter.clock)
    task = asyncio.ensure_future(sweeping.run())
    try:
        await until(lambda: adapter.sweeps == 3)  # Two that failed, and the first that did not.
        await asyncio.sleep(0.2)
        assert adapter.sweeps == 3
        adapter.set("s", "k", b"1")
        for at in (9_000_000_000_000, 8_000_000_000_000, 8_500_000_000_000):
            adapter.expire("s", "k", at)
            sweeping.given(at)
        await until(lambda: adapter.clock.pending == 1)
        assert adapter.sweeps == 3
        adapter.clock.advance(8_500_000_000 - adapter.clock.now() + 0.01)
        await until(lambda: not adapter.keys("s"))
        await until(lambda: not adapter._scopes)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert adapter.clock.pending == 0


async def test_a_kill_loses_no_end(tmp_path: Path) -> None:
    """300 keys end within 1.5 s and the host is killed in the middle: each end is told once, before or after;
    untold are at most those that the killed host had just made."""
    told: list[str] = []
    config = tmp_path / "iii-config.yaml"
    config.write_text("workers:\n  - name: iii-state\n    config:\n      adapter: {name: file}\n")
    names = [f"k{number}" for number in range(300)]

    async def follow(client: RawClient) -> None:
        after = (await client.result(CHANGES, {"after": "oldest"}))["next"]
        while True:
            answer = await client.result(CHANGES, {"after": after, "wait_ms": 2000})
            after = answer["next"]
            told.extend(row["key"] for row in answer["changes"] if row["event_type"] == "state:deleted")

    with running_host(tmp_path, "--config", str(config)) as host:
        async with raw_client(host.ws) as client:
            following = asyncio.ensure_future(follow(client))
            for name in names:
                await client.result("state::set", {"scope": "s", "key": name, "value": 1})
            start = int(time.time() * 1000) + 500
            given = [
                client.result(EXPIRE, {"scope": "s", "key": name, "at_ms": start + 5 * number})
                for number, name in enumerate(names)
            ]
            await asyncio.gather(*given)
            await until_told(told, 100)
            host.sigkill()
            await asyncio.wait([following])
            assert following.exception() is not None
        before = list(told)
        host.start()
        async with raw_client(host.ws) as client:
            following = asyncio.ensure_future(follow(client))
            shown = await client.result("state::list_keys", {"scope": "s"})
            assert not set(before) & set(shown["keys"])
            await until(lambda: names[-1] in told)
            assert await client.result("state::list_keys", {"scope": "s"}) == {"keys": []}
            following.cancel()
            await asyncio.wait([following])
    assert len(told) == len(set(told)), "an end was told twice"
    assert told == sorted(told, key=names.index), "ends were told in another order than that of their moments"
    untold = [name for name in names if name not in told]
    last = names.index(before[-1])
    first = names.index(told[len(before)]) if len(told) > len(before) else len(names)
    assert untold == names[last + 1 : first], "an end was lost that no kill could have taken"


async def test_a_sweep_that_fails_is_warned_of_and_made_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweeper, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(sweeper, "START_SECONDS", 0.0)
    adapter = Sweeping()
    adapter.failures = 1
    task = asyncio.ensure_future(Sweeper(adapter, adapter.clock).run())
    with caplog.at_level(logging.WARNING):
        await until(lambda: adapter.sweeps == 2)
    task.cancel()
    await asyncio.wait([task])
    assert "keys that are over could not be deleted, trying again: no disk" in caplog.text
