"""Feeds: a host that hears late, or whose feed of changes breaks, answers and tells as if it had not."""

from __future__ import annotations

import asyncio
import contextlib
import time

from iii_skill.adapter import CALL_SECONDS, CHANGES_SECONDS
from iii_skill.testing.kit.concurrency import increment
from iii_skill.testing.kit.outage import CHECK_SECONDS, MARGIN, group, shares_a_server
from iii_skill.testing.kit.watcher import watch
from iii_skill.testing.subject import Subject, expect
from iii_skill.values import KEEP, ChangeFunction


@group.check(applies=shares_a_server)
async def answers_are_what_the_server_holds_now(subject: Subject) -> None:
    """A host that knows a key well and hears late of others still answers and decides on the newest value."""
    direct = await subject.open()
    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        store = await subject.open(through=proxy)
        # What it may remember, it remembers now.
        following = await watch(store, direct)
        for number in range(5):
            await store.set("scope", "key", b"%d" % number)
            await store.update("scope", "key", increment)
            await store.get("scope", "key")
            await store.list("scope")
            await store.keys("scope")
            await store.page("scope", None, 10)
            await store.scopes()
        proxy.delay(0.25)
        for number in range(100, 103):
            value = b"%d" % number
            await direct.set("scope", "key", value)
            got, kept, pairs, page = await asyncio.gather(
                store.get("scope", "key"),
                store.update("scope", "key", lambda _old: KEEP),
                store.list("scope"),
                store.page("scope", None, 10),
            )
            expect(got == value, f"`get` gave {got!r} after another host was answered for {value!r}.")
            expect(
                kept.old == value,
                f"`update` was decided on {kept.old!r} after another host was answered for {value!r}.",
            )
            expect(dict(pairs)["key"] == value, "`list` gave an old value after another host's write.")
            expect(dict(page.pairs)["key"] == value, "`page` gave an old value after another host's write.")
            await direct.set("scope", "key", value + b"0")
            swap = await store.update("scope", "key", _swap(value))
            expect(swap.kept, "A compare-and-set swapped a value that another host had replaced already.")
            expect(swap.old == value + b"0", f"A compare-and-set was decided on {swap.old!r}.")
            await direct.delete("scope", "key")
            await direct.set(f"other-{number}", "key", b"1")
            got, keys, scopes = await asyncio.gather(
                store.get("scope", "key"), store.keys("scope"), store.scopes()
            )
            expect(got is None and keys == [], "A read shows a key that another host had deleted.")
            expect(f"other-{number}" in scopes, "`scopes` misses a scope that another host had made.")
        proxy.resume()
        await following.stop()


def _swap(expected: bytes) -> ChangeFunction:
    return lambda old: b"-1" if old == expected else KEEP


@group.check(applies=shares_a_server)
async def a_list_is_one_moment_over_a_slow_connection(subject: Subject) -> None:
    """While another host writes, deletes and makes keys, list, keys and page show one moment each."""
    direct = await subject.open()
    for number in range(8):
        await direct.set("fixed", f"key-{number}", b"%d" % number)
        await direct.set("sliding", f"{number}", b"%d" % number)
    running = True

    async def write() -> None:
        number = 8
        while running:
            await direct.set("fixed", f"key-{number % 8}", b"%d" % number)
            await direct.set("sliding", f"{number}", b"%d" % number)
            await direct.delete("sliding", f"{number - 8}")
            number += 1

    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        store = await subject.open(through=proxy)
        await store.list("fixed")
        proxy.delay(0.03)
        writer = asyncio.ensure_future(write())
        try:
            for _ in range(12):
                for pairs in (await store.list("fixed"), (await store.page("fixed", None, 100)).pairs):
                    numbers = sorted(int(value) for _, value in pairs)
                    expect(
                        len(numbers) == 8 and numbers == list(range(numbers[0], numbers[0] + 8)),
                        f"`list` mixes two moments: it shows writes {numbers}.",
                    )
                page = await store.page("sliding", None, 100)
                shown = {
                    "list": [key for key, _ in await store.list("sliding")],
                    "keys": await store.keys("sliding"),
                    "page": [key for key, _ in page.pairs],
                }
                for name, found in shown.items():
                    first = int(found[0]) if found else 0
                    moments = [[f"{n}" for n in range(first, first + width)] for width in (8, 9)]
                    expect(found in moments, f"`{name}` mixes two moments: it shows the keys {found}.")
                expect(page.total == len(page.pairs), "The total of a page is of another moment.")
        finally:
            running = False
            proxy.resume()
            await writer


FEED_FAULTS: dict[str, str] = {
    "cut": "was cut",
    "refused": "was cut and could not be made again for a while",
    "paused": "fell silent for a while",
    "lost": "went dead without an end",
}


@group.table({name: name for name in FEED_FAULTS}, applies=shares_a_server)
async def changes_go_on_where_they_were(subject: Subject, fault: str) -> None:
    """The connection of `changes()` breaks while another host writes: every change comes once, in order."""
    direct = await subject.open()
    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        store = await subject.open(through=proxy)
        watcher = await watch(store, direct)
        made = [await direct.update("scope", f"key-{number % 3}", increment) for number in range(6)]
        await watcher.hears(made[-1])
        if fault == "cut":
            proxy.cut()
        elif fault == "refused":
            proxy.refuse()
        elif fault == "paused":
            proxy.pause()
        else:
            proxy.lose()
        for number in range(30):
            made.append(await direct.update("scope", f"key-{number % 3}", increment))
            if number % 10 == 9:
                await asyncio.sleep(0.1)
        if fault in ("refused", "paused"):
            proxy.resume()
        made += [await direct.update("scope", f"key-{number % 3}", increment) for number in range(6)]
        seconds = CHANGES_SECONDS + (CALL_SECONDS if fault == "lost" else 0) + MARGIN
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await watcher.hears(made[-1])
                for change in made:
                    await watcher.hears(change)
        missing = [change for change in made if change not in watcher.seen]
        expect(
            not missing,
            f"`changes()` misses {len(missing)} of {len(made)} changes after its connection "
            f"{FEED_FAULTS[fault]}.",
        )
        await watcher.stop()
        for key in {change.key for change in made}:
            told = [change for change in watcher.seen if change.key == key]
            wanted = [change for change in made if change.key == key]
            expect(len(told) <= len(wanted), "`changes()` repeats changes after a lost connection.")
            expect(told == wanted, "`changes()` yields changes out of order after a lost connection.")


@group.check(applies=shares_a_server)
async def changes_that_are_followed_while_the_server_is_away_begin_with_it(subject: Subject) -> None:
    """`changes()` awaited while no server listens neither raises nor ends, and works once it is there."""
    direct = await subject.open()
    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        store = await subject.open(through=proxy)
        proxy.refuse()
        changes = store.adapter.changes()
        reading = asyncio.ensure_future(anext(changes))
        await asyncio.wait([reading], timeout=1.0)
        expect(
            not reading.done() or reading.exception() is None,
            f"`changes()` raises or ends while the server is away: {reading!r:.400}.",
        )
        proxy.resume()
        number, end = 0, time.monotonic() + CHANGES_SECONDS + MARGIN
        while not reading.done():
            expect(time.monotonic() < end, "`changes()` did not begin once the server was there.")
            number += 1
            await direct.set("scope", "key", b"%d" % number)
            await asyncio.wait([reading], timeout=0.1)
        first = reading.result()
        expect((first.scope, first.key) == ("scope", "key"), f"`changes()` yields {first} that nobody made.")
        close = getattr(changes, "aclose", None)
        if close is not None:
            await close()
