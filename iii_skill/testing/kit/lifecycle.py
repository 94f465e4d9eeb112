"""Lifecycle: open, close and reopen, and a caller that is cancelled while it waits."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

from iii_skill.adapter import Health
from iii_skill.errors import AdapterError
from iii_skill.testing.checks import Group, keeps_data
from iii_skill.testing.kit.concurrency import increment
from iii_skill.testing.subject import Subject, expect, gather

group = Group("lifecycle")

ENDING_SECONDS = 5.0


@group.check()
async def close_twice_is_harmless(subject: Subject) -> None:
    """`close` may be called again, and at the same time."""
    store = await subject.open()
    await store.set("scope", "key", b"1")
    await gather([store.adapter.close(), store.adapter.close()])
    await store.adapter.close()


@group.check()
async def close_before_open_is_harmless(subject: Subject) -> None:
    """`close` of an instance that was never opened does nothing, also twice."""
    adapter = subject.make()
    await adapter.close()
    await adapter.close()


@group.check()
async def a_cancelled_open_can_be_closed(subject: Subject) -> None:
    """An `open` that is cancelled midway leaves nothing that keeps a new instance from opening."""
    for steps in range(4):
        adapter = subject.make()
        opening = asyncio.ensure_future(adapter.open(subject.config()))
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await adapter.close()
    store = await subject.open()
    await store.set("scope", "key", b"1")
    expect(await store.get("scope", "key") == b"1", "After cancelled opens a new instance does not work.")


@group.check()
async def close_leaves_nothing_running(subject: Subject) -> None:
    """After `close` the adapter has no task, no thread and no open file left."""
    await _use_and_close(subject)
    tasks, threads, files = asyncio.all_tasks(), _threads(), _open_files()
    for _ in range(3):
        await _use_and_close(subject)
    await asyncio.sleep(0)
    left = [task.get_name() for task in asyncio.all_tasks() - tasks]
    expect(not left, f"After `close` tasks are still there: {left[:3]}.")
    # A thread that was told to end, and what the system closes, may take a moment.
    end = time.monotonic() + ENDING_SECONDS
    while time.monotonic() < end and not (_threads() <= threads and _open_files() <= files):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    more = sorted(thread.name for thread in _threads() - threads)
    expect(not more, f"After `close` threads are still there: {more[:3]}.")
    expect(_open_files() <= files, f"{_open_files() - files} files stay open after 3 times open and close.")


@group.check()
async def close_finishes_what_was_accepted(subject: Subject) -> None:
    """Calls under way at `close` are all answered; what was acknowledged is there after a reopen."""
    store = await subject.open()
    calls = [store.begin_update("scope", f"key-{number}", increment) for number in range(40)]
    await asyncio.sleep(0)
    await store.adapter.close()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    wrong = [
        answer
        for answer in answers
        if isinstance(answer, BaseException) and not isinstance(answer, AdapterError)
    ]
    expect(
        not wrong, f"A call that `close` overtook got {wrong[:1]!r:.100}, not an answer or an AdapterError."
    )
    if keeps_data(subject.adapter_type):
        done = {f"key-{n}" for n, answer in enumerate(answers) if not isinstance(answer, BaseException)}
        store = await subject.open()
        missing = done - set(await store.keys("scope"))
        expect(not missing, f"{len(missing)} acknowledged writes are lost after `close`.")


@group.check()
async def erase_leaves_nothing(subject: Subject) -> None:
    """After `erase` the store is as fresh as a new one, for the next `open` too."""
    store = await subject.open()
    for scope in ("one", "two"):
        for key in ("a", "b"):
            await store.set(scope, key, b"1")
    await store.delete("two", "a")
    await store.adapter.erase()
    await store.adapter.close()
    store = await subject.open()
    expect(await store.scopes() == [], "After `erase` a scope is still there.")
    for scope in ("one", "two"):
        expect(await store.list(scope) == [], "After `erase` a key is still listed.")
        expect(await store.get(scope, "b") is None, "After `erase` a value is still there.")
    await store.set("one", "b", b"2")
    expect(await store.list("one") == [("b", b"2")], "After `erase` a store is not as good as new.")


@group.check()
async def health_tells_how_the_store_is(subject: Subject) -> None:
    """`health` of an open store that answers is a Health that says ok."""
    store = await subject.open()
    health = await store.adapter.health()
    expect(isinstance(health, Health), f"`health` answered {type(health).__name__}, not a Health.")
    expect(health.ok and not health.message, f"`health` of a store that answers says: {health.message}")


@group.check(applies=keeps_data)
async def data_outlives_a_reopen(subject: Subject) -> None:
    """Everything written is there after close and open, and what was deleted stays deleted."""
    store = await subject.open()
    for scope in ("one", "two", ""):
        for key in ("a", "b", "\0", "gone"):
            await store.set(scope, key, b'"%s"' % scope.encode())
        await store.delete(scope, "gone")
    before = {scope: await store.list(scope) for scope in await store.scopes()}
    store = await subject.reopen(store)
    after = {scope: await store.list(scope) for scope in await store.scopes()}
    expect(after == before, "After close and open the store has other contents than before.")


@group.check(applies=keeps_data)
async def a_write_after_close_is_never_lost_silently(subject: Subject) -> None:
    """A write after `close` is refused with an AdapterError; one that is acknowledged is there."""
    store = await subject.open()
    await store.set("scope", "before", b"1")
    await store.adapter.close()
    try:
        await store.set("scope", "after", b"1")
    except AdapterError:
        acknowledged = False
    else:
        acknowledged = True
    store = await subject.open()
    expect(await store.get("scope", "before") == b"1", "A write after `close` harmed what was there.")
    expect(
        not acknowledged or await store.get("scope", "after") == b"1",
        "A write after `close` was acknowledged and is lost.",
    )


@group.check()
async def cancelled_callers_leave_the_store_whole(subject: Subject) -> None:
    """Of 60 increments under way half are cancelled: the others all count, and later calls work."""
    store = await subject.open()
    for round_ in range(5):
        key = f"counter-{round_}"
        calls = [asyncio.create_task(store.update("scope", key, increment)) for _ in range(60)]
        for _ in range(round_):
            await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        wrong = [
            a for a in answers if isinstance(a, BaseException) and not isinstance(a, asyncio.CancelledError)
        ]
        expect(not wrong, f"A cancelled caller made another one fail: {wrong[:1]!r:.120}.")
        done = sum(not isinstance(answer, BaseException) for answer in answers)
        expect(done >= 30, "A caller that was not cancelled got no answer.")
        count = int((await store.update("scope", key, increment)).old or b"0")
        expect(done <= count <= 60, f"The counter is {count} after {done} answered of 60 calls.")
    expect(len(await store.list("scope")) == 5, "After cancelled calls `list` is wrong.")


@group.check()
async def a_cancelled_read_harms_nothing(subject: Subject) -> None:
    """A cancelled get, list or scopes leaves later calls as they were."""
    store = await subject.open()
    await store.set("scope", "key", b"1")
    for steps in range(3):
        reads = [
            asyncio.ensure_future(read)
            for read in (store.get("scope", "key"), store.list("scope"), store.scopes(), store.keys("scope"))
        ]
        for _ in range(steps):
            await asyncio.sleep(0)
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        expect(await store.get("scope", "key") == b"1", "After a cancelled read `get` is wrong.")
        expect(await store.list("scope") == [("key", b"1")], "After a cancelled read `list` is wrong.")


async def _use_and_close(subject: Subject) -> None:
    store = await subject.open()
    await store.set("scope", "key", b"1")
    await store.get("scope", "key")
    await store.list("scope")
    await store.adapter.close()


def _threads() -> set[threading.Thread]:
    """Threads beside the event loop's own pool, which `asyncio.to_thread` keeps for later."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


def _open_files() -> int:
    own = Path("/proc/self/fd")
    return len(os.listdir(own)) if own.is_dir() else 0
