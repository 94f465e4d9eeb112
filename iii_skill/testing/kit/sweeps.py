"""Sweeps: the end of a key is one change in the order of the key's changes, and told once."""

from __future__ import annotations

import asyncio

from iii_skill.testing.kit.concurrency import expect_chain
from iii_skill.testing.kit.ends import FAR_MS, HOUR_MS, NEVER, listen, now_ms, over, sweep_all
from iii_skill.testing.kit.expiry import group
from iii_skill.testing.kit.strings import TWINS
from iii_skill.testing.subject import Subject, expect, gather
from iii_skill.values import KEEP, Change


@group.check()
async def an_end_that_came_is_one_delete(subject: Subject) -> None:
    """`sweep` makes it: a Change with the old value and a revision above the earlier ones, told once."""
    store = await subject.open()
    made = await store.set("scope", "key", b'"old"')
    await store.expire("scope", "key", now_ms(subject) + HOUR_MS)
    ends = await listen(store)
    await store.sweep()
    subject.clock.advance(HOUR_MS / 1000)
    for _ in range(3):
        expect(await store.sweep() is None, "`sweep` tells of an end that came.")
    again = await store.set("scope", "key", b'"new"')
    told = await ends.all(1)
    expect(len(told) == 1, f"One end was told {len(told)} times.")
    wanted = Change("scope", "key", b'"old"', None, told[0].revision)
    expect(told == [wanted], f"The end of a key was told as {told[0]}.")
    expect(made.revision < told[0].revision < again.revision, "The revision of an end is out of order.")


@group.table({"set": "set", "update": "update", "delete": "delete", "expire": "expire"})
async def a_write_that_meets_an_end_tells_it_first(subject: Subject, how: str) -> None:
    """Before any sweep a write finds the key over: the end is told, once, before what was written."""
    store = await subject.open()
    await over(subject, store)
    ends = await listen(store)
    if how == "set":
        change = await store.set("scope", "key", b"2")
    elif how == "update":
        change = await store.update("scope", "key", lambda old: b"2" if old is None else b"3")
        expect(change.new == b"2", "An update of a key that is over does not start fresh.")
    elif how == "delete":
        change = await store.delete("scope", "key")
    else:
        await store.expire("scope", "key", FAR_MS)
        change = await store.update("scope", "key", lambda _old: b"2")
    told = await ends.all(2 if how == "delete" and store.adapter.shared else 1)
    ended = [one for one in told if one.revision != change.revision]
    expect(len(ended) == 1, f"The end of a key was told {len(ended)} times.")
    expect(ended[0].old == b'"old"', "An end was told with another value than the key had.")
    expect(change.old is None, "What was over is the old value of a write.")
    expect(ended[0].revision < change.revision, "An end has a revision above the write that met it.")
    if how != "delete":
        expect(await store.expire("scope", "key", KEEP) == NEVER, "A key made again has the former end.")


@group.check()
async def an_update_of_what_is_over_goes_to_the_end_of_the_list(subject: Subject) -> None:
    """A key that is over and written again is a new one: it is the last of `list`."""
    store = await subject.open()
    for key in ("a", "b"):
        await store.set("scope", key, b"1")
    await store.expire("scope", "a", now_ms(subject) + HOUR_MS)
    subject.clock.advance(HOUR_MS / 1000)
    await store.update("scope", "a", lambda _old: b"2")
    expect(await store.list("scope") == [("b", b"1"), ("a", b"2")], "A key made again kept its place.")


