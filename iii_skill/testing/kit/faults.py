"""Faults: the way to the server breaks, falls silent or loses answers, and every promise still holds.

A proxy stands between one instance and the server; where hosts share a store, another one goes straight.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from iii_skill.adapter import CALL_SECONDS
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable, IiiSkillError
from iii_skill.testing.kit.concurrency import increment
from iii_skill.testing.kit.outage import (
    CHECK_SECONDS,
    MARGIN,
    expect_adapter_errors,
    group,
    shares_a_server,
    until,
    within,
    works_again,
)
from iii_skill.testing.kit.watcher import watch
from iii_skill.testing.proxy import Proxy
from iii_skill.testing.subject import OpenedAdapter, Subject, expect, gather
from iii_skill.values import Change

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
        expect_adapter_errors(dict(zip(tasks, answers, strict=True)))
        proxy.resume()
        await works_again(store)


@group.check()
async def open_and_close_end_when_the_server_is_silent(subject: Subject) -> None:
    """`open` and `close` end in time when the server does not answer, and nothing is left behind."""
    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        store = await subject.open(through=proxy)
        await store.set("scope", "key", b"1")
        proxy.pause()
        writing = store.begin_update("scope", "key", increment)
        await asyncio.sleep(0)
        await within(store.adapter.close(), "`close`")
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        adapter = subject.make()
        with contextlib.suppress(IiiSkillError):
            await within(adapter.open(subject.config(through=proxy)), "`open`")
        await within(adapter.close(), "`close` after an `open` in silence")


@group.check()
async def a_server_that_is_away_at_open_is_waited_for(subject: Subject) -> None:
    """`open` succeeds while no server listens, calls are refused as unavailable, then all works by itself."""
    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        proxy.refuse()
        adapter = subject.make()
        try:
            await within(adapter.open(subject.config(through=proxy)), "`open`")
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
        await works_again(store)


@group.check()
async def calls_survive_lost_connections(subject: Subject) -> None:
    """Connections are cut amid increments, again and again: the count is right, and all goes on by itself."""
    with subject.proxy(seconds=CHECK_SECONDS) as proxy:
        store = await subject.open(through=proxy)
        await works_again(store)
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
                await until(lambda: done > before + 5 or any(w.done() for w in workers), "went on")  # noqa: B023
                proxy.cut()
        finally:
            running = False
            await asyncio.wait(workers, timeout=CALL_SECONDS + MARGIN)
            for worker in workers:
                worker.cancel()
            results = await asyncio.gather(*workers, return_exceptions=True)
        expect_adapter_errors(dict(enumerate(results)))
        await works_again(store)
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
        swallowed = proxy.swallowed
        call = asyncio.ensure_future(_write(store, kind))
        # What was swallowed may have been the answer to another call than that which makes the change.
        await until(lambda: call.done() or proxy.swallowed > swallowed, "was answered")
        await until(lambda: call.done() or len(watcher.seen) > 2, None, seconds=1.0)
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


def _names(calls: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in calls)
