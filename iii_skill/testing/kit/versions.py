"""Versions: what a key held before, complete, in order and bounded, while the setting `history` is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iii_skill.adapter import VERSIONS_BYTES, StateAdapter, Version, settled
from iii_skill.errors import CapabilityMissing
from iii_skill.testing.checks import Group, always, keeps_data
from iii_skill.testing.child import Child
from iii_skill.testing.subject import OpenedAdapter, Subject, expect, gather
from iii_skill.testing.workload import SCOPE
from iii_skill.values import KEEP, Change


def historical(adapter: type[StateAdapter]) -> bool:
    """Adapters that can keep versions."""
    return adapter.historical


def _kept_and_historical(adapter: type[StateAdapter]) -> bool:
    return keeps_data(adapter) and adapter.historical


def ends_and_historical(adapter: type[StateAdapter]) -> bool:
    """Adapters that do that, and whose keys can have an end."""
    return adapter.expires and adapter.historical


group = Group("versions", applies=historical, seconds=60.0)

DAY_S = 86_400.0


async def opened(subject: Subject, **bounds: Any) -> OpenedAdapter:
    """An instance that keeps versions."""
    subject.settings["history"] = bounds
    return await subject.open()


async def versions_of(
    store: OpenedAdapter, key: str, *, scope: str = "scope", before: int | None = None, limit: int = 1000
) -> Sequence[Version]:
    found = await settled(store.adapter.history(scope, key, before, limit))
    for version in found:
        expect(isinstance(version, Version), f"`history` gave {type(version).__name__}, not a Version.")
    return list(found)


def expect_versions(found: Sequence[Version], changes: Sequence[Change]) -> None:
    """The versions are what these changes made, the newest first."""
    wanted = [(change.revision, change.new) for change in reversed(changes)]
    told = [(version.revision, version.value) for version in found]
    expect(told == wanted, f"`history` gives {told[:4]}, the changes were {wanted[:4]}.")


@group.check(applies=always)
async def no_versions_are_kept_without_the_setting(subject: Subject) -> None:
    """Without `history`, or where it is not declared, the call is refused with CapabilityMissing."""
    store = await subject.open()
    await store.set("scope", "key", b"1")
    try:
        await versions_of(store, "key")
    except CapabilityMissing:
        return
    expect(False, "`history` works without its setting.")


@group.check()
async def every_change_is_a_version(subject: Subject) -> None:
    """set, update, delete, re-create: newest first, with revision, value and the time of the host's clock."""
    store = await opened(subject)
    changes: list[Change] = []
    times: list[int] = []
    for step in range(3):
        for change in (
            store.set("scope", "key", b"%d" % step),
            store.update("scope", "key", lambda old: (old or b"") + b"0"),
            store.delete("scope", "key"),
        ):
            subject.clock.advance(60)
            times.append(subject.clock.now_ms())
            changes.append(await change)
    found = await versions_of(store, "key")
    expect_versions(found, changes)
    for version, at in zip(found, reversed(times), strict=True):
        expect(at <= version.at_ms < at + 60_000, "A version has another time than its change had.")
    expect(await versions_of(store, "other") == [], "A key that never was has versions.")


@group.check()
async def what_changes_nothing_is_no_version(subject: Subject) -> None:
    """KEEP, an error and a delete that found nothing leave no version; the next one follows as ever."""
    store = await opened(subject)
    changes = [await store.set("scope", "key", b"1")]
    await store.update("scope", "key", lambda _old: KEEP)
    changes.append(await store.delete("scope", "key"))
    for _ in range(3):
        await store.delete("scope", "key")
    changes.append(await store.set("scope", "key", b"2"))
    expect_versions(await versions_of(store, "key"), changes)


