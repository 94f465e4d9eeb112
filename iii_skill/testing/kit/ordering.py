"""Ordering: `list` gives pairs in order of first insertion, and as one moment."""

from __future__ import annotations

import asyncio
import itertools
import random

from iii_skill.adapter import Page
from iii_skill.testing.checks import Group, keeps_data
from iii_skill.testing.subject import OpenedAdapter, Subject, expect, gather
from iii_skill.values import KEEP

group = Group("ordering")

NAMES = ("m", "z", "a", "Z", "0", "10", "9", "é", "", "aa")


@group.check()
async def list_is_in_order_of_first_insertion(subject: Subject) -> None:
    """`list` and `keys` give keys in order of first insertion, not sorted."""
    store = await subject.open()
    for name in NAMES:
        await store.set("scope", name, b"1")
    await _expect_order(store, list(NAMES), "The order is not that of first insertion")


@group.check()
async def an_overwrite_keeps_the_place(subject: Subject) -> None:
    """An overwrite by `set` or `update`, and a KEEP, leave the key at its place."""
    store = await subject.open()
    for name in NAMES:
        await store.set("scope", name, b"1")
    await store.set("scope", "m", b"2")
    await store.update("scope", "a", lambda _old: b"3")
    await store.update("scope", "z", lambda _old: KEEP)
    await _expect_order(store, list(NAMES), "An overwrite moved a key")


@group.check()
async def delete_and_set_moves_to_the_end(subject: Subject) -> None:
    """A key that was deleted and set again stands at the end."""
    store = await subject.open()
    for name in NAMES:
        await store.set("scope", name, b"1")
    await store.delete("scope", "m")
    await store.update("scope", "a", lambda _old: None)
    rest = [name for name in NAMES if name not in ("m", "a")]
    await _expect_order(store, rest, "A delete changed the order of the others")
    await store.set("scope", "a", b"1")
    await store.update("scope", "m", lambda _old: b"1")
    await _expect_order(store, [*rest, "a", "m"], "A key that was deleted and set again is not at the end")


@group.check()
async def each_scope_has_its_own_order(subject: Subject) -> None:
    """Interleaved writes to two scopes keep each scope's own order."""
    store = await subject.open()
    for number in range(20):
        await store.set("up", f"{number:02}", b"1")
        await store.set("down", f"{99 - number:02}", b"1")
    expect(await store.keys("up") == [f"{n:02}" for n in range(20)], "The order of one scope is mixed up.")
    expect(
        await store.keys("down") == [f"{99 - n:02}" for n in range(20)], "The order of a scope is mixed up."
    )


@group.check()
async def a_scope_of_2000_keys_is_listed_whole(subject: Subject) -> None:
    """`list` of 2,000 keys gives each once and in order, whatever pages the store reads in."""
    store = await subject.open()
    names = [f"key-{number}" for number in range(2000)]
    random.Random(5).shuffle(names)
    for start in range(0, len(names), 50):
        await asyncio.gather(
            *(store.begin_update("scope", name, lambda _old: b"1") for name in names[start : start + 50])
        )
    listed = [key for key, _ in await store.list("scope")]
    expect(len(listed) == len(set(listed)), "`list` gives a key twice.")
    expect(set(listed) == set(names), f"`list` gives {len(listed)} of 2,000 keys.")
    blocks = [set(names[start : start + 50]) for start in range(0, len(names), 50)]
    found = [set(listed[start : start + 50]) for start in range(0, len(listed), 50)]
    expect(blocks == found, "`list` of 2,000 keys is not in order of first insertion.")


@group.check(applies=keeps_data)
async def the_order_outlives_a_reopen(subject: Subject) -> None:
    """The order is the same after close and open, and new keys still come last."""
    store = await subject.open()
    for name in NAMES:
        await store.set("scope", name, b"1")
    await store.delete("scope", "z")
    await store.set("scope", "z", b"1")
    before = await store.keys("scope")
    store = await subject.reopen(store)
    await _expect_order(store, before, "The order changed with close and open")
    await store.set("scope", "after", b"1")
    await store.set("scope", "m", b"2")
    await _expect_order(store, [*before, "after"], "After close and open a new key is not at the end")


