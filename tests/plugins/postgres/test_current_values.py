"""What a host remembers of keys is given out only while the database says that it still is what they hold."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from iii_state_postgres import PostgresAdapter, layout
from iii_state_postgres.current_values import MAX_BYTES, MAX_VALUE, UNKNOWN, CurrentValues, Head
from support.postgres import PostgresServer
from support.redis import until

from iii_skill.adapters.shared import KnownValues
from iii_skill.errors import AdapterError
from iii_skill.testing import Proxy

from .conftest import OpenAdapter

HERE, THERE = 1, 2
KEY = ("s", "k")


def head(revision: int, owner: int | None = HERE, since: int = 0, edits: int = 0) -> Head:
    """The row of bucket 5."""
    return Head(5, revision, owner, since, edits)


def known_at(revision: int) -> CurrentValues:
    """What a host knows that has read a key there."""
    current = CurrentValues()
    current.writer = HERE
    current.was_read(head(revision), [(KEY, b"old")])
    return current


def test_nothing_is_known_at_first() -> None:
    current = CurrentValues()
    assert not current.worth_asking(5)
    assert not current.holds(head(0))
    assert current.get(5, KEY) is UNKNOWN


def test_a_value_and_a_missing_key_are_known_from_reading() -> None:
    current = known_at(10)
    current.was_read(head(10), [(("s", "none"), None)])
    assert current.holds(head(10))
    assert current.get(5, KEY) == b"old"
    assert current.get(5, ("s", "none")) is None
    assert current.get(5, ("s", "other")) is UNKNOWN


def test_own_writes_keep_the_others_known_also_before_they_are_answered() -> None:
    current = known_at(10)
    assert current.holds(head(12))
    current.was_written(5, 11, 12, [(("s", "w"), b"new")])
    assert current.get(5, KEY) == b"old"
    assert current.get(5, ("s", "w")) == b"new"
    # A question that was answered before the write is of no harm.
    assert current.holds(head(10))
    current.was_read(head(10), [(("s", "w"), b"before")])
    assert current.get(5, ("s", "w")) == b"new"


@pytest.mark.parametrize(
    "seen",
    [head(11, THERE, 10), head(12, HERE, 11), head(10, edits=1), head(13, HERE, 12, 0), head(11, None, 10)],
    ids=["another host", "another host, then this one", "an edit", "between own ones", "nobody we know"],
)
def test_what_somebody_else_did_is_noticed(seen: Head) -> None:
    current = known_at(10)
    assert not current.holds(seen)
    current.was_read(seen, [(("s", "new"), b"1")])
    assert current.get(5, KEY) is UNKNOWN
    assert current.get(5, ("s", "new")) == b"1"


def test_an_own_write_behind_one_of_another_host_ends_what_was_known() -> None:
    current = known_at(10)
    current.was_written(5, 14, 14, [(("s", "w"), b"new")])
    assert current.get(5, KEY) is UNKNOWN
    # Whether somebody edited in between is not known before the next reading.
    assert not current.holds(head(14, HERE, 13))


def test_an_answer_older_than_what_is_known_changes_nothing() -> None:
    current = known_at(10)
    current.was_written(5, 11, 15, [(KEY, b"new")])
    current.was_read(head(9, THERE), [(KEY, b"older")])
    current.was_written(5, 3, 4, [(KEY, b"oldest")])
    assert current.get(5, KEY) == b"new"


def test_without_a_writer_only_the_same_revision_counts() -> None:
    current = known_at(10)
    current.writer = None
    assert current.holds(head(10))
    assert not current.holds(head(11))


def test_memory_is_bounded_and_large_values_are_left_out() -> None:
    current = known_at(1)
    value = b"x" * (MAX_VALUE // 2)
    for number in range(3 * MAX_BYTES // len(value)):
        current.was_read(head(1), [(("s", str(number)), value)])
        current.was_read(head(1), [(("s", str(number)), value)])
    held = [n for n in range(3 * MAX_BYTES // len(value)) if current.get(5, ("s", str(n))) is not UNKNOWN]
    assert 0 < len(held) * len(value) <= MAX_BYTES
    # Those stored last.
    assert held[-1] == 3 * MAX_BYTES // len(value) - 1
    current.was_read(head(1), [(("s", str(held[-1])), b"x" * (MAX_VALUE + 1))])
    assert current.get(5, ("s", str(held[-1]))) is UNKNOWN
    for long in (("s" * 2_000, "k"), ("s", "k" * 2_000)):
        current.was_read(head(1), [(long, b"1")])
        assert current.get(5, long) is UNKNOWN
    current.forget()
    assert current.get(5, KEY) is UNKNOWN


def test_long_names_are_remembered_nowhere() -> None:
    known = KnownValues()
    known.put(("s", "k" * 2_000), b"1")
    known.put(("s", "k"), b"1")
    assert known.get(("s", "k" * 2_000)) is None
    assert known.get(("s", "k")) == b"1"
    before = layout._remembered.cache_info().currsize
    assert layout.place_of("x" * 5_000) == layout.place_of("x" * 5_000)
    assert layout._remembered.cache_info().currsize == before


async def lookups(adapter: PostgresAdapter, server: PostgresServer, schema: str) -> int:
    """How often the server has looked for a key, once its connections have told what they did."""
    for use in (adapter.use_reader, adapter.use_writer):
        await use(lambda session: session.fetch("SELECT pg_stat_force_next_flush()"))
    scans = "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes"
    return int(server.sql(f"{scans} WHERE schemaname = '{schema}' AND relname = 'entry'")[0][0])


async def test_keys_that_only_this_host_writes_are_not_read_again(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    async with open_adapter() as adapter:
        await asyncio.gather(*(adapter.set("s", f"k{number}", b"1") for number in range(20)))
        for _ in range(2):
            await asyncio.gather(*(adapter.get("s", f"k{number}") for number in range(20)))
        before = await lookups(adapter, server, schema)
        for _ in range(50):
            found = await asyncio.gather(*(adapter.get("s", f"k{number}") for number in range(20)))
            assert found == [b"1"] * 20
        assert await lookups(adapter, server, schema) - before < 20


@pytest.mark.parametrize(
    ("edit", "then"),
    [
        ("UPDATE {schema}.entry SET value = '7'", b"7"),
        ("DELETE FROM {schema}.entry", None),
        ("TRUNCATE {schema}.entry", None),
        ("INSERT INTO {schema}.entry VALUES ('s', 'k', NULL, NULL, '8', 900, 900) "
         "ON CONFLICT (scope, key) DO UPDATE SET value = excluded.value", b"8"),
    ],
)  # fmt: skip
async def test_a_key_that_another_program_edited_is_read_again(
    edit: str, then: bytes | None, adapter: PostgresAdapter, server: PostgresServer, schema: str
) -> None:
    await adapter.set("s", "k", b"1")
    for _ in range(3):
        assert await adapter.get("s", "k") == b"1"
    server.sql(edit.format(schema=schema))
    assert await adapter.get("s", "k") == then
    assert await adapter.get("s", "k") == then
    assert (await adapter.set("s", "k", b"2")).old == then
    assert await adapter.get("s", "k") == b"2"


async def test_two_hosts_never_read_what_is_over(open_adapter: OpenAdapter) -> None:
    """Each write is read by the other host as soon as it is answered."""
    chance = random.Random(7)
    async with open_adapter() as one, open_adapter() as two:
        hosts = (one, two)
        for number in range(300):
            writer, reader = chance.sample(hosts, 2)
            key = f"k{chance.randrange(3)}"
            value = b"%d" % number
            if chance.random() < 0.2:
                await writer.delete("s", key)
                assert await reader.get("s", key) is None
            else:
                await writer.update("s", key, lambda _old, value=value: value)
                assert await reader.get("s", key) == value
            if chance.random() < 0.5:
                # It has written last, so it believes to know the bucket.
                await reader.set("s", "other", value)


async def test_a_batch_whose_fate_is_unknown_is_not_hidden_by_what_is_remembered(
    proxy: Proxy, server: PostgresServer, open_adapter: OpenAdapter, schema: str
) -> None:
    url = f"postgresql://test@127.0.0.1:{proxy.port}/postgres"
    async with open_adapter(database_url=url) as adapter, open_adapter() as other:
        for round_ in range(5):
            await adapter.set("s", "k", b"1")
            assert await adapter.get("s", "k") == b"1"
            before = server.revisions(schema)
            proxy.swallow()
            lost = asyncio.ensure_future(adapter.set("s", "k", b"%d" % (10 + round_)))
            await until(lambda before=before: server.revisions(schema) > before)  # type: ignore[misc]
            proxy.cut()
            with contextlib.suppress(AdapterError):
                await lost
            # A connection that is cut again and again is not made again at once.
            await until(lambda: answers_reads(adapter))
            assert await adapter.get("s", "k") == await other.get("s", "k")


async def answers_reads(adapter: PostgresAdapter) -> bool:
    """True when a read is answered."""
    try:
        await adapter.get("s", "none")
    except AdapterError:
        return False
    return True
