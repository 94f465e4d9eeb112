"""Sharing: two hosts on one storage see each other's changes, each once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from iii_skill.adapter import CALL_SECONDS, StateAdapter
from iii_skill.errors import AdapterError
from iii_skill.testing.checks import Group, is_shared, keeps_data
from iii_skill.testing.child import Child
from iii_skill.testing.kit.concurrency import expect_chain, increment
from iii_skill.testing.kit.revisions import churn
from iii_skill.testing.kit.watcher import QUIET, drain, watch
from iii_skill.testing.subject import OpenedAdapter, Subject, expect, gather
from iii_skill.testing.workload import MADE, SCOPE
from iii_skill.values import KEEP, Change, Durability

group = Group("sharing", applies=is_shared, seconds=60.0)


def shares_a_server(adapter: type[StateAdapter]) -> bool:
    """Adapters that hosts of several processes share."""
    return adapter.shared and keeps_data(adapter)


def talks_to_others(adapter: type[StateAdapter]) -> bool:
    """Adapters whose store lies where others lie too."""
    return adapter.shared or adapter.durability is Durability.REMOTE


def counts_from_call(adapter: type[StateAdapter]) -> bool:
    """Shared adapters that are followed on demand."""
    return adapter.shared and adapter.changes_from_call


@group.check()
async def two_hosts_see_each_others_writes(subject: Subject) -> None:
    """What one instance was answered, the other reads at once: get, list, keys, scopes."""
    one, two = await subject.open(), await subject.open()
    for number in range(20):
        writer, reader = (one, two) if number % 2 else (two, one)
        value = b"%d" % number
        await writer.set("scope", f"key-{number}", value)
        expect(
            await reader.get("scope", f"key-{number}") == value, "A write of one host is unseen by the other."
        )
        expect(
            await reader.keys("scope") == [f"key-{n}" for n in range(number + 1)], "Hosts see other orders."
        )
        await writer.set("scope", "key-0", value)
        expect(
            await reader.get("scope", "key-0") == value, "A host reads a stale value after another's write."
        )
    await one.delete("scope", "key-3")
    expect(await two.get("scope", "key-3") is None, "A delete of one host is unseen by the other.")


@group.check()
async def updates_of_two_hosts_lose_nothing(subject: Subject) -> None:
    """8 tasks on two instances increment one counter: it is 160 and the Changes form one chain."""
    stores = [await subject.open(), await subject.open()]

    async def work(store: OpenedAdapter) -> list[Change]:
        return [await store.update("scope", "counter", increment) for _ in range(20)]

    changes = [c for part in await gather([work(stores[n % 2]) for n in range(8)]) for c in part]
    expect(await stores[0].get("scope", "counter") == b"160", "Two hosts lost increments of each other.")
    expect_chain(changes)


@group.check()
async def changes_yields_every_change_once_and_in_order(subject: Subject) -> None:
    """`changes()` of each instance yields what both were answered: all, once, in order for each key."""
    stores = [await subject.open(), await subject.open()]
    watchers = [await watch(store, stores[0]) for store in stores]

    async def work(number: int) -> list[Change]:
        store, made = stores[number % 2], []
        for step in range(12):
            key = f"key-{(number + step) % 4}"
            made.append(await store.update("scope", key, increment))
            if step % 5 == 4:
                made.append(await store.delete("scope", key))
            await store.update("scope", key, lambda _old: KEEP)
        return made

    answered = [change for part in await gather([work(number) for number in range(6)]) for change in part]
    for watcher in watchers:
        seen = await drain(watcher, stores[0], len(answered))
        for key in sorted({change.key for change in answered}):
            told = [change for change in seen if change.key == key]
            wanted = sorted((c for c in answered if c.key == key), key=lambda change: change.revision)
            expect(len(told) <= len(wanted), f"`changes()` yields {len(told)} of {len(wanted)}: some twice.")
            expect(
                len(told) >= len(wanted),
                f"`changes()` yields {len(told)} of {len(wanted)}: some are missing.",
            )
            revisions = [change.revision for change in told]
            expect(revisions == sorted(revisions), "`changes()` yields the changes of a key out of order.")
            expect(told == wanted, "`changes()` yields other values than the writers were answered.")


@group.check(applies=counts_from_call)
async def changes_counts_from_its_call(subject: Subject) -> None:
    """With `changes_from_call`, what is written after the call and before the first read is told."""
    one, two = await subject.open(), await subject.open()
    before = await one.set("scope", "key", b"1")
    changes = two.adapter.changes()
    # First of the host that called: what another one writes at once may overtake the call.
    made = [await two.set("scope", "key", b"2"), await one.set("scope", "key", b"3")]
    seen: list[Change] = []
    try:
        async with asyncio.timeout(CALL_SECONDS):
            while len(seen) < len(made):
                seen.append(await anext(changes))
    except TimeoutError:
        pass
    finally:
        await _close(changes)
    expect(before not in seen, "`changes()` yields what was written before it was called.")
    expect(
        seen == made, f"`changes()` yields {len(seen)} of {len(made)} changes made before it was first read."
    )


@group.check()
async def changes_tells_nothing_of_keep(subject: Subject) -> None:
    """A KEEP and an update whose `change` raised are no changes; a delete that found nothing is one."""
    one, two = await subject.open(), await subject.open()
    watcher = await watch(two, one)
    await one.update("scope", "key", lambda _old: KEEP)
    gone = await one.delete("scope", "key")
    seen = await drain(watcher, one, 1)
    expect(
        seen == [gone], f"`changes()` yields {len(seen)} changes for a KEEP and a delete that found nothing."
    )


@group.check()
async def a_slow_reader_of_changes_misses_nothing(subject: Subject) -> None:
    """A reader of `changes()` that stops reading while thousands are made is told all of them afterwards."""
    one, two = await subject.open(), await subject.open()
    changes = two.adapter.changes()
    first = asyncio.ensure_future(anext(changes))
    number = 0
    while not first.done():
        number += 1
        await one.set("churn", "first", b"%d" % number)
        await asyncio.wait([first], timeout=0.05)
    made = await churn(one, at_least=1_000, at_most=5_000, seconds=8)
    last = await one.set("churn", "last", b"1")
    seen: list[Change] = []
    try:
        while last not in seen[-1:]:
            seen.append(await asyncio.wait_for(anext(changes), QUIET))
    except TimeoutError:
        pass
    except StopAsyncIteration:
        expect(False, "`changes()` ended by itself while its reader was slow.")
    finally:
        await _close(changes)
    told = [change for change in seen if change.key not in ("first", "last")]
    missing = len(made) - len(told)
    expect(missing <= 0, f"`changes()` dropped {missing} of {len(made)} changes because its reader was slow.")
    expect(missing == 0, f"`changes()` yields {-missing} changes twice to a slow reader.")
    for key in {change.key for change in made}:
        wanted = sorted((c for c in made if c.key == key), key=lambda change: change.revision)
        expect([c for c in told if c.key == key] == wanted, "`changes()` is out of order for a slow reader.")


@group.check(applies=talks_to_others)
async def two_stores_are_apart(subject: Subject) -> None:
    """Another store, on the same server or not, shows nothing of this one, and its changes are not heard."""
    other = subject.other()
    stores = [await subject.open(), await other.open()]
    watchers = [await watch(store, store) for store in stores] if subject.adapter_type.shared else []
    made: list[list[Change]] = [[], []]
    for number in range(12):
        for place, store in enumerate(stores):
            made[place].append(await store.set("scope", f"key-{number % 5}", b'"%d-%d"' % (place, number)))
    gone = await stores[0].delete("scope", "key-1")
    made[0].append(gone)
    made[1].append(await stores[1].set("only-here", "key", b"1"))
    expect("only-here" not in await stores[0].scopes(), "A store shows a scope of another store.")
    expect(await stores[0].get("only-here", "key") is None, "A store shows a key of another store.")
    expect(await stores[1].get("scope", "key-1") == b'"1-11"', "A delete in one store reached another.")
    for place, watcher in enumerate(watchers):
        seen = await drain(watcher, stores[place], len(made[place]))
        strange = [change for change in seen if change not in made[place]]
        expect(not strange, f"`changes()` of one store yields {len(strange)} changes of another.")


@group.check(applies=shares_a_server)
async def a_paused_host_holds_nobody_up(subject: Subject) -> None:
    """A host is stopped while its `change` runs: others read and write the same key, and nothing is lost."""
    store = await subject.open()
    await store.set("scope", "counter", b"0")
    async with Child(subject, "pause") as child:
        await child.read("open")
        await child.read("stopping")
        await child.stopped()
        made: list[Change] = []
        try:
            async with asyncio.timeout(CALL_SECONDS + 5):
                for _ in range(3):
                    made.append(await store.update("scope", "counter", increment))
                await store.set("scope", "other", b"1")
                await store.list("scope")
        except TimeoutError:
            expect(False, "A host that was stopped in the middle of an `update` holds another one up.")
        except AdapterError as error:
            expect(False, f"A host that was stopped makes another one's call fail: {error.message}")
        child.send_continue()
        line = await child.line()
    expect(line is not None, "A host that was stopped and goes on ended by itself.")
    kind, new = line
    value = int(await store.get("scope", "counter") or b"0")
    if kind == "wrote":
        expect(
            value == 4 and int(new) == 4, f"A host that was stopped overwrote others: {value} after 4 steps."
        )
    else:
        expect(value in (3, 4), f"A host that was stopped harmed others' updates: the counter is {value}.")
    steps = [(change.old, change.new) for change in made]
    expect(steps == [(b"0", b"1"), (b"1", b"2"), (b"2", b"3")], f"Beside a stopped host updates are {steps}.")


@group.check()
async def a_reader_of_changes_can_be_cancelled(subject: Subject) -> None:
    """A cancelled reader of `changes()` harms nothing, and a new one can be made."""
    one, two = await subject.open(), await subject.open()
    for _ in range(3):
        watcher = await watch(two, one)
        await watcher.stop()
        await two.set("scope", "key", b"1")
        expect(
            await one.get("scope", "key") == b"1", "After a cancelled reader of `changes()` a write is lost."
        )


@group.check(applies=shares_a_server)
async def a_killed_host_harms_no_other(subject: Subject) -> None:
    """SIGKILL of one host amid writes: the other goes on and is told each acknowledged change once."""
    store = await subject.open()
    watcher = await watch(store, store)
    told: set[tuple[str, str, int]] = set()
    async with Child(subject, "write", base=1) as child:
        await child.read("open")
        while len(told) < 100:
            line = await child.line()
            expect(line is not None, "A second host failed while the first has the storage open.")
            _note(told, line)
            await store.update("scope", "counter", increment)
        child.send_kill()
        while (line := await child.line()) is not None:
            _note(told, line)
    last = [await store.update("scope", "counter", increment) for _ in range(20)][-1]
    expect(int(last.new or b"0") >= 120, "Writes beside a killed host are lost.")
    await watcher.hears(last)
    seen = [(change.scope, change.key, change.revision) for change in await drain(watcher, store, 0)]
    expect(len(seen) == len(set(seen)), "`changes()` yields a change of a killed host twice.")
    missing = told - set(seen)
    expect(not missing, f"`changes()` misses {len(missing)} acknowledged changes of a killed host.")


async def _close(changes: AsyncIterator[Change]) -> None:
    close = getattr(changes, "aclose", None)
    if close is not None:
        await close()


def _note(told: set[tuple[str, str, int]], line: list[Any]) -> None:
    kind, *words = line
    if kind == "wrote":
        told.add((SCOPE, words[0], words[2]))
    elif kind in ("made", "deleted"):
        told.add((MADE, f"{words[0]:012}", words[1]))