@group.table({"one": 1, "seven": 7, "as-many-as-there-are": 60, "more": 1000})
async def pages_give_every_key_once_and_in_order(subject: Subject, limit: int) -> None:
    """Pages that follow each other give what `list` gives, at most `limit` pairs each."""
    store = await subject.open()
    names = [f"{number * 37 % 60:02}" for number in range(60)]
    await gather([store.set("scope", name, b'"%s"' % name.encode()) for name in names])
    await store.delete("scope", names[0])
    await store.set("scope", names[0], b'"again"')
    expected = await store.list("scope")
    found: list[tuple[str, bytes]] = []
    after: str | None = None
    while True:
        page = await store.page("scope", after, limit)
        _expect_page(page, limit, 60)
        found += page.pairs
        expect(len(found) <= 60, "Pages give more pairs than the scope has.")
        after = page.after
        if after is None:
            break
    expect(found == expected, "The pages of a scope do not give what `list` gives.")
    empty = await store.page("unknown", None, limit)
    expect(
        (list(empty.pairs), empty.after, empty.total) == ([], None, 0),
        "A page of an unknown scope is not empty.",
    )


@group.check()
async def pages_give_every_key_that_stays_while_others_come_and_go(subject: Subject) -> None:
    """While keys are deleted, made and moved between two pages, every key that stays comes exactly once."""
    store = await subject.open()
    names = [f"key-{number}" for number in range(60)]
    for name in names:
        await store.set("scope", name, b"0")
    seen: list[str] = []
    gone: set[str] = set()
    after: str | None = None
    for round_ in itertools.count():
        page = await store.page("scope", after, 10)
        seen += [key for key, _ in page.pairs]
        after = page.after
        if after is None:
            break
        expect(round_ < 60, "Pages do not come to an end although no key is made any more.")
        if round_ < 5:
            # What was given last, what comes soon and what was given long ago goes; one of them comes back.
            moved = f"key-{round_ * 10 + 4}"
            for name in {page.pairs[-1][0], moved, f"key-{round_ * 10 + 12}", f"key-{round_}"}:
                await store.delete("scope", name)
                gone.add(name)
            await store.set("scope", moved, b"1")
            await store.set("scope", f"new-{round_}", b"1")
            await store.set("scope", f"key-{round_ * 10 + 15}", b"2")
    stayed = [name for name in names if name not in gone]
    missing = [name for name in stayed if name not in seen]
    expect(not missing, f"Pages miss {len(missing)} keys that were there all the time: {missing[:3]}.")
    twice = [name for name in stayed if seen.count(name) > 1]
    expect(not twice, f"Pages give {len(twice)} keys twice that were there all the time: {twice[:3]}.")
    expect(
        [name for name in seen if name in stayed] == stayed, "Pages give keys in another order than `list`."
    )


def _expect_page(page: Page, limit: int, total: int) -> None:
    whole = page.after is None and len(page.pairs) == total
    expect(len(page.pairs) <= limit or whole, f"A page of at most {limit} pairs has {len(page.pairs)}.")
    expect(page.pairs or page.after is None, "A page without pairs says that more follow.")
    expect(page.total == total, f"A page tells a total of {page.total} keys where there are {total}.")


@group.check()
async def list_is_one_moment(subject: Subject) -> None:
    """While one writer numbers its writes over 8 keys, every `list` shows 8 consecutive numbers."""
    store = await subject.open()
    keys = [f"key-{number}" for number in range(8)]
    for number, key in enumerate(keys):
        await store.set("scope", key, b"%d" % number)
    running, chance = True, random.Random(8)

    async def write() -> None:
        number = len(keys)
        while running or number < 200:
            for _ in range(chance.randrange(3)):
                await store.set("scope", keys[number % len(keys)], b"%d" % number)
                number += 1
            await asyncio.sleep(0)

    async def read() -> None:
        for _ in range(60):
            pairs = await store.list("scope")
            expect(
                [key for key, _ in pairs] == keys, "`list` misses or moves a key while others are written."
            )
            seen = sorted(int(value) for _, value in pairs)
            mixed = seen != list(range(seen[0], seen[0] + len(keys)))
            expect(not mixed, f"`list` mixes two moments: it shows writes {seen}.")
            await asyncio.sleep(0)

    writer = asyncio.create_task(write())
    try:
        await asyncio.gather(read(), read())
    finally:
        running = False
        await writer


async def _expect_order(store: OpenedAdapter, names: list[str], fault: str) -> None:
    expect([key for key, _ in await store.list("scope")] == names, f"{fault} (`list`).")
    expect(await store.keys("scope") == names, f"{fault} (`keys`).")
