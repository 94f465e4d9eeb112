"""A user without some right of Redis gets a clear error; no event without its write, nor the other way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from iii_state_redis import RedisAdapter
from support.redis import RedisServer

from iii_skill.adapter import Deferred
from iii_skill.errors import AdapterError
from iii_skill.values import Change

from .conftest import OpenAdapter

CONFIGURATION = Path(__file__).parents[3] / "references" / "iii-config.yaml"

READS = ("hget", "zrevrange", "zscore", "exists")
WRITES = ("hset", "hdel", "sadd", "srem", "zadd", "zrem", "del", "xadd")
MISSING = [
    *READS,
    *WRITES,
    "evalsha",
    "-@hash",
    "-@set",
    "-@sortedset",
    "-@write",
    "xadd -del",
    "xadd -zadd -zrem",
    "xadd -srem -sadd",
]

Operation = Callable[[RedisAdapter], Deferred[Change]]

OPERATIONS: dict[str, tuple[Sequence[str], Operation]] = {
    "the first key": ((), lambda adapter: adapter.set("s", "a", b"2")),
    "a second key": (("b",), lambda adapter: adapter.set("s", "a", b"2")),
    "another value": (("a", "b"), lambda adapter: adapter.set("s", "a", b"2")),
    "a change": (("a", "b"), lambda adapter: adapter.update("s", "a", lambda _old: b"2")),
    "a change that inserts": (("b",), lambda adapter: adapter.update("s", "a", lambda _old: b"2")),
    "a change that deletes": (("a", "b"), lambda adapter: adapter.update("s", "a", lambda _old: None)),
    "one key of two deleted": (("a", "b"), lambda adapter: adapter.delete("s", "a")),
    "the last key deleted": (("a",), lambda adapter: adapter.delete("s", "a")),
}


def stored(server: RedisServer) -> Any:
    """All that readers see: values, their order, the scopes."""
    values = server.cli("HGETALL", "state:s")
    order = [key for key in server.cli("ZRANGE", "iii:order:s", 0, -1) if key in values]
    return values, order, server.cli("SMEMBERS", "iii:scopes") if values else set()


def limited(server: RedisServer, missing: str) -> dict[str, str]:
    """The settings for a user that may do everything but `missing`."""
    rules = missing if missing.startswith("-") else f"-{missing}"
    server.cli("ACL", "SETUSER", "limited", "reset", "on", ">pw", "~*", "&*", "+@all", *rules.split())
    return {"redis_url": f"redis://limited:pw@127.0.0.1:{server.port}"}


@pytest.mark.parametrize("missing", MISSING)
async def test_a_change_and_its_event_happen_both_or_not_at_all(
    missing: str, server: RedisServer, open_adapter: OpenAdapter, adapter: RedisAdapter
) -> None:
    refused = 0
    async with open_adapter(**limited(server, missing)) as limits:
        for name, (present, operation) in OPERATIONS.items():
            server.cli("DEL", "state:s", "iii:order:s", "iii:scopes", "iii:changes")
            for key in present:
                await adapter.set("s", key, b"1")
            before, told = stored(server), server.cli("XLEN", "iii:changes")
            (made,) = await asyncio.gather(operation(limits), return_exceptions=True)
            if isinstance(made, Change):
                assert server.cli("HGET", "state:s", "a") == made.new, name
                assert server.cli("XLEN", "iii:changes") == told + 1, name
                assert (b"s" in server.cli("SMEMBERS", "iii:scopes")) == bool(server.cli("HLEN", "state:s"))
            else:
                refused += 1
                assert isinstance(made, AdapterError), name
                assert "lacks the right" in made.message, name
                assert stored(server) == before, name
                assert server.cli("XLEN", "iii:changes") == told, name
    assert refused


@pytest.mark.parametrize(
    ("missing", "operation", "left"),
    [("xadd -hdel", "a second key", b"2"), ("xadd -hset", "one key of two deleted", None)],
)
async def test_who_may_neither_announce_nor_undo_is_told_what_happened(
    missing: str,
    operation: str,
    left: bytes | None,
    server: RedisServer,
    open_adapter: OpenAdapter,
    adapter: RedisAdapter,
) -> None:
    present, change = OPERATIONS[operation]
    for key in present:
        await adapter.set("s", key, b"1")
    async with open_adapter(**limited(server, missing)) as limits:
        with pytest.raises(AdapterError, match="the key was changed and no trigger hears of it"):
            await change(limits)
        assert await limits.get("s", "a") == left


async def test_what_a_later_change_lacks_does_not_undo_an_earlier_one(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter(**limited(server, "hdel")) as adapter:
        began = adapter.update("s", "other", lambda _old: b"0")
        await began
        first = adapter.update("s", "k", lambda _old: b"1")
        # These wait for the first and travel together.
        calls = [
            adapter.set("s", "k", b"2"),
            adapter.get("s", "k"),
            adapter.delete("s", "k"),
            adapter.get("s", "k"),
            adapter.set("s", "k", b"3"),
        ]
        assert (await first).new == b"1"
        second, read, *rest = await asyncio.gather(*calls, return_exceptions=True)
        assert (second.old, second.new, read) == (b"1", b"2", b"2")
        assert all("lacks the right" in str(error) for error in rest)
        assert await adapter.get("s", "k") == b"2"
        assert (await adapter.update("s", "k", lambda old: old + b"0")).new == b"20"
        news = [fields[b"n"] for _, fields in server.client.xrange("iii:changes")]
        assert news == [b"0", b"1", b"2", b"20"]


async def test_the_rights_that_the_annotated_configuration_names_are_enough(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    (named,) = re.findall(r"A user of its own needs: (.+)", CONFIGURATION.read_text())
    server.cli("ACL", "SETUSER", "named", "reset", "on", ">pw", *named.split())
    async with open_adapter(redis_url=f"redis://named:pw@127.0.0.1:{server.port}") as adapter:
        changes = adapter.changes()
        for present, operation in OPERATIONS.values():
            for key in present:
                await adapter.set("s", key, b"1")
            change = await operation(adapter)
            assert await adapter.get("s", "a") == change.new
            assert [key for key, _ in await adapter.list("s")] == await adapter.keys("s")
            assert await adapter.scopes() == (["s"] if await adapter.keys("s") else [])
            for key in ("a", "b"):
                await adapter.delete("s", key)
        assert (await anext(changes)).new == b"2"
        await changes.aclose()


async def test_a_missing_right_is_named(server: RedisServer, open_adapter: OpenAdapter) -> None:
    async with open_adapter(**limited(server, "hgetall")) as adapter:
        with pytest.raises(AdapterError, match=r"lacks the right to the command '?hgetall"):
            await adapter.list("s")
