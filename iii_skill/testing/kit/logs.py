"""Logs: the changes that a store keeps, behind cursors that hold at every host and after a restart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from iii_skill.adapter import OLDEST, LoggedChange, LogPage, StateAdapter, settled
from iii_skill.errors import AdapterError, CallerError, CapabilityMissing, CursorTooOld
from iii_skill.testing.checks import Group
from iii_skill.testing.subject import OpenedAdapter, Subject, expect, gather
from iii_skill.values import KEEP, PRIVATE_SCOPES, Change

PAGE_BYTES = 16 * 1024 * 1024
_SHORT = 20
_MANY = 400


def logged(adapter: type[StateAdapter]) -> bool:
    """Adapters whose store keeps its changes for a while."""
    return adapter.logged


def _not_logged(adapter: type[StateAdapter]) -> bool:
    return not adapter.logged


def _forgets(adapter: type[StateAdapter]) -> bool:
    return adapter.logged and adapter.log_setting is not None


group = Group("log", applies=logged, seconds=60.0)


async def page_of(store: OpenedAdapter, after: str | None, limit: int = 100) -> LogPage:
    """What `log_page` answers."""
    page = await settled(store.adapter.log_page(after, limit))
    expect(isinstance(page, LogPage), f"`log_page` gave {type(page).__name__}, not a LogPage.")
    expect(len(page.rows) <= limit, f"A page of at most {limit} changes has {len(page.rows)}.")
    return page


async def rows_after(store: OpenedAdapter, after: str, *, limit: int = 7) -> list[LoggedChange]:
    """All changes behind a cursor."""
    rows: list[LoggedChange] = []
    while (page := await page_of(store, after, limit)).rows:
        expect(page.next != after, "A page with changes is followed by itself.")
        rows += page.rows
        after = page.next
        expect(len(rows) < 100_000, "Pages of the log do not end.")
    return rows


def expect_rows(rows: Sequence[LoggedChange], changes: Sequence[Change]) -> None:
    """These changes are told, each once, those of a key in order."""
    expect_told([row.change for row in rows], changes)


def expect_told(told: Sequence[Change], changes: Sequence[Change]) -> None:
    wanted: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        wanted.setdefault((change.scope, change.key), []).append(change)
    found: dict[tuple[str, str], list[Change]] = {}
    for change in told:
        found.setdefault((change.scope, change.key), []).append(change)
    strange = set(found) - set(wanted)
    expect(not strange, f"`log_page` tells of keys that it should not: {sorted(strange)[:3]}.")
    for name, made in wanted.items():
        made.sort(key=lambda change: change.revision)
        got = [change.revision for change in found.get(name, [])]
        lacking = [change.revision for change in made if change.revision not in got]
        expect(not lacking, f"`log_page` leaves out {len(lacking)} changes of {name}.")
        expect(len(got) == len(set(got)), f"`log_page` tells changes of {name} twice.")
        expect(got == sorted(got), f"`log_page` tells the changes of {name} out of order.")
        expect(found[name] == made, f"`log_page` tells other values of {name} than were written.")


@group.check(applies=_not_logged)
async def a_log_is_refused_when_it_is_not_declared(subject: Subject) -> None:
    """Without `logged`, `log_page` is refused with CapabilityMissing."""
    store = await subject.open()
    try:
        await settled(store.adapter.log_page(None, 10))
    except CapabilityMissing:
        return
    expect(False, "`log_page` works, but `logged` is not declared.")


@group.check()
async def the_log_tells_every_change_once(subject: Subject) -> None:
    """Changes of two hosts, also deletes of nothing; no KEEP, no private scope; from any cursor the rest."""
    stores = [await subject.open(), await subject.open()]
    begin = await page_of(stores[0], None)
    expect(not begin.rows, "Without a cursor `log_page` gives changes.")
    made: list[Change] = []
    for number in range(60):
        store = stores[number % 2]
        scope, key = f"scope-{number % 9}", f"key-{number % 4}"
        if number % 7 == 5:
            made.append(await store.delete(scope, key))
        else:
            made.append(await store.set(scope, key, b"%d" % number))
        await store.update(scope, key, lambda _old: KEEP)
    await stores[0].set(f"{PRIVATE_SCOPES}kit/x", "key", b"1")
    rows = await rows_after(stores[1], begin.next)
    expect_rows(rows, made)
    for number in range(0, 60, 7):
        rest = await rows_after(stores[0], rows[number].cursor, limit=1000)
        expect_rows(rest, [row.change for row in rows[number + 1 :]])
    expect_rows(await rows_after(stores[1], OLDEST), made)
    page = await page_of(stores[0], rows[-1].cursor)
    expect(not page.rows, "Behind the last cursor there are changes.")
    expect_rows(await rows_after(stores[0], page.oldest), made)


@group.check()
async def the_log_tells_when_a_change_was_made(subject: Subject) -> None:
    """`at_ms` is the time of the host's clock, give or take a minute."""
    store = await subject.open()
    begin = await page_of(store, None)
    at_ms = subject.clock.now() * 1000
    await store.set("scope", "key", b"1")
    (row,) = await rows_after(store, begin.next)
    expect(abs(row.at_ms - at_ms) < 60_000, f"A change of {at_ms:.0f} is told as of {row.at_ms}.")