@group.check()
async def no_version_is_missing_under_load(subject: Subject) -> None:
    """400 changes of 5 keys, many under way at once: what was answered and the versions agree."""
    store = await opened(subject, keep=1000)

    def change(number: int) -> Any:
        return lambda old: None if number % 7 == 6 else b"%d" % (int(old or b"0") + 1)

    answers = await gather([store.begin_update("scope", f"key-{n % 5}", change(n)) for n in range(400)])
    for number in range(5):
        key = f"key-{number}"
        made = [c for c in answers if c.key == key and not (c.old is None and c.new is None)]
        made.sort(key=lambda c: c.revision)
        expect_versions(await versions_of(store, key), made)


@group.check()
async def so_many_versions_are_kept(subject: Subject) -> None:
    """With `keep=4` the last four are shown, before and after `maintain`, of each key by itself."""
    store = await opened(subject, keep=4)
    changes = [await store.set("scope", "key", b"%d" % number) for number in range(30)]
    other = [await store.set("scope", "other", b"1")]
    for _ in range(3):
        expect_versions(await versions_of(store, "key"), changes[-4:])
        expect_versions(await versions_of(store, "other"), other)
        await store.adapter.maintain()
    changes.append(await store.delete("scope", "key"))
    expect_versions(await versions_of(store, "key"), changes[-4:])


@group.check()
async def versions_are_kept_for_so_long(subject: Subject) -> None:
    """With `days=2` what was replaced before is not shown; the current value is, however old."""
    store = await opened(subject, days=2)
    changes = []
    for number in range(4):
        changes.append(await store.set("scope", "key", b"%d" % number))
        subject.clock.advance(0.9 * DAY_S)
    gone = [await store.set("scope", "gone", b"1"), await store.delete("scope", "gone")]
    for _ in range(2):
        # Replaced 2.7, 1.8 and 0.9 days ago.
        expect_versions(await versions_of(store, "key"), changes[1:])
        expect_versions(await versions_of(store, "gone"), gone)
        await store.adapter.maintain()
    subject.clock.advance(30 * DAY_S)
    for _ in range(2):
        expect_versions(await versions_of(store, "key"), changes[-1:])
        expect(await versions_of(store, "gone") == [], "A key that is gone for long has versions.")
        await store.adapter.maintain()
    again = await store.set("scope", "key", b"9")
    expect_versions(await versions_of(store, "key"), [changes[-1], again])


@group.check()
async def any_number_is_a_bound_of_pages(subject: Subject) -> None:
    """No version is below 0, all are below 2**64 - 1, a moment as far is after all of them, 0 before."""
    store = await opened(subject)
    changes = [await store.set("scope", "key", b"1"), await store.delete("scope", "key")]
    for low in (0, 1):
        expect(await versions_of(store, "key", before=low) == [], f"There are versions below {low}.")
    for high in (2**63 - 1, 2**63, 2**64 - 1):
        expect_versions(await versions_of(store, "key", before=high), changes)
        page = await settled(store.adapter.past(high, None, 10))
        held = [(one.key, one.value) for one in page.keys if one.value is not None]
        expect(held == [], f"At {high} there is {held}, and the key was deleted.")
    page = await settled(store.adapter.past(0, None, 10))
    expect(all(one.value is None for one in page.keys), "Before all changes a key has a value.")


@group.check()
async def pages_of_versions_give_each_once(subject: Subject) -> None:
    """`before` and `limit`: page by page all versions, each once, in order."""
    store = await opened(subject)
    changes = [await store.set("scope", "key", b"%d" % number) for number in range(25)]
    seen: list[Version] = []
    before: int | None = None
    while page := await versions_of(store, "key", before=before, limit=7):
        expect(len(page) <= 7, f"A page of at most 7 versions has {len(page)}.")
        seen += page
        before = page[-1].revision
        expect(len(seen) <= 25, "Pages of versions give some twice.")
    expect_versions(seen, changes)


