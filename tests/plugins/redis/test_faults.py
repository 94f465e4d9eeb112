"""The server breaks in every way we know: each call is answered in time, and all recovers by itself."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable
from typing import Any

import pytest
from iii_state_redis import RedisAdapter
from iii_state_redis.pipeline import Pipeline
from support.redis import RedisServer, free_port, until

from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable, StoreRefused
from iii_skill.values import KEEP, Keep

from .conftest import OpenAdapter

FATE = "the fate of the write is unknown"


async def works(adapter: RedisAdapter) -> bool:
    """True when a write is answered."""
    try:
        await adapter.set("probe", "k", b"1")
    except AdapterError:
        return False
    return True


async def outcome(call: Awaitable[object]) -> AdapterError:
    """The error of a call, which does not wait for the time-out of an adapter that was given none."""
    with pytest.raises(AdapterError) as caught:
        async with asyncio.timeout(40):
            await call
    return caught.value


def bump(old: bytes | None) -> bytes:
    """Add one."""
    return b"%d" % (int(old or 0) + 1)


async def test_a_server_that_is_absent_at_start_is_waited_for(
    server: RedisServer, open_adapter: OpenAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    server.kill()
    async with open_adapter() as adapter:
        place = f"Redis at 127.0.0.1:{server.port}"
        assert f"{place} cannot be used yet: Connection refused. Calls are refused" in caplog.text
        calls = (
            adapter.get("s", "k"),
            adapter.set("s", "k", b"1"),
            adapter.update("s", "k", bump),
            adapter.list("s"),
        )
        for call in calls:
            assert isinstance(await outcome(call), AdapterUnavailable)
        server.start()
        await until(lambda: works(adapter))


async def test_no_descriptor_is_left_when_connections_break_and_when_they_are_closed(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "k", b"1")  # What is opened once for the whole process is open now.

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(3):
        async with open_adapter() as adapter:
            await adapter.set("s", "k", b"1")
            server.kill()
            await until(lambda: not adapter._store.connection.up)
            server.start()
            await until(lambda: works(adapter))
    await until(lambda: descriptors() <= before)


async def test_changes_made_as_soon_as_an_absent_server_is_there_are_all_seen(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    server.kill()
    async with open_adapter() as adapter:
        changes = adapter.changes()
        first = asyncio.ensure_future(anext(changes))
        server.start()
        await until(lambda: works(adapter))
        made = await adapter.set("s", "k", b"2")
        async with asyncio.timeout(30):
            change = await first
            assert change.scope == "probe"
            # One that was refused may have been made all the same.
            while change.scope == "probe":
                change = await anext(changes)
            assert change == made


async def test_who_asks_again_when_the_time_is_up_gets_an_answer_too(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter(timeout=0.3) as adapter:
        asked = 0
        ended = asyncio.get_running_loop().create_future()

        def ask() -> None:
            nonlocal asked
            asked += 1
            adapter.get("s", "k").listen(None, done, failed)

        def done(_subject: None, value: bytes | None) -> None:
            if not ended.done():
                ended.set_result(value)

        def failed(_subject: None, error: BaseException) -> None:
            if asked < 9:
                ask()
            else:
                asyncio.get_running_loop().call_later(0.05, ask)

        server.signal(signal.SIGSTOP)
        ask()
        ask()
        await until(lambda: asked > 6)
        server.signal(signal.SIGCONT)
        async with asyncio.timeout(30):
            assert await ended is None


async def test_a_wrong_password_is_refused(server: RedisServer, open_adapter: OpenAdapter) -> None:
    server.cli("ACL", "SETUSER", "app", "on", ">right", "~*", "&*", "+@all")
    url = f"redis://app:%s@127.0.0.1:{server.port}"
    with pytest.raises(StoreRefused, match="refuses the user or password") as caught:
        async with open_adapter(redis_url=url % "wrong"):
            pass
    assert "wrong" not in str(caught.value).replace("WRONGPASS", "")
    async with open_adapter(redis_url=url % "right") as adapter:
        assert await works(adapter)


async def test_a_password_that_is_missing_is_asked_for(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    server.cli("CONFIG", "SET", "requirepass", "secret")
    try:
        with pytest.raises(StoreRefused, match="password"):
            async with open_adapter():
                pass
    finally:
        server.cli("AUTH", "secret")
        server.cli("CONFIG", "SET", "requirepass", "")


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost:1/?db=x", "redis://h/?nonsense=1"])
async def test_an_url_that_cannot_be_used_is_refused(url: str, open_adapter: OpenAdapter) -> None:
    with pytest.raises(StoreRefused, match="redis_url"):
        async with open_adapter(redis_url=url):
            pass


@pytest.mark.parametrize(
    "path", ["O", "1a", "-1", "1/2", "%20", "x?db=1", "?db=", "1?db=2", "?db=1&db=2", "\u0663", "//1", "99"]
)
async def test_a_database_that_is_no_number_is_not_taken_for_another_one(
    path: str, server: RedisServer, open_adapter: OpenAdapter
) -> None:
    with pytest.raises(StoreRefused, match=r"database|DB index"):
        async with open_adapter(redis_url=f"{server.url}/{path}"):
            pass


@pytest.mark.parametrize(("path", "number"), [("", 0), ("/", 0), ("/3", 3), ("/?db=4", 4), ("/5?db=5", 5)])
async def test_a_database_that_is_named_is_used(
    path: str, number: int, server: RedisServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter(redis_url=server.url + path) as adapter:
        await adapter.set("s", "k", b"1")
    assert f"db{number}" in server.client.info("keyspace")


async def test_what_is_no_redis_is_refused(open_adapter: OpenAdapter) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(StoreRefused, match="no Redis"):
            async with open_adapter(redis_url=f"redis://127.0.0.1:{port}"):
                pass


async def test_a_server_that_never_answers_does_not_hold_up_the_start(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    server.signal(signal.SIGSTOP)
    async with open_adapter(connect_timeout=0.3) as adapter:
        assert isinstance(await outcome(adapter.get("s", "k")), AdapterUnavailable)
        server.signal(signal.SIGCONT)
        await until(lambda: works(adapter))


async def test_a_kill_leaves_the_fate_of_writes_open_and_reads_repeatable(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    await adapter.set("s", "warm", b"1")
    server.signal(signal.SIGSTOP)
    writes = [adapter.set("s", "a", b"1"), adapter.delete("s", "b"), adapter.update("s", "warm", bump)]
    reads = [adapter.get("s", "c"), asyncio.ensure_future(adapter.list("s"))]
    await asyncio.sleep(0)
    server.kill()
    for write in writes:
        error = await outcome(write)
        assert isinstance(error, AdapterTimeout)
        assert FATE in error.message
    for read in reads:
        assert isinstance(await outcome(read), AdapterUnavailable)
    server.start()
    await until(lambda: works(adapter))
    assert await adapter.update("s", "a", bump)


async def test_calls_made_while_a_killed_connection_is_replaced_just_work(
    server: RedisServer, adapter: RedisAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iii_state_redis.connection.STEADY", 0.0)
    await adapter.set("s", "k", b"1")
    connection, replaced = adapter._store.connection, asyncio.Event()
    connected = connection.on_connected

    def on_connected() -> None:
        if connected is not None:
            connected()
        replaced.set()

    connection.on_connected = on_connected
    server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert await outcome(adapter.get("s", "k"))
    async with asyncio.timeout(30):
        await replaced.wait()
    # Calls are taken already, and the new connection does not stand yet.
    assert not connection.up
    assert await adapter.get("s", "k") == b"1"


async def test_a_paused_server_times_out_and_says_that_the_fate_of_writes_is_unknown(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter(timeout=0.4) as adapter:
        await until(lambda: works(adapter))
        server.signal(signal.SIGSTOP)
        calls = [adapter.set("s", "k", b"2"), adapter.update("s", "k", bump), adapter.delete("s", "other")]
        read = adapter.get("s", "free")
        for call in calls:
            error = await outcome(call)
            assert isinstance(error, AdapterTimeout)
            assert FATE in error.message
        assert isinstance(await outcome(read), AdapterTimeout)
        server.signal(signal.SIGCONT)
        await until(lambda: works(adapter))
        await until(lambda: counts(adapter))


async def counts(adapter: RedisAdapter) -> bool:
    """True when an update is answered."""
    try:
        return (await adapter.update("s", "n", bump)).new is not None
    except AdapterError:
        return False


async def test_one_slow_command_does_not_answer_later_calls_wrongly(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter(timeout=0.5) as adapter, open_adapter() as patient:
        await patient.set("s", "a", b"1")
        await patient.set("s", "b", b"2")
        await until(lambda: works(adapter))
        server.signal(signal.SIGSTOP)
        late = asyncio.ensure_future(adapter.get("s", "a"))
        await asyncio.wait([late], timeout=0.4)
        soon = adapter.get("s", "b")
        assert isinstance(await outcome(late), AdapterTimeout)
        server.signal(signal.SIGCONT)
        try:
            assert await soon == b"2"
        except (AdapterUnavailable, AdapterTimeout):
            await until(lambda: works(adapter))
        found: list[bytes | None] = []

        async def read() -> bool:
            try:
                found.append(await adapter.get("s", "b"))
            except AdapterError:
                return False
            return True

        await until(read)
        assert found == [b"2"]


async def test_a_failover_to_a_replica_refuses_writes_and_stale_reads(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    await adapter.set("s", "k", b"1")
    server.cli("REPLICAOF", "127.0.0.1", str(free_port()))
    assert isinstance(await outcome(adapter.set("s", "k", b"2")), AdapterUnavailable)
    await until(lambda: refused(adapter))
    server.cli("REPLICAOF", "NO", "ONE")
    await until(lambda: works(adapter))
    assert await adapter.get("s", "k") == b"1"


async def refused(adapter: RedisAdapter) -> bool:
    """True when a read is refused because the server is a replica."""
    try:
        await adapter.get("s", "k")
    except AdapterUnavailable as error:
        return "replica" in error.message
    return False


async def test_a_server_that_loads_its_data_is_waited_for(server: RedisServer, adapter: RedisAdapter) -> None:
    await adapter.set("s", "k", b"1")
    server.cli("DEBUG", "POPULATE", 3000)
    server.cli("SAVE")
    server.kill()
    # It loads for longer than anybody waits, until it is told to be quick.
    server.settings = (
        *server.settings,
        "--key-load-delay",
        "5000",
        "--loading-process-events-interval-bytes",
        "1024",
    )
    server.start()
    server.settings = server.settings[:-4]
    errors: set[str] = set()

    async def answered() -> bool:
        try:
            return await adapter.get("s", "k") == b"1"
        except AdapterUnavailable as error:
            errors.add(error.message)
            return False

    async def refused_for_it() -> bool:
        assert not await answered()
        return any("loading" in error for error in errors)

    await until(refused_for_it)
    server.cli("CONFIG", "SET", "key-load-delay", "0")
    await until(answered)
    (server.directory / "dump.rdb").unlink()


async def test_a_key_of_another_type_breaks_its_scope_only(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    server.cli("SET", "state:odd", "text")
    calls = (
        adapter.get("odd", "k"),
        adapter.set("odd", "k", b"1"),
        adapter.update("odd", "k", bump),
        adapter.delete("odd", "k"),
        adapter.list("odd"),
        adapter.keys("odd"),
    )
    for call in calls:
        assert "another type" in (await outcome(call)).message
    await adapter.set("fine", "k", b"1")
    assert await adapter.scopes() == ["fine"]
    assert server.cli("GET", "state:odd") == b"text"


@pytest.mark.parametrize("name", ["iii:changes", "iii:order:s", "iii:scopes"])
async def test_a_key_beside_the_hash_of_another_type_changes_nothing(
    name: str, server: RedisServer, adapter: RedisAdapter
) -> None:
    server.cli("SET", name, "text")
    assert "another type" in (await outcome(adapter.set("s", "k", b"1"))).message
    assert "another type" in (await outcome(adapter.update("s", "k", bump))).message
    assert await adapter.get("s", "k") is None
    server.cli("HSET", "state:s", "k", "1")
    assert "another type" in (await outcome(adapter.delete("s", "k"))).message
    assert await adapter.get("s", "k") == b"1"


@pytest.mark.parametrize("garbage", [b"not json", b"", b"\xff", b'{"a":', b"NaN", b'"\\ud800"', b"1e999"])
async def test_garbage_in_a_field_breaks_that_key_only_until_it_is_written(
    garbage: bytes, server: RedisServer, adapter: RedisAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    await adapter.set("s", "fine", b"1")
    server.cli("HSET", "state:s", "bad", garbage)
    with caplog.at_level(logging.WARNING):
        assert await adapter.list("s") == [("fine", b"1")]
    assert "'bad'" in caplog.text
    for call in (adapter.get("s", "bad"), adapter.update("s", "bad", bump)):
        error = await outcome(call)
        assert "'bad'" in error.message
        assert "no JSON" in error.message
    change = await adapter.set("s", "bad", b"2")
    assert (change.old, change.new) == (b"null", b"2")
    assert await adapter.get("s", "bad") == b"2"
    server.cli("HSET", "state:s", "bad", garbage)
    assert (await adapter.delete("s", "bad")).old == b"null"
    assert await adapter.keys("s") == ["fine"]


async def test_garbage_meets_calls_that_wait_for_the_key(server: RedisServer, adapter: RedisAdapter) -> None:
    server.cli("HSET", "state:s", "k", "garbage")
    calls = [
        adapter.update("s", "k", bump),
        adapter.get("s", "k"),
        adapter.set("s", "k", b"5"),
        adapter.update("s", "k", bump),
        adapter.get("s", "k"),
        adapter.delete("s", "k"),
    ]
    update, get, written, counted, read, deleted = await asyncio.gather(*calls, return_exceptions=True)
    assert "no JSON" in str(update)
    assert "no JSON" in str(get)
    assert (written.old, written.new) == (b"null", b"5")
    assert (counted.old, counted.new) == (b"5", b"6")
    assert read == b"6"
    assert (deleted.old, deleted.new) == (b"6", None)


async def test_a_server_without_memory_refuses_writes_and_still_reads_and_deletes(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    await adapter.set("s", "k", b"1")
    server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.cli("CONFIG", "SET", "maxmemory", "1")
    for call in (adapter.set("s", "k", b"2"), adapter.set("s", "new", b"2"), adapter.update("s", "k", bump)):
        assert "out of memory" in (await outcome(call)).message
    assert await adapter.list("s") == [("k", b"1")]
    assert (await adapter.delete("s", "k")).old == b"1"
    server.cli("CONFIG", "SET", "maxmemory", "0")
    assert await works(adapter)


async def filled(adapter: RedisAdapter, value: bytes) -> list[str]:
    """Write the value under one key after the other until the server has no memory; the keys written."""
    written: list[str] = []
    while len(written) < 5_000:
        key = f"k{len(written)}"
        (error,) = await asyncio.gather(adapter.set("s", key, value), return_exceptions=True)
        if isinstance(error, AdapterError):
            assert "out of memory" in error.message
            break
        written.append(key)
    return written


async def test_after_the_advice_is_followed_a_server_without_memory_takes_writes_again(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.cli("CONFIG", "SET", "maxmemory", server.client.info("memory")["used_memory"] + 16_000_000)
    large = b'"' + b"x" * 100_000 + b'"'
    for _ in range(3):
        written = await filled(adapter, large)
        # The values themselves, not the changes that brought them, take most of the memory.
        assert 100 < len(written) < 400
        for key in written:
            assert (await adapter.delete("s", key)).old == large
        assert await adapter.keys("s") == []
    server.cli("CONFIG", "SET", "maxmemory", "0")


async def test_replacing_large_values_by_small_ones_frees_memory_too(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.cli("CONFIG", "SET", "maxmemory", server.client.info("memory")["used_memory"] + 8_000_000)
    written = await filled(adapter, b'"' + b"x" * 3_000 + b'"')
    # An overwrite is refused like any other write, so something has to be deleted first.
    half = len(written) // 2
    for key in written[:half]:
        await adapter.delete("s", key)
    for key in written[half:]:
        await adapter.update("s", key, lambda _old: b"1")
    assert (await adapter.set("s", "new", b"1")).new == b"1"
    server.cli("CONFIG", "SET", "maxmemory", "0")


async def test_a_server_that_throws_keys_away_is_warned_of_once(
    server: RedisServer, open_adapter: OpenAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        async with open_adapter() as adapter:
            server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await until(lambda: works(adapter))
    finally:
        server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    (said,) = [record.message for record in caplog.records if "throws acknowledged writes" in record.message]
    assert "`maxmemory-policy` is allkeys-lru; set it to noeviction" in said


async def test_health_tells_of_a_server_that_throws_keys_away_and_of_one_that_is_gone(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    try:
        (warning,) = (await adapter.health()).warnings
        assert "`maxmemory-policy` is allkeys-random" in warning
    finally:
        server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert not (await adapter.health()).warnings
    server.kill()
    await until(lambda: not adapter._store.connection.up)
    health = await adapter.health()
    assert not health.ok
    assert "cannot be used now" in health.message


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "volatile-ttl"])
async def test_a_server_that_keeps_what_has_no_expiry_is_not_warned_of(
    policy: str, server: RedisServer, open_adapter: OpenAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    server.cli("CONFIG", "SET", "maxmemory-policy", policy)
    async with open_adapter():
        server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert "away" not in caplog.text


async def test_scripts_that_were_flushed_are_loaded_again(server: RedisServer, adapter: RedisAdapter) -> None:
    await adapter.set("s", "k", b"1")
    server.cli("SCRIPT", "FLUSH")
    calls = [adapter.set("s", "a", b"1"), adapter.update("s", "k", bump), adapter.delete("s", "b")]
    assert [change.new for change in await asyncio.gather(*calls)] == [b"1", b"2", None]
    server.cli("SCRIPT", "FLUSH")
    assert (await adapter.update("s", "k", bump)).new == b"3"


@pytest.mark.parametrize("ends", [False, True], ids=["no ends", "ends"])
@pytest.mark.parametrize("layout", ["engine", "cluster"])
async def test_no_read_overtakes_a_write_whose_script_was_flushed(
    layout: str, ends: bool, server: RedisServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter(layout=layout, scan_seconds=0.0) as adapter:
        if ends:
            # Where a key has an end, reads are made by scripts too, and are sent again like writes.
            await adapter.set("s", "ends", b"1")
            await adapter.expire("s", "ends", 2**53 - 1)
        for number in range(1, 50):
            key, value, scope = f"k{number % 3}", b"%d" % number, f"s{number}"
            held = dict(await adapter.list("s"))
            server.cli("SCRIPT", "FLUSH")
            seen: list[bytes | None] = []

            def keep(old: bytes | None, seen: list[bytes | None] = seen) -> Keep:
                seen.append(old)
                return KEEP

            def refuse(old: bytes | None) -> bytes:
                raise ValueError(old)

            calls: list[Awaitable[Any]] = [
                adapter.set("s", key, value),
                adapter.get("s", key),
                adapter.list("s"),
                adapter.keys("s"),
                adapter.set(scope, "k", b"1"),
                adapter.scopes(),
                adapter.set("s", "gone", b"1"),
                adapter.delete("s", "gone"),
                adapter.update("s", "gone", keep),
                adapter.update("s", "gone", refuse),
                adapter.get("s", "gone"),
                adapter.delete("s", key),
                adapter.set("s", key, value + b"0"),
                adapter.get("s", key),
            ]
            results = await asyncio.gather(*calls, return_exceptions=True)
            first, read, pairs, keys, _, scopes, _, gone, kept, refusal, absent, *_, again = results
            assert (first.old, first.new, read) == (held.get(key), value, value)
            assert dict(pairs)[key] == value + b"0"
            assert key in keys
            assert scope in scopes
            assert (gone.old, gone.new) == (b"1", None)
            assert (kept.old, seen[-1], refusal.args, absent) == (None, None, (None,), None)
            assert again == value + b"0"


async def test_pairs_of_set_and_get_stay_in_order_while_scripts_are_flushed_all_the_time(
    server: RedisServer, adapter: RedisAdapter
) -> None:
    running, flushed = True, 0

    async def flush() -> None:
        nonlocal flushed
        while running:
            await asyncio.to_thread(server.cli, "SCRIPT", "FLUSH")
            flushed += 1

    async def pairs(lane: int) -> None:
        number = 0
        while number < 100 or flushed <= 10:
            number += 1
            value = b"%d" % number
            written, read = await asyncio.gather(
                adapter.set("s", f"k{lane}", value), adapter.get("s", f"k{lane}"), return_exceptions=True
            )
            # Who flushes faster than scripts can be loaded gets an error, and no wrong answer.
            if isinstance(written, AdapterError):
                assert "NOSCRIPT" in written.message
            else:
                assert (written.new, read) == (value, value)

    flusher = asyncio.create_task(flush())
    await asyncio.gather(*(pairs(lane) for lane in range(8)))
    running = False
    await flusher


async def test_a_missing_right_is_named(server: RedisServer, open_adapter: OpenAdapter) -> None:
    server.cli("ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@all", "-hset")
    async with open_adapter(redis_url=f"redis://reader:pw@127.0.0.1:{server.port}") as adapter:
        error = await outcome(adapter.set("s", "k", b"1"))
        assert "right" in error.message
        assert await adapter.get("s", "k") is None


async def test_calls_do_not_queue_without_bound(server: RedisServer, open_adapter: OpenAdapter) -> None:
    async with open_adapter(timeout=0.5) as adapter:
        server.signal(signal.SIGSTOP)
        calls = [adapter.get("s", "k") for _ in range(25_000)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        server.signal(signal.SIGCONT)
        assert {type(error) for error in errors} == {AdapterTimeout, AdapterUnavailable}
        await until(lambda: works(adapter))


async def test_a_cancelled_caller_leaves_the_rest_whole(server: RedisServer, adapter: RedisAdapter) -> None:
    calls = [asyncio.ensure_future(adapter.update("s", "k", bump)) for _ in range(300)]
    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    kept = [change for change in done if not isinstance(change, BaseException)]
    assert len(kept) == 200
    value = await adapter.get("s", "k")
    assert value is not None
    assert 200 <= int(value) <= 300
    assert [change.revision for change in kept] == sorted(change.revision for change in kept)


async def test_calls_do_not_queue_without_bound_before_the_connection_is_there(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "k", b"1")
        server.signal(signal.SIGSTOP)
        pipeline = Pipeline(60.0, lambda _pipeline, _fault: None)
        adapter._store.connection.send = pipeline.send
        value = b"1" * 10_000_000
        calls = [adapter.set("s", str(number), value) for number in range(9)]
        assert "not connected yet" in (await outcome(calls[-1])).message
        assert not any(call.done() for call in calls[:6])
        server.signal(signal.SIGCONT)
        pipeline.abandon(AdapterUnavailable("gone"))
        for call in calls:
            assert isinstance(await outcome(call), AdapterUnavailable)


async def test_nothing_hangs_when_the_adapter_is_closed(
    server: RedisServer, open_adapter: OpenAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    # The time-out is far away: closing does not wait for it.
    async with asyncio.timeout(60), open_adapter(timeout=600.0) as adapter:
        await adapter.set("s", "k", b"1")
        server.signal(signal.SIGSTOP)
        calls = [adapter.get("s", "k"), adapter.set("s", "k", b"2")]
    assert "did not answer 2 calls before the adapter closed" in caplog.text
    server.signal(signal.SIGCONT)
    for call in calls:
        assert isinstance(await outcome(call), AdapterError)
    with pytest.raises(AdapterUnavailable):
        adapter.get("s", "k")


async def test_what_was_accepted_is_answered_before_the_adapter_closes(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter() as adapter:
        calls = [adapter.set("s", str(number), b"1") for number in range(500)]
    assert [change.new for change in await asyncio.gather(*calls)] == [b"1"] * 500
