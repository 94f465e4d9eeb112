"""Revisions: every change of a key takes one above all earlier ones of that key."""

from __future__ import annotations

import asyncio
import itertools
import time

from iii_skill.testing.checks import Group, keeps_data
from iii_skill.testing.clock import clock_shifted
from iii_skill.testing.subject import OpenedAdapter, Subject, expect, gather
from iii_skill.values import KEEP, Change

group = Group("revisions")


@group.check()
async def revisions_rise_with_every_change(subject: Subject) -> None:
    """set, update, an overwrite with the same bytes and delete each take a higher revision."""
    store = await subject.open()
    _expect_rising(await _life(store))


@group.check()
async def a_change_has_a_revision_above_zero(subject: Subject) -> None:
    """0 is the revision of KEEP alone: the first change of a key has one above it."""
    store = await subject.open()
    for key in ("one", "two"):
        expect(
            (await store.set("scope", key, b"1")).revision > 0, "The first change of a key has revision 0."
        )


@group.check()
async def a_delete_that_found_nothing_takes_a_revision(subject: Subject) -> None:
    """Deletes of an absent key take rising revisions, before and after the key existed."""
    store = await subject.open()
    changes = [
        await store.delete("scope", "key"),
        await store.delete("scope", "key"),
        await store.set("scope", "key", b"1"),
        await store.delete("scope", "key"),
        await store.delete("scope", "key"),
        await store.update("scope", "key", lambda _old: None),
        await store.set("scope", "key", b"2"),
    ]
    _expect_rising(changes)


@group.check()
async def revisions_rise_when_a_key_is_made_again(subject: Subject) -> None:
    """A key that was deleted and made again goes on above its earlier revisions."""
    store = await subject.open()
    changes: list[Change] = []
    for _ in range(5):
        changes += [await store.set("scope", "key", b"1"), await store.delete("scope", "key")]
    _expect_rising(changes)


@group.check()
async def keep_takes_no_revision(subject: Subject) -> None:
    """KEEP answers with revision 0 and the next change still rises."""
    store = await subject.open()
    changes = [await store.set("scope", "key", b"1")]
    for _ in range(3):
        kept = await store.update("scope", "key", lambda _old: KEEP)
        expect(kept.revision == 0, "KEEP answered with a revision other than 0.")
    changes.append(await store.set("scope", "key", b"2"))
    _expect_rising(changes)


@group.check()
async def revisions_rise_for_concurrent_changes(subject: Subject) -> None:
    """100 updates under way at once take 100 different revisions in the order they were applied."""
    store = await subject.open()
    answers = [
        store.begin_update("scope", "key", lambda old: b"%d" % (int(old or b"0") + 1)) for _ in range(100)
    ]
    changes = sorted(await asyncio.gather(*answers), key=lambda change: int(change.new or b"0"))
    _expect_rising(changes)


@group.check(applies=keeps_data)
async def revisions_rise_across_a_reopen(subject: Subject) -> None:
    """After close and open a key goes on above its earlier revisions, also a deleted one."""
    store = await subject.open()
    changes: dict[str, list[Change]] = {"kept": [], "deleted": []}
    for _ in range(3):
        for _ in range(4):
            for key, history in changes.items():
                history.append(await store.set("scope", key, b"1"))
        changes["deleted"].append(await store.delete("scope", "deleted"))
        store = await subject.reopen(store)
    for key, history in changes.items():
        history.append(await store.set("scope", key, b"2"))
        _expect_rising(history)


@group.check()
async def revisions_rise_when_the_clock_is_set_back(subject: Subject) -> None:
    """A clock that is set back an hour, or another host whose clock is late, lowers no revision."""
    store = await subject.open()
    changes = [await store.set("scope", "key", b"1") for _ in range(3)]
    package = subject.adapter_type.__module__.partition(".")[0]
    with clock_shifted(-3600, package, subject.adapter_type.__module__):
        changes.append(await store.set("scope", "key", b"2"))
        changes.append(await store.delete("scope", "key"))
        if keeps_data(subject.adapter_type):
            store = await subject.reopen(store)
        elif subject.adapter_type.shared:
            store = await subject.open()
        changes.append(await store.set("scope", "key", b"3"))
    changes.append(await store.set("scope", "key", b"4"))
    _expect_rising(changes)


@group.check()
async def revisions_rise_after_the_store_has_forgotten(subject: Subject) -> None:
    """After thousands of other changes, maintenance and a reopen a key goes on above its revisions."""
    store = await subject.open()
    changes = {
        key: [await store.set("scope", key, b"1"), await store.set("scope", key, b"2")]
        for key in ("deleted", "kept", "again")
    }
    for key in ("deleted", "again"):
        changes[key].append(await store.delete("scope", key))
    await churn(store, at_least=2_000, at_most=15_000, seconds=8)
    await store.adapter.maintain()
    changes["again"].append(await store.set("scope", "again", b"3"))
    if keeps_data(subject.adapter_type):
        store = await subject.reopen(store)
        await store.adapter.maintain()
    for key, made in changes.items():
        made.append(await store.set("scope", key, b"4"))
        _expect_rising(made)


async def churn(store: OpenedAdapter, *, at_least: int, at_most: int, seconds: float) -> list[Change]:
    """Changes of other keys, 64 under way at once, until there are enough of them or the time is up."""
    made: list[Change] = []
    end = time.monotonic() + seconds
    while len(made) < at_least or (len(made) < at_most and time.monotonic() < end):
        base = len(made)
        made += await gather([store.set("churn", f"key-{n % 50}", b"%d" % (base + n)) for n in range(64)])
    return made


async def _life(store: OpenedAdapter) -> list[Change]:
    return [
        await store.set("scope", "key", b"1"),
        await store.set("scope", "key", b"1"),
        await store.update("scope", "key", lambda old: old),
        await store.update("scope", "key", lambda _old: b"2"),
        await store.delete("scope", "key"),
        await store.update("scope", "key", lambda _old: b"3"),
        await store.set("scope", "key", b"4"),
    ]


def _expect_rising(changes: list[Change]) -> None:
    revisions = [change.revision for change in changes]
    rising = all(earlier < later for earlier, later in itertools.pairwise(revisions))
    expect(rising, f"The revisions of one key do not rise strictly: {revisions[:12]}.")
