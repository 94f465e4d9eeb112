"""What lies in Redis: a real engine reads what we write, and we read what it writes."""

from __future__ import annotations

import pytest
from iii_state_redis import RedisAdapter
from support.redis import RedisServer, until

from iii_skill.errors import StoreRefused

from .conftest import OpenAdapter


async def test_a_value_is_a_plain_field_of_the_hash_of_its_scope(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    await adapter.set("users", "ada", b'{"n":9007199254740993,"a":[]}')
    await adapter.update("users", "bob", lambda _old: b"1.0")
    assert server.cli("HGETALL", "state:users") == {b"ada": b'{"n":9007199254740993,"a":[]}', b"bob": b"1.0"}


async def test_only_hashes_of_scopes_begin_as_the_engine_expects(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    await adapter.set("users", "ada", b"1")
    assert server.cli("KEYS", "state:*") == [b"state:users"]


async def test_values_that_the_engine_wrote_are_read_as_they_are(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    server.cli("HSET", "state:s", "k", '{"a": [1, 2.50]}')
    assert await adapter.get("s", "k") == b'{"a": [1, 2.50]}'
    assert await adapter.list("s") == [("k", b'{"a": [1, 2.50]}')]
    assert await adapter.scopes() == ["s"]


async def test_a_change_sees_what_the_engine_wrote_a_moment_ago(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    await adapter.update("s", "k", lambda _old: b"1")
    server.cli("HSET", "state:s", "k", "41")
    change = await adapter.update("s", "k", lambda old: str(int(old or 0) + 1).encode())
    assert (change.old, change.new) == (b"41", b"42")
    assert await adapter.get("s", "k") == b"42"


async def test_keys_that_the_engine_made_follow_ours_in_a_stable_order(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    for key in ("z", "m", "a"):
        await adapter.set("s", key, b"1")
    server.cli("HSET", "state:s", "q", "2", "b", "2", "y", "2")
    assert [key for key, _ in await adapter.list("s")] == ["z", "m", "a", "b", "q", "y"]
    await adapter.set("s", "q", b"3")
    assert await adapter.keys("s") == ["z", "m", "a", "b", "q", "y"]


async def test_keys_that_the_engine_deleted_are_gone(server: RedisServer, adapter: RedisAdapter) -> None:
    await adapter.set("s", "k", b"1")
    await adapter.set("other", "k", b"1")
    server.cli("HDEL", "state:s", "k")
    assert await adapter.get("s", "k") is None
    assert await adapter.list("s") == []
    assert await adapter.scopes() == ["other"]


async def test_scopes_that_the_engine_made_later_are_found(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter(scan_seconds=0.0) as adapter:
        assert await adapter.scopes() == []
        server.cli("HSET", "state:late [*?", "k", "1")
        server.cli("HSET", "other:late", "k", "1")
        server.cli("SET", "state:string", "k")
        assert await adapter.scopes() == ["late [*?"]


async def test_a_key_prefix_keeps_two_users_of_one_database_apart(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter(key_prefix="a[*]:") as one, open_adapter(key_prefix="b:") as two:
        await one.set("s", "k", b"1")
        assert await two.get("s", "k") is None
        assert await two.scopes() == []
        assert await one.scopes() == ["s"]
        assert {bytes(key)[:5] for key in server.cli("KEYS", "*")} == {b"a[*]:"}


async def test_the_database_of_the_url_is_used(server: RedisServer, open_adapter: OpenAdapter) -> None:
    async with open_adapter(redis_url=f"{server.url}/3") as adapter:
        await adapter.set("s", "k", b"1")
    assert server.cli("DBSIZE") == 0
    assert b"db3" in b"".join(str(server.cli("INFO", "keyspace")).encode().split())


async def test_a_database_that_is_not_there_is_refused(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    with pytest.raises(StoreRefused, match="out of range"):
        async with open_adapter(redis_url=f"{server.url}/99"):
            pass


async def test_the_stream_stays_short(server: RedisServer, open_adapter: OpenAdapter) -> None:
    async with open_adapter(stream_length=200) as adapter:
        for number in range(2000):
            adapter.set("s", "k", b"%d" % number)
        await adapter.get("s", "k")
    assert 200 <= server.cli("XLEN", "iii:changes") <= 400


LARGE = b'"%s"' % (b"x" * 100_000)


async def writes_of_large_values(adapter: RedisAdapter, number: int) -> None:
    """One way or another, a large value goes into the stream."""
    await adapter.set("s", "k", LARGE)
    if number % 2:
        await adapter.update("s", "k", lambda _old: b"%d" % number)
    else:
        await adapter.delete("s", "k")


async def test_large_values_make_the_stream_shorter(server: RedisServer, open_adapter: OpenAdapter) -> None:
    async with open_adapter(stream_bytes=1_000_000) as adapter:
        for number in range(40):
            await writes_of_large_values(adapter, number)
        assert 4 <= server.cli("XLEN", "iii:changes") <= 16
        assert server.cli("MEMORY", "USAGE", "iii:changes", "SAMPLES", 0) < 1_500_000


async def test_large_values_make_the_stream_shorter_where_its_size_may_not_be_asked_for(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    server.cli("ACL", "SETUSER", "small", "on", ">pw", "~*", "&*", "+@all", "-memory")
    url = f"redis://small:pw@127.0.0.1:{server.port}"
    async with open_adapter(redis_url=url, stream_bytes=1_000_000) as adapter:
        for number in range(40):
            await writes_of_large_values(adapter, number)
        assert server.cli("XLEN", "iii:changes") <= 16


async def test_changes_below_a_deleted_stream_still_rise(server: RedisServer, adapter: RedisAdapter) -> None:
    before = await adapter.set("s", "k", b"1")
    server.cli("DEL", "iii:changes")
    written = before.revision >> 22
    await until(lambda: milliseconds(server) > written)
    after = await adapter.set("s", "k", b"2")
    assert after.revision > before.revision


async def test_names_of_any_characters_have_a_place(adapter: RedisAdapter) -> None:
    names = ["", "\0", "a:b", "{x}", "ä", "\ud800", "x" * 10_000, "👍", "\r\n"]
    for name in names:
        await adapter.set(name, name, b"1")
        assert await adapter.keys(name) == [name]
    assert sorted(await adapter.scopes()) == sorted(names)


def milliseconds(server: RedisServer) -> int:
    """The clock of the server."""
    seconds, microseconds = map(int, server.cli("TIME"))
    return seconds * 1000 + microseconds // 1000