@group.check()
async def a_short_page_of_versions_is_the_last(subject: Subject) -> None:
    """5 small versions and 12 of 1 MB: a page ends where values reach 8 MiB; other short ones are last."""
    store = await opened(subject)
    values = [b"%d" % number for number in range(5)] + [b'"%s"' % (b"x" * 10**6)] * 12
    changes = [await store.set("scope", "key", value) for value in values]
    for limit in (5, 1000):
        seen: list[Version] = []
        size = VERSIONS_BYTES
        page: Sequence[Version] = []
        while len(page) == limit or size >= VERSIONS_BYTES:
            page = await versions_of(store, "key", before=seen[-1].revision if seen else None, limit=limit)
            size = sum(len(version.value or b"") for version in page)
            until_last = sum(len(version.value or b"") for version in page[:-1])
            expect(until_last < VERSIONS_BYTES, f"A page of versions has {size} bytes of values.")
            seen += page
            expect(len(seen) <= len(changes), "Pages of versions give some twice.")
        expect_versions(seen, changes)


@group.check(applies=ends_and_historical)
async def an_end_that_came_is_a_version(subject: Subject) -> None:
    """The end of a key is a version without a value, and what is written then follows it."""
    store = await opened(subject)
    told: list[Change] = []
    store.adapter.on_expired = told.append
    first = await store.set("scope", "key", b"1")
    await store.expire("scope", "key", subject.clock.now_ms() + 1000)
    subject.clock.advance(2)
    last = await store.update("scope", "key", lambda old: b"2" if old is None else b"3")
    found = await versions_of(store, "key")
    expect([version.value for version in found] == [b"2", None, b"1"], "An end is no version of its own.")
    expect(found[0].revision == last.revision, "A version has another revision than its change.")
    expect(found[2].revision == first.revision, "A version has another revision than its change.")


@group.check()
async def a_delete_is_taken_back_by_writing_a_version(subject: Subject) -> None:
    """The value before a delete is in the versions; written again it is one more, and all of them stay."""
    store = await opened(subject)
    changes = [
        await store.set("scope", "key", b'{"n": 9007199254740993}'),
        await store.delete("scope", "key"),
    ]
    value = (await versions_of(store, "key"))[1].value
    expect(value == b'{"n": 9007199254740993}', "A version has other bytes than were written.")
    assert value is not None
    changes.append(await store.set("scope", "key", value))
    expect_versions(await versions_of(store, "key"), changes)


@group.check(applies=_kept_and_historical)
async def versions_outlive_a_reopen(subject: Subject) -> None:
    """After close and open the versions are there, and later ones join them, also of a key that is gone."""
    store = await opened(subject)
    changes: dict[str, list[Change]] = {"kept": [], "gone": []}
    for round_ in range(3):
        for key, made in changes.items():
            made.append(await store.set("scope", key, b"%d" % round_))
        changes["gone"].append(await store.delete("scope", "gone"))
        store = await subject.reopen(store)
        for key, made in changes.items():
            expect_versions(await versions_of(store, key), made)


@group.check(applies=_kept_and_historical)
async def versions_outlive_a_kill(subject: Subject) -> None:
    """After SIGKILL amid writes every acknowledged change is a version, and the newest is the value."""
    subject.settings["history"] = {"keep": 10_000}
    told: dict[str, list[int]] = {}
    async with Child(subject, "write", base=1) as child:
        await child.read("open")
        count = 0
        while count < 200 and (line := await child.line()) is not None:
            if line[0] == "wrote":
                told.setdefault(line[1], []).append(line[3])
                count += 1
        child.send_kill()
        while (line := await child.line()) is not None:
            if line[0] == "wrote":
                told.setdefault(line[1], []).append(line[3])
    store = await subject.open()
    for key, revisions in told.items():
        found: list[Version] = []
        before: int | None = None
        while page := await versions_of(store, key, scope=SCOPE, before=before):
            found += page
            before = page[-1].revision
        missing = set(revisions) - {version.revision for version in found}
        expect(not missing, f"After a kill {len(missing)} acknowledged changes are no versions.")
        value = await store.get(SCOPE, key)
        expect(found[0].value == value, "After a kill the newest version is not the value.")
