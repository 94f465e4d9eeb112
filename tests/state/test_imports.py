"""`iii-skill::state::import`: many keys as one write, the same over every bundled store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support import postgres
from support.adapters import settings
from support.redis import until

from iii_skill import Host, InvocationError, open_host
from iii_skill.errors import AdapterUnavailable
from iii_skill.state import imports
from iii_skill.state.import_journal import COMMITTED, SCOPE

IMPORT = "iii-skill::state::import"


@pytest.fixture(params=["memory", "file", "redis", "postgres"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    name = request.param
    config = postgres.settings() if name == "postgres" else settings(name, tmp_path)
    async with open_host(adapter=name, adapter_config=config) as opened:
        yield opened


async def step(host: Host, **fields: Any) -> Any:
    return await host.trigger(IMPORT, fields)


async def begin(host: Host, **fields: Any) -> str:
    found = await step(host, step="begin", **fields)
    assert found["atomic"]
    return str(found["import"])


async def entries(host: Host, scope: str) -> list[list[Any]]:
    found: list[list[Any]] = (await host.trigger("state::list_entries", {"scope": scope}))["entries"]
    return found


async def refused(host: Host, code: str, **fields: Any) -> str:
    with pytest.raises(InvocationError) as caught:
        await step(host, **fields)
    assert caught.value.code == code
    return caught.value.message


async def test_nothing_is_there_until_the_commit_then_all_of_it_in_order(host: Host) -> None:
    for key in ("a", "b", "c"):
        await host.trigger("state::set", {"scope": "s", "key": key, "value": 0})
    seen: list[Any] = []
    host.register_function("seen", lambda event: seen.append((event["event_type"], event["key"])))
    host.register_trigger("state", "seen", {"scope": "s"})
    name = await begin(host)
    await step(host, step="rows", **{"import": name}, rows=[["s", "new", 1], ["s", "b", {"x": [1]}]])
    await step(host, step="row", **{"import": name}, scope="other", key="k", value="v")
    await step(host, step="rows", **{"import": name}, deletes=[["s", "a"]])
    assert await entries(host, "s") == [["a", 0], ["b", 0], ["c", 0]]
    assert (await host.trigger("state::list_groups"))["groups"] == ["s"]
    assert await step(host, step="commit", **{"import": name}, count=4) == {
        "done": True,
        "written": 4,
        "changed": 4,
    }
    assert await entries(host, "s") == [["b", {"x": [1]}], ["c", 0], ["new", 1]]
    assert await entries(host, "other") == [["k", "v"]]
    # Asked again, as after a lost answer, it is not done again.
    assert (await step(host, step="commit", **{"import": name}, count=4))["changed"] == 4
    await until(lambda: len(seen) >= 3)
    assert sorted(seen) == [("state:created", "new"), ("state:deleted", "a"), ("state:updated", "b")]


async def test_what_is_there_stays_where_only_absent_keys_are_wanted(host: Host) -> None:
    await host.trigger("state::set", {"scope": "s", "key": "a", "value": 0})
    name = await begin(host, if_absent=True)
    await step(host, step="rows", **{"import": name}, rows=[["s", "a", 1], ["s", "b", 1]])
    assert (await step(host, step="commit", **{"import": name}, count=2))["changed"] == 1
    assert await entries(host, "s") == [["a", 0], ["b", 1]]


async def test_what_is_not_whole_is_not_stored(host: Host) -> None:
    name = await begin(host)
    await step(host, step="rows", **{"import": name}, rows=[["s", "a", 1]])
    assert "1 writes have come and 2" in await refused(
        host, "IMPORT_INCOMPLETE", step="commit", **{"import": name}, count=2
    )
    # A refused row spoils the whole import.
    rows = [["s", "b", 1], ["__iii_skill/x", "b", 1]]
    await refused(host, "RESERVED_SCOPE", step="rows", **{"import": name}, rows=rows)
    await refused(host, "IMPORT_INCOMPLETE", step="commit", **{"import": name}, count=1)
    await step(host, step="cancel", **{"import": name})
    await refused(host, "IMPORT_UNKNOWN", step="commit", **{"import": name}, count=1)
    assert await entries(host, "s") == []
    assert host.adapter is not None
    if not host.adapter.shared:
        assert await _private(host) == []


async def _private(host: Host) -> list[str]:
    keys: Any = host.adapter.keys(SCOPE)  # type: ignore[union-attr]
    return list(await keys if hasattr(keys, "__await__") else keys)


async def test_wrong_steps_have_an_error_each(host: Host) -> None:
    name = await begin(host)
    await refused(host, "IMPORT_UNKNOWN", step="rows", **{"import": "nope"}, rows=[])
    await refused(host, "IMPORT_STEP", step="dance", **{"import": name})
    await refused(host, "IMPORT_STEP", step="row", **{"import": name}, scope="s")
    await refused(host, "IMPORT_STEP", step="rows", **{"import": name}, rows=[["s", "k"]])
    await refused(host, "IMPORT_STEP", step="rows", **{"import": name}, rows={"s": 1})
    many = [["s", str(number), 1] for number in range(imports.MOST_PART_ROWS + 1)]
    await refused(host, "IMPORT_STEP", step="rows", **{"import": name}, rows=many)
    await refused(host, "IMPORT_STEP", step="rows", **{"import": name}, rows=[["s", "k", "x" * 5_000_000]])
    await refused(host, "deserialization_error")
    for _ in range(imports.MOST_OPEN - 1):
        await begin(host)
    await refused(host, "STATE_BUSY", step="begin")


async def test_calls_wait_while_it_is_written_and_are_made_in_their_order(host: Host) -> None:
    rows = [["s", f"k{number}", number] for number in range(3000)]
    name = await begin(host)
    for start in range(0, 3000, 1000):
        await step(host, step="rows", **{"import": name}, rows=rows[start : start + 1000])
    commit = asyncio.ensure_future(step(host, step="commit", **{"import": name}, count=3000))
    sizes = set()
    while not commit.done():
        keys = await host.trigger("state::list_keys", {"scope": "s"})
        sizes.add(len(keys["keys"]))
        await asyncio.sleep(0)
    assert sizes <= {0, 3000}
    writes = [host.trigger("state::set", {"scope": "s", "key": "k1", "value": n}) for n in range(50)]
    answers = await asyncio.gather(*writes)
    assert [answer["new_value"] for answer in answers] == list(range(50))
    assert await host.trigger("state::get", {"scope": "s", "key": "k1"}) == 49


async def test_a_shared_store_takes_so_much_and_no_more(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "TOGETHER_KEYS", 10)
    name = await begin(host)
    rows = [["s", str(number), 1] for number in range(11)]
    assert host.adapter is not None
    if host.adapter.shared:
        await refused(host, "IMPORT_TOO_LARGE", step="rows", **{"import": name}, rows=rows)
        await refused(host, "IMPORT_INCOMPLETE", step="commit", **{"import": name}, count=11)
    else:
        await step(host, step="rows", **{"import": name}, rows=rows)


async def test_an_import_that_brings_nothing_more_is_forgotten(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await begin(host)
    await step(host, step="rows", **{"import": name}, rows=[["s", "a", 1]])
    monkeypatch.setattr(imports, "IDLE_S", 0.05)
    await step(host, step="rows", **{"import": name}, rows=[["s", "b", 1]])

    async def forgotten() -> bool:
        with pytest.raises(InvocationError) as caught:
            await step(host, step="commit", **{"import": name}, count=3)
        assert caught.value.code in ("IMPORT_INCOMPLETE", "IMPORT_UNKNOWN")
        return caught.value.code == "IMPORT_UNKNOWN"

    await until(forgotten)
    assert host.adapter is not None
    if not host.adapter.shared:

        async def removed() -> bool:
            return await _private(host) == []

        await until(removed)


async def test_an_import_is_not_idle_while_the_store_takes_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_host() as host:
        name = await begin(host)
        monkeypatch.setattr(imports, "IDLE_S", 0.0)
        adapter: Any = host.adapter
        keep, asked, go_on = adapter.set, asyncio.Event(), asyncio.Event()

        async def slow(scope: str, key: str, value: bytes) -> Any:
            asked.set()
            await go_on.wait()
            return keep(scope, key, value)

        adapter.set = slow
        taken = asyncio.ensure_future(step(host, step="rows", **{"import": name}, rows=[["s", "a", 1]]))
        await asked.wait()
        await asyncio.sleep(0.01)
        await refused(host, "IMPORT_INCOMPLETE", step="commit", **{"import": name}, count=5)
        go_on.set()
        await taken

        async def removed() -> bool:
            return await _private(host) == []

        await until(removed)
        await refused(host, "IMPORT_UNKNOWN", step="commit", **{"import": name}, count=1)


async def test_a_host_finishes_what_was_committed_and_removes_what_was_not(tmp_path: Path) -> None:
    config = {"data_dir": str(tmp_path / "state")}
    async with open_host(adapter="file", adapter_config=config) as host:
        adapter: Any = host.adapter
        part = b'{"rows":[["s","a",1],["s","b",9007199254740993]],"deletes":[["s","c"]]}'
        await adapter.set("s", "c", b"1")
        await adapter.set(SCOPE, "one/00000000", part)
        await adapter.set(SCOPE, "one/00000001", b'{"rows":[["s","d",1]]}')
        await adapter.set(SCOPE, "two/00000000", b'{"rows":[["s","never",1]]}')
        await adapter.set(SCOPE, COMMITTED, b'{"id":"one","parts":2,"if_absent":false}')
    async with open_host(adapter="file", adapter_config=config) as host:
        assert await entries(host, "s") == [["a", 1], ["b", 9007199254740993], ["d", 1]]
        assert await _private(host) == []


async def test_what_could_not_be_written_is_written_before_the_next_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_host(adapter="file", adapter_config=settings("file", tmp_path)) as host:
        adapter: Any = host.adapter
        write, away = adapter.set, 2

        def refusing(scope: str, key: str, value: bytes) -> Any:
            nonlocal away
            if scope == "s" and away:
                away -= 1
                raise AdapterUnavailable("The store is away.")
            return write(scope, key, value)

        monkeypatch.setattr(adapter, "set", refusing)
        one, two, three = [await begin(host) for _ in range(3)]
        for number, name in enumerate((one, two, three)):
            await step(host, step="rows", **{"import": name}, rows=[["s", f"k{number}", number]])
        told = await refused(host, "IMPORT_ERROR", step="commit", **{"import": one}, count=1)
        assert told.endswith("the next import or the next start of the host writes it.")
        told = await refused(host, "IMPORT_ERROR", step="commit", **{"import": two}, count=1)
        assert told.endswith("nothing of this one is stored; try again.")
        assert await entries(host, "s") == []
        assert (await step(host, step="commit", **{"import": three}, count=1))["done"]
        assert [(key, value) for key, value, *_ in await entries(host, "s")] == [("k0", 0), ("k2", 2)]


async def test_a_shared_adapter_without_the_step_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_host(adapter="redis", adapter_config=settings("redis", tmp_path)) as host:
        monkeypatch.setattr(type(host.adapter), "together", False)
        assert await step(host, step="begin") == {"atomic": False}


async def test_redis_looks_before_it_writes(tmp_path: Path) -> None:
    from support import redis

    config = settings("redis", tmp_path)
    async with open_host(adapter="redis", adapter_config=config) as host:
        redis.shared().cli("SET", f"{config['key_prefix']}state:two", "a text")
        name = await begin(host)
        await step(host, step="rows", **{"import": name}, rows=[["one", "a", 1], ["two", "a", 1]])
        message = await refused(host, "IMPORT_ERROR", step="commit", **{"import": name}, count=2)
        assert "another type" in message
        assert await entries(host, "one") == []
