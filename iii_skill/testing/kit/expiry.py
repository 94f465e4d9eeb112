"""Expiry: a key has the end that it was given last, and nobody sees a key that is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from iii_skill.adapter import Expiry, StateAdapter
from iii_skill.errors import CapabilityMissing
from iii_skill.testing.checks import Group, expires
from iii_skill.testing.kit.ends import ABSENT, FAR_MS, HOUR_MS, NEVER, listen, now_ms, over, sweep_all
from iii_skill.testing.subject import OpenedAdapter, Subject, expect
from iii_skill.values import KEEP, Keep

group = Group("expiry", applies=expires, seconds=60.0)


def _keeps_no_ends(adapter: type[StateAdapter]) -> bool:
    return not adapter.expires


@group.check(applies=_keeps_no_ends)
async def expire_is_refused_when_it_is_not_declared(subject: Subject) -> None:
    """Without `expires`, `expire` and `sweep` are refused with CapabilityMissing."""
    store = await subject.open()
    calls: Sequence[Callable[[], Awaitable[object]]] = (
        lambda: store.expire("scope", "key", 1),
        store.sweep,
    )
    for call in calls:
        try:
            await call()
        except CapabilityMissing:
            continue
        expect(False, "An end was taken, but `expires` is not declared.")


@group.check()
async def a_key_has_the_end_that_it_was_given_last(subject: Subject) -> None:
    """`expire` tells the end: none at first, then the last one that was given, none after None."""
    store = await subject.open()
    asked: int | Literal[Keep.KEEP] | None
    await store.set("scope", "key", b"1")
    expect(await store.expire("scope", "key", KEEP) == NEVER, "A new key has an end.")
    for at in (now_ms(subject) + HOUR_MS, FAR_MS, now_ms(subject) + HOUR_MS // 2):
        for asked in (at, KEEP):
            told = await store.expire("scope", "key", asked)
            expect(told == Expiry(True, at), f"`expire` tells {told} of a key that ends at {at}.")
    for asked in (None, KEEP):
        expect(await store.expire("scope", "key", asked) == NEVER, "An end that was taken away is told.")
    expect(await store.sweep() is None, "`sweep` tells of an end though no key has one.")
    expect(await store.get("scope", "key") == b"1", "`expire` changed the value.")


@group.check()
async def an_absent_key_gets_no_end(subject: Subject) -> None:
    """`expire` of a key that is not there says so, makes nothing and leaves nothing for a later key."""
    store = await subject.open()
    asked: int | Literal[Keep.KEEP] | None
    for asked in (1, now_ms(subject) + HOUR_MS, None, KEEP):
        expect(await store.expire("scope", "key", asked) == ABSENT, "An absent key has an end.")
    expect(await store.list("scope") == [], "`expire` made a key.")
    await store.set("scope", "key", b"1")
    expect(await store.expire("scope", "key", KEEP) == NEVER, "A key has the end of one before it.")


async def _by_change(store: OpenedAdapter, answer: object) -> object:
    seen: list[bytes | None] = []

    def change(old: bytes | None) -> Any:
        seen.append(old)
        return answer

    await store.update("scope", "key", change)
    return seen[-1]


async def _by_set(store: OpenedAdapter) -> object:
    return (await store.set("scope", "key", b"2")).old


async def _by_delete(store: OpenedAdapter) -> object:
    return (await store.delete("scope", "key")).old


READS: dict[str, tuple[Callable[[OpenedAdapter], Awaitable[object]], object]] = {
    "get": (lambda store: store.get("scope", "key"), None),
    "list": (lambda store: store.list("scope"), [("other", b"1")]),
    "keys": (lambda store: store.keys("scope"), ["other"]),
    "expire": (lambda store: store.expire("scope", "key", KEEP), ABSENT),
    "renew": (lambda store: store.expire("scope", "key", FAR_MS), ABSENT),
    "update": (lambda store: _by_change(store, b"2"), None),
    "keep": (lambda store: _by_change(store, KEEP), None),
    "update-to-none": (lambda store: _by_change(store, None), None),
    "set": (_by_set, None),
    "delete": (_by_delete, None),
}


@group.table(READS)
async def nobody_sees_what_is_over(
    subject: Subject, case: tuple[Callable[[OpenedAdapter], Awaitable[object]], object]
) -> None:
    """As soon as its moment has come, before any sweep, a key is not there for any call."""
    read, wanted = case
    store = await subject.open()
    # Read before, so that whatever is cached is cached.
    await over(subject, store)
    await store.set("scope", "other", b"1")
    for again in range(2):
        await store.set("scope", "key", b'"old"')
        await store.expire("scope", "key", now_ms(subject) + HOUR_MS)
        if again:
            await store.list("scope")
        expect(await store.get("scope", "key") == b'"old"', "A key is gone before its end.")
        subject.clock.advance(HOUR_MS / 1000)
        found = await read(store)
        expect(found == wanted, f"A key that is over was seen: {found}.")


@group.check()
async def pages_and_scopes_leave_out_what_is_over(subject: Subject) -> None:
    """`page` gives what is left, in order, with its total; a scope whose keys are all over is none."""
    store = await subject.open()
    for number in range(10):
        await store.set("scope", f"key-{number}", b"%d" % number)
        if number % 3 == 0:
            await store.expire("scope", f"key-{number}", now_ms(subject) + HOUR_MS)
    await store.set("gone", "key", b"1")
    await store.expire("gone", "key", now_ms(subject) + HOUR_MS)
    first = await store.page("scope", None, 2)
    expect(first.total == 10, "A page counts what is not over as over.")
    subject.clock.advance(HOUR_MS / 1000)
    left = [f"key-{number}" for number in range(10) if number % 3]
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await store.page("scope", after, 2)
        seen += [key for key, _ in page.pairs]
        expect(page.total == len(left), f"A page counts {page.total} of {len(left)} keys.")
        after = page.after
        if after is None or len(seen) > len(left):
            break
    expect(seen == left, f"Pages of a scope with keys that are over give {seen}.")
    expect(sorted(await store.scopes()) == ["scope"], "A scope whose keys are all over is told.")


@group.check()
async def a_set_takes_the_end_away(subject: Subject) -> None:
    """After `set` the key has no end, and stays when the old one comes."""
    store = await subject.open()
    await store.set("scope", "key", b"1")
    await store.expire("scope", "key", now_ms(subject) + HOUR_MS)
    await store.set("scope", "key", b"2")
    expect(await store.expire("scope", "key", KEEP) == NEVER, "A `set` left the end of the key.")
    subject.clock.advance(HOUR_MS / 500)
    await sweep_all(store, subject)
    expect(await store.get("scope", "key") == b"2", "A key ended though a `set` had come in between.")


@group.check()
async def an_update_leaves_the_end(subject: Subject) -> None:
    """After `update`, also one that keeps, the key ends when it was to end."""
    store = await subject.open()
    await store.set("scope", "key", b"1")
    at = now_ms(subject) + HOUR_MS
    await store.expire("scope", "key", at)
    await store.update("scope", "key", lambda _old: b"2")
    await store.update("scope", "key", lambda _old: KEEP)
    expect(await store.expire("scope", "key", KEEP) == Expiry(True, at), "An `update` changed the end.")
    subject.clock.advance(HOUR_MS / 1000)
    expect(await store.get("scope", "key") is None, "A key that was updated did not end.")


@group.check()
async def a_key_made_again_has_no_end(subject: Subject) -> None:
    """A delete takes the end along, `update` to None as well: what is made then stays."""
    store = await subject.open()
    for key in ("one", "two"):
        await store.set("scope", key, b"1")
        await store.expire("scope", key, now_ms(subject) + HOUR_MS)
    await store.delete("scope", "one")
    await store.update("scope", "two", lambda _old: None)
    for key in ("one", "two"):
        await store.update("scope", key, lambda _old: b"2")
        expect(await store.expire("scope", key, KEEP) == NEVER, "A key made again has the former end.")
    subject.clock.advance(HOUR_MS / 500)
    await sweep_all(store, subject)
    expect(await store.keys("scope") == ["one", "two"], "A key made again ended as the former one.")


@group.check()
async def an_end_keeps_value_place_and_revision(subject: Subject) -> None:
    """`expire` moves no key in `list`, is told to nobody and lets revisions rise as ever."""
    store = await subject.open()
    changes = [await store.set("scope", key, b'"%b"' % key.encode()) for key in ("a", "b", "c")]
    ends = await listen(store)
    for at in (FAR_MS, None, FAR_MS - 1):
        await store.expire("scope", "a", at)
    expect([key for key, _ in await store.list("scope")] == ["a", "b", "c"], "`expire` moved a key.")
    change = await store.set("scope", "a", b"1")
    expect(change.revision > changes[0].revision, "After `expire` a revision does not rise.")
    expect(change.old == b'"a"', "After `expire` the old value is another one.")
    expect(await ends.all(0) == [], "`expire` was told as a delete.")
