"""Lasting ends: a reopen, a kill and another host change nothing about when a key ends and who is told."""

from __future__ import annotations

import json
from typing import Any

from iii_skill.adapter import Expiry, StateAdapter
from iii_skill.testing.checks import expires, is_shared, keeps_data
from iii_skill.testing.child import Child
from iii_skill.testing.kit.ends import HOUR_MS, NEVER, listen, now_ms, sweep_all
from iii_skill.testing.kit.expiry import group
from iii_skill.testing.subject import Subject, expect, gather
from iii_skill.testing.workload import ENDING, ENDING_MAKERS
from iii_skill.values import KEEP


def _shared_and_expires(adapter: type[StateAdapter]) -> bool:
    return is_shared(adapter) and expires(adapter)


def _kept_and_expires(adapter: type[StateAdapter]) -> bool:
    return keeps_data(adapter) and expires(adapter)


@group.check(applies=_kept_and_expires)
async def ends_outlive_a_reopen(subject: Subject) -> None:
    """After close and open a key has its end; what ended meanwhile is not seen and told once."""
    store = await subject.open()
    at = now_ms(subject) + HOUR_MS
    for key in ("one", "two", "three", "cleared", "again"):
        await store.set("scope", key, b'"%b"' % key.encode())
        await store.expire("scope", key, at)
    await store.expire("scope", "two", at + HOUR_MS)
    await store.expire("scope", "cleared", None)
    await store.set("scope", "again", b"1")
    store = await subject.reopen(store)
    expect(await store.expire("scope", "one", KEEP) == Expiry(True, at), "A reopen lost the end of a key.")
    expect(await store.sweep() == at, "After a reopen `sweep` does not tell the next end.")
    await store.adapter.close()
    subject.clock.advance(HOUR_MS / 1000)
    store = await subject.open()
    ends = await listen(store)
    expect(await store.get("scope", "three") is None, "A key that ended while the host was down is seen.")
    expect(await store.keys("scope") == ["two", "cleared", "again"], "A reopen lost or kept the wrong keys.")
    expect(await sweep_all(store, subject) == at + HOUR_MS, "After a reopen the next end is another one.")
    told = sorted(change.key for change in await ends.all(2))
    expect(told == ["one", "three"], f"After a reopen the ends of {told} were told.")
    store = await subject.reopen(store)
    ends = await listen(store)
    await sweep_all(store, subject)
    expect(await ends.all(0) == [], "An end was told again after a reopen.")


@group.table({"early": 3, "in-the-middle": 60, "late": 300}, applies=_kept_and_expires)
async def ends_outlive_a_kill(subject: Subject, count: int) -> None:
    """After SIGKILL amid ends every acknowledged one still comes, once, and none comes that was not given."""
    given: dict[str, int] = {}
    made: set[str] = set()
    ended: list[str] = []
    async with Child(subject, "expire") as child:
        await child.read("open")
        while len(given) < count:
            line = await child.line()
            expect(line is not None, "The process that gives ends ended by itself.")
            _note(line, given, made, ended)
        child.send_kill()
        while (line := await child.line()) is not None:
            _note(line, given, made, ended)
    store = await subject.open()
    there = dict(await store.list(ENDING))
    for key, value in there.items():
        expect(json.loads(value) == key, "After a kill a value is torn.")
    early = [key for key in ended if key in there]
    expect(not early, f"After a kill {len(early)} keys are back whose end was told.")
    lost = [key for key in made - given.keys() if key not in there and key not in ended]
    # At most the last call of each task: it was made, and its answer was not told.
    expect(len(lost) <= ENDING_MAKERS, f"After a kill {len(lost)} keys are gone that had no end.")
    ends = await listen(store)
    subject.clock.advance(10 * HOUR_MS / 1000)
    await sweep_all(store, subject)
    left = await store.keys(ENDING)
    expect(not given.keys() & set(left), "After a kill keys did not end whose end was acknowledged.")
    gone = set(there) - set(left)
    told = [change.key for change in await ends.all(len(gone))]
    expect(len(told) == len(set(told)), "After a kill an end was told twice.")
    twice = set(told) & set(ended)
    expect(not twice, f"{len(twice)} ends were told before and after a kill.")
    untold = gone - set(told)
    expect(not untold, f"After a kill {len(untold)} of {len(gone)} ends were not told.")


def _note(line: Any, given: dict[str, int], made: set[str], ended: list[str]) -> None:
    kind, key, *rest = line
    if kind == "given":
        given[key] = rest[0]
    elif kind == "made":
        made.add(key)
    else:
        expect(key not in ended, "An end was told twice.")
        ended.append(key)


@group.check(applies=_shared_and_expires)
async def two_hosts_see_the_same_ends(subject: Subject) -> None:
    """What one host gave and was answered, the other keeps to at once, whoever sweeps."""
    one, two = await subject.open(), await subject.open()
    for number in range(6):
        giver, reader = (one, two) if number % 2 else (two, one)
        key = f"key-{number}"
        await reader.set("scope", key, b"1")
        at = now_ms(subject) + HOUR_MS
        await giver.expire("scope", key, at)
        expect(await reader.expire("scope", key, KEEP) == Expiry(True, at), "The other host sees no end.")
        expect(await reader.get("scope", key) == b"1", "A key is gone before its end.")
        subject.clock.advance(HOUR_MS / 1000)
        expect(await reader.get("scope", key) is None, "The other host sees a key that is over.")
        expect(key not in await reader.keys("scope"), "The other host lists a key that is over.")
        change = await reader.update("scope", key, lambda old: b"2" if old is None else b"3")
        expect(change.new == b"2", "An update of the other host does not start fresh.")
        await giver.expire("scope", key, at + HOUR_MS)
        await reader.set("scope", key, b"4")
        expect(await giver.expire("scope", key, KEEP) == NEVER, "The other host's `set` left the end.")


@group.check(applies=_shared_and_expires)
async def two_hosts_make_each_end_once(subject: Subject) -> None:
    """Two hosts sweep at once, and write too: each hears of each end, once and in order."""
    stores = [await subject.open(), await subject.open()]
    names = [f"key-{number}" for number in range(600)]
    at = now_ms(subject) + HOUR_MS
    await gather([stores[n % 2].set("scope", name, b"1") for n, name in enumerate(names)])
    await gather([stores[n % 2].expire("scope", name, at) for n, name in enumerate(names)])
    ends = [await listen(store) for store in stores]
    subject.clock.advance(HOUR_MS / 1000)
    again = names[:50]
    updates = [store.update("scope", name, lambda old: old or b"2") for store in stores for name in again]
    await gather([sweep_all(store, subject) for store in stores for _ in range(2)] + list(updates))
    for heard in ends:
        told = [change.key for change in await heard.all(len(names))]
        expect(len(told) == len(set(told)), f"{len(told) - len(set(told))} ends were told twice.")
        expect(set(told) == set(names), f"{len(set(told))} of {len(names)} ends were told.")
    expect(sorted(await stores[0].keys("scope")) == sorted(again), "Keys are left that ended.")