@group.check()
async def a_cursor_holds_after_a_reopen(subject: Subject) -> None:
    """Cursors of hosts that are gone are gone on from, and what was written meanwhile follows."""
    store = await subject.open()
    cursors = [(await page_of(store, None)).next]
    made: list[Change] = []
    for round_ in range(3):
        for number in range(5):
            made.append(await store.set(f"scope-{number}", "key", b"%d" % round_))
        cursors.append((await page_of(store, cursors[-1], 1000)).next)
        store = await subject.reopen(store)
    for round_, cursor in enumerate(cursors):
        expect_rows(await rows_after(store, cursor), made[5 * round_ :])


@group.table({f"seed-{seed}": seed for seed in range(3)})
async def a_reader_misses_nothing_under_load(subject: Subject, seed: int) -> None:
    """Two hosts write to 6 scopes, many calls at once, while a third reads on and on: every change once."""
    stores = [await subject.open() for _ in range(3)]
    chance = random.Random(seed)
    after = (await page_of(stores[2], None)).next
    writes = [
        stores[number % 2].begin_update(
            f"scope-{chance.randrange(6)}", f"key-{chance.randrange(5)}", lambda old: (old or b"") + b"1"
        )
        for number in range(10)
    ]
    told: list[Change] = []
    made: list[Change] = []
    count = 10

    async def write(host: int) -> None:
        nonlocal count
        while count < _MANY:
            count += 1
            scope, key = f"scope-{chance.randrange(6)}", f"key-{chance.randrange(5)}"
            made.append(await stores[host].set(scope, key, b"%d" % count))
            await asyncio.sleep(0)

    async def read() -> None:
        nonlocal after
        page = await page_of(stores[2], after, chance.choice((1, 3, 100)))
        told.extend(row.change for row in page.rows)
        after = page.next

    work = asyncio.ensure_future(gather([*(write(number % 2) for number in range(12)), *writes]))
    while not work.done():
        await read()
        await asyncio.sleep(0)
    made += [change for change in await work if isinstance(change, Change)]
    told += [row.change for row in await rows_after(stores[2], after)]
    expect_told(told, made)


@group.check()
async def pages_of_the_log_are_bounded_in_bytes(subject: Subject) -> None:
    """40 changes of 1 MB: no page has more than 16 MiB of values, and all of them come."""
    store = await subject.open()
    begin = (await page_of(store, None)).next
    made: list[Change] = []
    for number in range(40):
        made.append(
            await store.set(f"scope-{number % 8}", f"key-{number}", b'"%d%s"' % (number, b"x" * 10**6))
        )
    rows: list[LoggedChange] = []
    after = begin
    while (page := await page_of(store, after, 1000)).rows:
        size = sum(len(row.change.old or b"") + len(row.change.new or b"") for row in page.rows)
        expect(size <= PAGE_BYTES, f"A page of the log has {size} bytes of values.")
        rows += page.rows
        after = page.next
    expect_rows(rows, made)


