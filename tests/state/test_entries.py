"""`state::list_entries`: pages, cursors and caps."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import uuid
from typing import Any

import pytest
from iii_state_memory import MemoryAdapter
from support.calls import Asking

from iii_skill.adapter import Page
from iii_skill.errors import AdapterUnavailable, CallerError, InvocationError
from iii_skill.state import pages
from iii_skill.state.pages import PageReader, Pages

ROOM = 1_000_000


@pytest.fixture
async def filled(ask: Asking) -> Asking:
    for number in range(5):
        await ask("set", {"scope": "s", "key": f"k{number}", "value": number or None})
    return ask


async def page(ask: Asking, **more: Any) -> Any:
    return await ask("list_entries", {"scope": "s", **more})


async def refused(ask: Asking, caller_id: str | None = "w1", **more: Any) -> str:
    with pytest.raises(InvocationError) as caught:
        await ask("list_entries", {"scope": "s", **more}, caller_id=caller_id)
    assert caught.value.code is not None
    assert str(caught.value).startswith(f"{caught.value.code}: ")
    return caught.value.code


async def test_pages_cover_the_scope_in_order(filled: Asking) -> None:
    first = await page(filled, limit=2)
    assert list(first) == ["entries", "next_cursor", "done", "offset", "total"]
    assert first["entries"] == [["k0", None], ["k1", 1]]
    assert (first["done"], first["offset"], first["total"]) == (False, 0, 5)
    second = await page(filled, limit=2, cursor=first["next_cursor"])
    third = await page(filled, limit=2, cursor=second["next_cursor"])
    assert third["entries"] == [["k4", 4]]
    assert (third["next_cursor"], third["done"], third["offset"], third["total"]) == (None, True, 4, 5)


async def test_a_scope_in_one_page_and_an_unknown_scope(filled: Asking) -> None:
    whole = await page(filled)
    assert len(whole["entries"]) == 5
    assert whole["done"]
    empty = await filled("list_entries", {"scope": "unknown"})
    assert empty == {"entries": [], "next_cursor": None, "done": True, "offset": 0, "total": 0}


async def test_later_writes_do_not_change_the_pages(filled: Asking) -> None:
    first = await page(filled, limit=2)
    await filled("delete", {"scope": "s", "key": "k2"})
    await filled("set", {"scope": "s", "key": "k3", "value": "changed"})
    await filled("set", {"scope": "s", "key": "k9", "value": "new"})
    rest = await page(filled, limit=2, cursor=first["next_cursor"])
    assert rest["entries"] == [["k2", 2], ["k3", 3]]
    assert rest["total"] == 5


async def test_a_cursor_serves_once_and_only_its_reader(filled: Asking) -> None:
    cursor = (await page(filled, limit=2))["next_cursor"]
    assert await refused(filled, cursor=cursor, limit=3) == "INVALID_CURSOR"
    assert await refused(filled, cursor=cursor, limit=2, max_bytes=999) == "INVALID_CURSOR"
    assert await refused(filled, caller_id="w2", cursor=cursor, limit=2) == "INVALID_CURSOR"
    assert await refused(filled, cursor=str(uuid.uuid4()), limit=2) == "INVALID_CURSOR"
    assert await refused(filled, cursor="short", limit=2) == "INVALID_CURSOR"
    with pytest.raises(InvocationError):
        await filled("list_entries", {"scope": "other", "cursor": cursor, "limit": 2})
    assert (await page(filled, cursor=cursor, limit=2))["offset"] == 2
    assert await refused(filled, cursor=cursor, limit=2) == "INVALID_CURSOR"


async def test_the_host_itself_is_one_reader(filled: Asking) -> None:
    first = await filled("list_entries", {"scope": "s", "limit": 4}, caller_id=None)
    request = {"scope": "s", "limit": 4, "cursor": first["next_cursor"]}
    assert (await filled("list_entries", request, caller_id=None))["done"]


@pytest.mark.parametrize(
    "limits", [{"limit": 0}, {"limit": 1001}, {"max_bytes": 255}, {"max_bytes": 8_000_001}]
)
async def test_limits_have_bounds(filled: Asking, limits: dict[str, int]) -> None:
    assert await refused(filled, **limits) == "INVALID_PAGE_LIMITS"


async def test_the_scope_has_a_bound(filled: Asking) -> None:
    with pytest.raises(InvocationError) as caught:
        await filled("list_entries", {"scope": "é" * 513})
    assert caught.value.code == "INVALID_PAGE_LIMITS"


@pytest.mark.parametrize("max_bytes", range(256, 330))
async def test_a_page_never_exceeds_its_bytes_and_no_row_is_lost(max_bytes: int) -> None:
    ask = Asking(MemoryAdapter())
    values = {f"k{number}": "x" * (number * 7 % 60) for number in range(12)}
    for name, value in values.items():
        await ask("set", {"scope": "s", "key": name, "value": value})
    seen: list[list[Any]] = []
    cursor = None
    while True:
        raw = await ask.raw("list_entries", {"scope": "s", "max_bytes": max_bytes, "cursor": cursor})
        assert raw is not None
        assert len(raw) <= max_bytes
        answer = json.loads(raw)
        assert answer["offset"] == len(seen)
        seen += answer["entries"]
        cursor = answer["next_cursor"]
        assert answer["done"] == (cursor is None)
        if cursor is None:
            break
    assert seen == [[name, value] for name, value in values.items()]


async def test_a_row_that_does_not_fit_is_refused_and_the_cursor_kept(filled: Asking) -> None:
    await filled("set", {"scope": "s", "key": "big", "value": "x" * 300})
    await filled("set", {"scope": "s", "key": "last", "value": 1})
    first = await page(filled, limit=5, max_bytes=256)
    cursor = first["next_cursor"]
    assert len(first["entries"]) == 5
    for _ in range(2):
        assert await refused(filled, limit=5, max_bytes=256, cursor=cursor) == "ROW_TOO_LARGE"


async def test_a_row_that_some_sdk_could_not_read_in_a_page_is_refused(filled: Asking) -> None:
    deep = {"scope": "s", "key": "deep", "value": json.loads("[" * 124 + "]" * 124)}
    await filled("set", deep)
    assert await refused(filled) == "ROW_TOO_LARGE"
    assert await filled("get", {"scope": "s", "key": "deep"}) == deep["value"]


# Caps and expiry


def reader(limit: int = 1) -> PageReader:
    return PageReader("s", "w1", limit, ROOM)


def rows(count: int, size: int = 1) -> list[tuple[str, bytes]]:
    return [(f"k{number}", b"1" * size) for number in range(count)]


def code_of(call: Any) -> str:
    with pytest.raises(CallerError) as caught:
        call()
    return caught.value.code


def test_snapshots_expire_120_seconds_after_the_first_page() -> None:
    now = 0.0
    some = Pages(clock=lambda: now)
    cursor = json.loads(some.first(reader(), rows(4)))["next_cursor"]
    now = 119.0
    cursor = json.loads(some.next(reader(), cursor))["next_cursor"]
    now = 120.0
    assert code_of(lambda: some.next(reader(), cursor)) == "INVALID_CURSOR"


def test_whoever_holds_the_most_makes_room_for_others() -> None:
    some = Pages()
    greedy = [json.loads(some.first(reader(), rows(2)))["next_cursor"] for _ in range(pages.MAX_SNAPSHOTS)]
    modest = dataclasses.replace(reader(), caller="modest")
    cursor = json.loads(some.first(modest, rows(2)))["next_cursor"]
    assert code_of(lambda: some.next(reader(), greedy[0])) == "INVALID_CURSOR"
    some.first(reader(), rows(2))
    assert json.loads(some.next(modest, cursor))["done"]
    assert json.loads(some.next(reader(), greedy[-1]))["done"]


def test_a_scope_in_one_page_keeps_nothing() -> None:
    some = Pages()
    for _ in range(100):
        assert json.loads(some.first(reader(5), rows(5)))["done"]
    some.check_room(reader())


def test_rows_and_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    some = Pages()
    assert code_of(lambda: some.first(reader(), rows(pages.MAX_ROWS + 1))) == "SNAPSHOT_CAPACITY"
    monkeypatch.setattr(pages, "MAX_SNAPSHOT_BYTES", 1000)
    monkeypatch.setattr(pages, "MAX_TOTAL_BYTES", 1500)
    assert code_of(lambda: some.first(reader(), rows(2, 500))) == "SNAPSHOT_CAPACITY"
    some.first(reader(), rows(2, 300))
    large = dataclasses.replace(reader(), caller="larger")
    assert code_of(lambda: some.first(large, rows(2, 400))) == "SNAPSHOT_CAPACITY"
    some.first(reader(), rows(2, 300))
    monkeypatch.setattr(pages, "MAX_ROW_BYTES", 400)
    assert code_of(lambda: some.first(reader(), [*rows(2), ("big", b"1" * 500)])) == "ROW_TOO_LARGE"


# Scopes that are read page by page


class Counting(MemoryAdapter):
    """Tells how many rows were read; `lag`: answers later."""

    lag = False

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def page(self, scope: str, after: str | None, limit: int) -> Any:
        found = super().page(scope, after, limit)
        self.read += len(found.pairs)

        async def later() -> Page:
            await asyncio.sleep(0)
            return found

        return later() if self.lag else found

    def list(self, scope: str) -> Any:
        found = super().list(scope)
        self.read += len(found)
        return found


@pytest.fixture(params=[False, True], ids=["at once", "later"])
async def large(request: pytest.FixtureRequest) -> tuple[Asking, Counting]:
    """A scope of 5,000 keys."""
    adapter = Counting()
    for number in range(5000):
        adapter.set("s", f"k{number}", b"%d" % number)
    adapter.lag = request.param
    return Asking(adapter), adapter


async def test_a_page_of_a_large_scope_reads_a_page(large: tuple[Asking, Counting]) -> None:
    ask, adapter = large
    first = await page(ask, limit=10)
    assert first["entries"] == [[f"k{number}", number] for number in range(10)]
    assert (first["done"], first["offset"], first["total"]) == (False, 0, 5000)
    second = await page(ask, limit=10, cursor=first["next_cursor"])
    assert second["entries"][0] == ["k10", 10]
    assert (second["offset"], second["total"]) == (10, 5000)
    assert adapter.read == 20


async def test_the_pages_of_a_large_scope_cover_it(large: tuple[Asking, Counting]) -> None:
    ask, adapter = large
    seen: list[list[Any]] = []
    cursor = None
    while True:
        found = await page(ask, limit=700, max_bytes=4000, cursor=cursor)
        assert found["offset"] == len(seen)
        seen += found["entries"]
        cursor = found["next_cursor"]
        if cursor is None:
            break
    assert seen == [[f"k{number}", number] for number in range(5000)]
    assert found["done"]
    assert adapter.read == 5000


async def test_a_large_scope_shows_what_was_written_between_two_pages(
    large: tuple[Asking, Counting],
) -> None:
    ask, _ = large
    first = await page(ask, limit=1000)
    await ask("delete", {"scope": "s", "key": "k999"})
    await ask("set", {"scope": "s", "key": "k1000", "value": "changed"})
    second = await page(ask, limit=1000, cursor=first["next_cursor"])
    assert second["entries"][:2] == [["k1000", "changed"], ["k1001", 1001]]


async def test_a_cursor_whose_rows_are_being_read_serves_nobody_else(
    large: tuple[Asking, Counting],
) -> None:
    ask, adapter = large
    adapter.lag = True
    cursor = (await page(ask, limit=10))["next_cursor"]
    results = await asyncio.gather(
        *(page(ask, limit=10, cursor=cursor) for _ in range(3)), return_exceptions=True
    )
    served = [result for result in results if isinstance(result, dict)]
    assert len(served) == 1
    codes = {result.code for result in results if isinstance(result, InvocationError)}
    assert codes == {"INVALID_CURSOR"}


async def test_a_cursor_stays_when_its_rows_cannot_be_read(large: tuple[Asking, Counting]) -> None:
    ask, adapter = large
    cursor = (await page(ask, limit=10))["next_cursor"]
    works = adapter.page

    async def away(*_arguments: Any) -> Page:
        raise AdapterUnavailable("The store is away.")

    adapter.page = away  # type: ignore[method-assign]
    for _ in range(2):
        assert await refused_entries(ask, cursor) == "LIST_ENTRIES_ERROR"
    adapter.page = works  # type: ignore[method-assign]
    assert (await page(ask, limit=10, cursor=cursor))["offset"] == 10


async def refused_entries(ask: Asking, cursor: str) -> str | None:
    with pytest.raises(InvocationError) as caught:
        await page(ask, limit=10, cursor=cursor)
    return caught.value.code
