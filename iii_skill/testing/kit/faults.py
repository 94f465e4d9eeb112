"""Faults: the way to the server breaks, falls silent or loses answers, and every promise still holds.

A proxy stands between one instance and the server; where hosts share a store, another one goes straight.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from iii_skill.adapter import CALL_SECONDS, CHANGES_SECONDS, StateAdapter
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable, IiiSkillError
from iii_skill.testing.checks import Group
from iii_skill.testing.kit.concurrency import increment
from iii_skill.testing.kit.watcher import watch
from iii_skill.testing.proxy import Proxy
from iii_skill.testing.subject import OpenedAdapter, Subject, expect, gather
from iii_skill.values import KEEP, Change, ChangeFunction, Durability

CHECK_SECONDS = 120.0
MARGIN = 5.0
"""Seconds that a slow machine gets on top of what the contract allows."""


def talks_to_a_server(adapter: type[StateAdapter]) -> bool:
    """Adapters that reach their store over a connection."""
    return adapter.durability is Durability.REMOTE or adapter.server_setting is not None


def shares_a_server(adapter: type[StateAdapter]) -> bool:
    """Those of them that several hosts use at once."""
    return adapter.shared and talks_to_a_server(adapter)


group = Group("faults", applies=talks_to_a_server, seconds=CHECK_SECONDS)

SILENCES: dict[str, Callable[[Proxy], None]] = {"paused": Proxy.pause, "lost": Proxy.lose}


def _calls(store: OpenedAdapter) -> dict[str, Awaitable[Any]]:
    return {
        "get": store.get("scope", "read"),
        "list": store.list("scope"),
        "keys": store.keys("scope"),
        "page": store.page("scope", None, 10),
        "scopes": store.scopes(),
        "set": store.set("scope", "set", b"1"),
        "delete": store.delete("scope", "deleted"),
        "update": store.update("scope", "updated", increment),
    }


@group.table(SILENCES)
async def every_call_ends_when_the_server_is_silent(
    subject: Subject, silence: Callable[[Proxy], None]
) -> None:
    """A server that was stopped, or whose connections went dead: each call ends in time, then all works."""
    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        store = await subject.open(through=proxy)
        await gather(list(_calls(store).values()))
        silence(proxy)
        began = time.monotonic()
        tasks = {name: asyncio.ensure_future(call) for name, call in _calls(store).items()}
        await asyncio.wait(tasks.values(), timeout=CALL_SECONDS + MARGIN)
        hanging = sorted(name for name, task in tasks.items() if not task.done())
        for task in tasks.values():
            task.cancel()
        answers = await asyncio.gather(*tasks.values(), return_exceptions=True)
        expect(
            not hanging,
            f"{_names(hanging)} did not end within {time.monotonic() - began:.0f} s of silence: "
            "a time-out is missing.",
        )
        _expect_adapter_errors(dict(zip(tasks, answers, strict=True)))
        proxy.resume()
        await _works_again(store)


@group.check()
async def open_and_close_end_when_the_server_is_silent(subject: Subject) -> None:
    """`open` and `close` end in time when the server does not answer, and nothing is left behind."""
    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        store = await subject.open(through=proxy)
        await store.set("scope", "key", b"1")
        proxy.pause()
        writing = store.begin_update("scope", "key", increment)
        await asyncio.sleep(0)
        await _within(store.adapter.close(), "`close`")
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        adapter = subject.make()
        with contextlib.suppress(IiiSkillError):
            await _within(adapter.open(subject.config(through=proxy)), "`open`")
        await _within(adapter.close(), "`close` after an `open` in silence")


@group.check()
async def a_server_that_is_away_at_open_is_waited_for(subject: Subject) -> None:
    """`open` succeeds while no server listens, calls are refused as unavailable, then all works by itself."""
    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        proxy.refuse()
        adapter = subject.make()
        try:
            await _within(adapter.open(subject.config(through=proxy)), "`open`")
        except IiiSkillError as error:
            expect(False, f"`open` raised {type(error).__name__} because the server is away: {error.message}")
        store = OpenedAdapter(adapter)
        answer: Any = None
        try:
            answer = await store.get("scope", "key")
        except (AdapterUnavailable, AdapterTimeout) as error:
            answer = error
        expect(
            isinstance(answer, AdapterError), "A `get` while the server is away was answered with a value."
        )
        proxy.resume()
        await _works_again(store)


@group.check()
async def calls_survive_lost_connections(subject: Subject) -> None:
    """Connections are cut amid increments, again and again: the count is right, and all goes on by itself."""
    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        store = await subject.open(through=proxy)
        await _works_again(store)
        done, unknown, running = 0, 0, True

        async def work() -> None:
            nonlocal done, unknown
            while running:
                try:
                    await store.update("scope", "counter", increment)
                    done += 1
                except AdapterUnavailable:
                    await asyncio.sleep(0.01)
                except AdapterTimeout:
                    unknown += 1

        workers = [asyncio.ensure_future(work()) for _ in range(4)]
        try:
            for _ in range(5):
                before = done
                await _until(lambda: done > before + 5 or any(w.done() for w in workers), "went on")  # noqa: B023
                proxy.cut()
        finally:
            running = False
            await asyncio.wait(workers, timeout=CALL_SECONDS + MARGIN)
            for worker in workers:
                worker.cancel()
            results = await asyncio.gather(*workers, return_exceptions=True)
        _expect_adapter_errors(dict(enumerate(results)))
        await _works_again(store)
        count = int(await store.get("scope", "counter") or b"0")
        expect(count >= done, f"The counter is {count}, but {done} increments were answered.")
        expect(
            count <= done + unknown,
            f"The counter is {count} after {done} answered increments and {unknown} of unknown fate: some "
            "were done twice, or were done although AdapterUnavailable was raised.",
        )


LOST_ANSWERS = {
    f"{kind}-{after}": (kind, after) for kind in ("set", "update", "delete") for after in range(6)
}


@group.table(LOST_ANSWERS, applies=shares_a_server)
async def a_write_whose_answer_is_lost_is_done_once(subject: Subject, case: tuple[str, int]) -> None:
    """After so many answers the next is swallowed and the connection cut: the write is done at most once."""
    kind, after = case
    direct = await subject.open()
    watcher = await watch(direct, direct)
    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        store = await subject.open(through=proxy)
        await store.set("scope", "key", b"0")
        await store.get("scope", "key")
        first = await direct.set("scope", "key", b"1")
        await watcher.hears(first)
        proxy.swallow(after=after)
        call = asyncio.ensure_future(_write(store, kind))
        await _until(lambda: call.done() or len(watcher.seen) > 2, None, seconds=1.0)
        proxy.cut()
        await asyncio.wait([call], timeout=CALL_SECONDS + MARGIN)
        if not call.done():
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            expect(False, f"A `{kind}` whose answer was lost did not end: a time-out is missing.")
        proxy.resume()
        last = await direct.set("scope", "last", b"1")
        await watcher.hears(last)
        # What is sent again only after the caller was answered comes now.
        with contextlib.suppress(AdapterError):
            await store.get("scope", "key")
        last = await direct.set("scope", "last", b"2")
        await watcher.hears(last)
        await watcher.stop()
    made = [change for change in watcher.seen if change.key == "key"][2:]
    error = None if call.cancelled() else call.exception()
    expect(len(made) <= 1, f"A `{kind}` whose answer was lost was done {len(made)} times.")
    if error is None:
        expect(made == [call.result()], f"A `{kind}` was answered, but {len(made)} changes were made.")
    elif isinstance(error, AdapterUnavailable):
        expect(
            not made,
            f"A `{kind}` was made although its caller heard AdapterUnavailable: raise AdapterTimeout.",
        )
    else:
        expect(isinstance(error, AdapterError), f"A `{kind}` whose answer was lost raised {error!r:.100}.")


async def _write(store: OpenedAdapter, kind: str) -> Change:
    if kind == "set":
        return await store.set("scope", "key", b"2")
    if kind == "delete":
        return await store.delete("scope", "key")
    return await store.update("scope", "key", increment)


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


async def _works_again(store: OpenedAdapter) -> None:
    """A write and a read succeed within the time in which everything recovers."""
    end = time.monotonic() + CHANGES_SECONDS + MARGIN
    while True:
        try:
            await store.set("scope", "works", b"1")
            value = await store.get("scope", "works")
        except (AdapterUnavailable, AdapterTimeout) as error:
            expect(time.monotonic() < end, f"The store does not recover by itself: {error.message}")
            await asyncio.sleep(0.05)
        else:
            expect(value == b"1", "After a fault `get` does not give what was written.")
            return


async def _within(work: Awaitable[None], what: str) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=CALL_SECONDS + MARGIN)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1)
        expect(False, f"{what} did not end within {CALL_SECONDS + MARGIN:.0f} s while the server is silent.")
    await task


async def _until(condition: Callable[[], bool], what: str | None, *, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            expect(what is None, f"Nothing {what} within {seconds:g} s.")
            return
        await asyncio.sleep(0.002)


def _expect_adapter_errors(answers: dict[Any, Any]) -> None:
    for name, answer in answers.items():
        if isinstance(answer, BaseException):
            expect(
                isinstance(answer, AdapterError),
                f"While the server was out of reach {name!r} raised {answer!r:.120}, not an AdapterError.",
            )


def _names(calls: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in calls)