@group.table(
    {
        "empty": "",
        "a-word": "nonsense",
        "a-number": "12",
        "with-nul": "1-\0",
        "no-ascii": "1-\u0661",
        "long": "1-" + "9" * 10_000,
    }
)
async def what_is_no_cursor_is_refused(subject: Subject, cursor: str) -> None:
    """What no store ever gave is a CallerError, INVALID_CURSOR or CURSOR_TOO_OLD, and reads nothing."""
    store = await subject.open()
    await store.set("scope", "key", b"1")
    try:
        await page_of(store, cursor)
    except CallerError as error:
        told = error.code in ("INVALID_CURSOR", "CURSOR_TOO_OLD")
        expect(told, f"What is no cursor is refused with the code {error.code}.")
        return
    expect(False, "`log_page` takes what is no cursor.")


@group.check()
async def a_cursor_of_another_store_is_told(subject: Subject) -> None:
    """A cursor that another store gave is CursorTooOld: nobody goes on as if nothing had been."""
    store, other = await subject.open(), await subject.other().open()
    for number in range(3):
        await store.set("scope", f"key-{number}", b"1")
        await other.set("scope", f"key-{number}", b"1")
    cursor = (await page_of(other, None)).next
    try:
        await page_of(store, cursor)
    except CursorTooOld:
        return
    except CallerError as error:
        expect(False, f"A cursor of another store is refused with {error.code}, not as too old.")
    expect(False, "A cursor of another store is gone on from.")


@group.check(applies=_forgets)
async def what_the_log_forgot_is_told(subject: Subject) -> None:
    """With a short log (`log_setting`) and 400 changes: an old cursor is CursorTooOld, never a silent gap;
    from the oldest one all follow to the end."""
    assert subject.adapter_type.log_setting is not None
    subject.settings[subject.adapter_type.log_setting] = _SHORT
    store = await subject.open()
    cursors = [(await page_of(store, None)).next]
    made: list[Change] = []
    for number in range(_MANY):
        made.append(await store.set("scope", f"key-{number % 3}", b"%d" % number))
        if number % 50 == 20:
            cursors.append((await page_of(store, None)).next)
    await store.adapter.maintain()
    refused = 0
    for position, cursor in enumerate(cursors):
        try:
            rows = await rows_after(store, cursor)
        except CursorTooOld:
            refused += 1
        else:
            first = 0 if position == 0 else 50 * position - 29
            expect_rows(rows, made[first:])
    expect(refused > 0, f"After {_MANY} changes a log of {_SHORT} still tells of the first ones.")
    page = await page_of(store, OLDEST, 1000)
    rows = await rows_after(store, OLDEST)
    expect(len(rows) >= min(_SHORT, 1), "The log has forgotten all of its changes.")
    expect_rows(rows, made[-len(rows) :])
    expect_rows(await rows_after(store, page.oldest), made[-len(rows) :])


@group.check()
async def the_newest_of_many_changes_are_found(subject: Subject) -> None:
    """`log_latest` passes over all but so many: they are counted, and the last ones are left."""
    stores = [await subject.open(), await subject.open()]
    begin = (await page_of(stores[0], None)).next
    made = [await stores[n % 2].set(f"scope-{n % 6}", f"key-{n % 2}", b"%d" % n) for n in range(90)]
    for count in (1, 10, 89, 90, 1000):
        passed, after = await settled(stores[0].adapter.log_latest(begin, count))
        left = min(count, 90)
        expect(passed == 90 - left, f"Of 90 changes {passed} are passed over so that {count} are left.")
        rows = await rows_after(stores[1], after)
        expect(len(rows) == left, f"Instead of the last {left} changes {len(rows)} are left.")
        expect_rows(rows, made[90 - left :])
    try:
        await settled(stores[0].adapter.log_latest("nonsense", 1))
    except (CallerError, AdapterError):
        return
    expect(False, "`log_latest` takes what is no cursor.")