@group.check()
async def sweep_tells_when_the_next_key_ends(subject: Subject) -> None:
    """With ends in any order, `sweep` deletes those that came and gives the next."""
    store = await subject.open()
    start = now_ms(subject)
    hours = [5, 1, 4, 2, 3]
    for hour in hours:
        await store.set("scope", f"key-{hour}", b"1")
        await store.expire("scope", f"key-{hour}", start + hour * HOUR_MS)
    await store.expire("scope", "key-3", None)
    await store.expire("scope", "key-1", start + 6 * HOUR_MS)
    for hour in (2, 4, 5, 6):
        following = await store.sweep()
        expect(following == start + hour * HOUR_MS, f"`sweep` gives {following}, not the next end.")
        subject.clock.advance((start + hour * HOUR_MS - now_ms(subject)) / 1000 + 0.001)
    expect(await sweep_all(store, subject) is None, "`sweep` tells of an end though no key has one.")
    expect(await store.keys("scope") == ["key-3"], "A sweep deleted other keys than those that are over.")


@group.check()
async def many_keys_end_at_once(subject: Subject) -> None:
    """2,500 keys that end together: all are deleted and told, each once, and others stay."""
    store = await subject.open()
    at = now_ms(subject) + HOUR_MS
    names = [f"key-{number}" for number in range(2_500)]
    await gather([store.set("scope", name, b"1") for name in [*names, "stays"]])
    await gather([store.expire("scope", name, at) for name in names])
    ends = await listen(store)
    subject.clock.advance(HOUR_MS / 1000)
    expect(await store.keys("scope") == ["stays"], "Keys that are over are seen.")
    await gather([store.set("scope", name, b"2") for name in names[:5]])
    expect(await sweep_all(store, subject) is None, "`sweep` tells of an end though no key has one.")
    told = sorted(change.key for change in await ends.all(len(names)))
    expect(told == sorted(names), f"{len(names)} ends were told as {len(told)}.")
    expect(await store.keys("scope") == ["stays", *names[:5]], "What was written after the end is gone.")


@group.check()
async def ends_under_load_lose_nothing(subject: Subject) -> None:
    """Keys end while they are written: answers and told ends form one chain for each key."""
    store = await subject.open()
    ends = await listen(store)
    answered: list[Change] = []

    async def writer(number: int) -> None:
        for step in range(40):
            key = f"key-{(number + step) % 5}"
            answered.append(await store.update("scope", key, lambda old: b"%d" % (int(old or b"0") + 1)))
            if step % 3 == 0:
                await store.expire("scope", key, now_ms(subject) + 20)
            if step % 7 == 0:
                subject.clock.advance(0.015)

    async def sweeper() -> None:
        while True:
            await store.sweep()
            await asyncio.sleep(0)

    sweeping = asyncio.ensure_future(sweeper())
    try:
        await gather([writer(number) for number in range(6)])
    finally:
        sweeping.cancel()
        await asyncio.wait([sweeping])
    subject.clock.advance(1.0)
    await sweep_all(store, subject)
    left = await store.list("scope")
    # As many values were made as ended or are left.
    count = sum(1 for change in answered if change.old is None) - len(left)
    told = await ends.all(count)
    expect(len(told) == count, f"{count} ends came and {len(told)} were told.")
    for key in {change.key for change in answered}:
        expect_chain([change for change in (*answered, *told) if change.key == key])


_SOME_TWINS = ("nfc-and-nfd", "upper-and-lower-case", "empty-and-nul", "trailing-nul", "trailing-space")


@group.table({name: TWINS[name] for name in _SOME_TWINS})
async def twins_end_alone(subject: Subject, pair: tuple[str, str]) -> None:
    """The end of a key or scope with a similar name is its own."""
    one, other = pair
    store = await subject.open()
    names = [("scope", one), ("scope", other), (one, "key"), (other, "key")]
    for scope, key in names:
        await store.set(scope, key, b"1")
    for scope, key in names[::2]:
        await store.expire(scope, key, now_ms(subject) + HOUR_MS)
    subject.clock.advance(HOUR_MS / 1000)
    await sweep_all(store, subject)
    found = [await store.get(scope, key) for scope, key in names]
    expect(found == [None, b"1", None, b"1"], f"Of twins the wrong one ended: {found}.")
