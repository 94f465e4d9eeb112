"""Moments: what all keys held at once, while several writers and hosts change them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from iii_skill.adapter import StateAdapter, Write, settled
from iii_skill.testing.kit.versions import group, opened
from iii_skill.testing.subject import OpenedAdapter, Subject, expect, gather

_WRITERS = 4
_WRITES = 60
_MOMENTS = 12


def _together_and_historical(adapter: type[StateAdapter]) -> bool:
    return adapter.together and adapter.historical


@group.check()
async def a_moment_is_a_cut(subject: Subject) -> None:
    """Four writers, each with one write after the other in 5 scopes, by two hosts if shared: a moment has the
    first ones of each, and the same when it is read again later."""
    stores = [await opened(subject, keep=1000)]
    if subject.adapter_type.shared:
        stores.append(await subject.open())
    chance = random.Random(1)
    steps = [asyncio.Event() for _ in range(_MOMENTS)]

    async def write(writer: int) -> None:
        for number in range(_WRITES):
            steps[number * _MOMENTS // _WRITES].set()
            store = stores[(writer + number) % len(stores)]
            await store.set(f"scope-{(writer + number) % 5}", f"{writer}-{number}", b"1")
            await asyncio.sleep(chance.uniform(0, 0.004))

    async def look() -> None:
        for step, begun in enumerate(steps):
            await begun.wait()
            await asyncio.sleep(chance.uniform(0, 0.006))
            store = stores[step % len(stores)]
            at_ms = subject.clock.now_ms() - 1
            moment = await settled(store.adapter.moment_at(at_ms))
            seen.append((moment, await _keys_at(store, moment)))

    seen: list[tuple[int, set[str]]] = []
    await gather([*(write(writer) for writer in range(_WRITERS)), look()])
    for moment, keys in seen:
        again = await _keys_at(stores[-1], moment)
        for writer in range(_WRITERS):
            numbers = sorted(int(key.partition("-")[2]) for key in again if key.startswith(f"{writer}-"))
            expect(
                numbers == list(range(len(numbers))),
                "A moment has a change without one that was answered before it was called.",
            )
        expect(keys == again, f"Read again, a moment has {len(again)} keys instead of {len(keys)}.")


@group.check(applies=_together_and_historical)
async def a_moment_has_all_that_was_written_together(subject: Subject) -> None:
    """While writes are made together, at every moment all of them are there or none."""
    store = await opened(subject, keep=1000)
    names = [(f"scope-{number % 7}", f"key-{number}") for number in range(1500)]

    async def write() -> None:
        for value in range(3):
            await store.adapter.write_together(
                [Write(scope, key, b"%d" % value, False) for scope, key in names]
            )

    work = asyncio.ensure_future(write())
    moments: set[int] = set()
    while not work.done():
        moments.add(await settled(store.adapter.moment_at(subject.clock.now_ms() - 1)))
        await asyncio.sleep(0.01)
    await work
    newest = await settled(store.adapter.moment_at(subject.clock.now_ms()))
    for moment in sorted(moments | set(range(max(0, newest - 12), newest + 1))):
        values = await _values_at(store, moment)
        count = len(values)
        expect(count in (0, len(names)), f"A moment has {count} of {len(names)} that were written together.")
        expect(len(set(values)) < 2, "A moment has writes of two steps, each of which was made together.")


async def _keys_at(store: OpenedAdapter, moment: int) -> set[str]:
    return {key for key, _ in await _pairs_at(store, moment)}


async def _values_at(store: OpenedAdapter, moment: int) -> Sequence[bytes]:
    return [value for _, value in await _pairs_at(store, moment)]


async def _pairs_at(store: OpenedAdapter, moment: int) -> Sequence[tuple[str, bytes]]:
    pairs: list[tuple[str, bytes]] = []
    after: str | None = None
    while True:
        page = await settled(store.adapter.past(moment, after, 1000))
        expect(moment >= page.whole_from, "Writes made the past forgotten.")
        for one in page.keys:
            expect(one.known_from_ms is None, "What a key held is forgotten although it is kept.")
            if one.value is not None:
                pairs.append((one.key, one.value))
        if page.after is None:
            return pairs
        after = page.after
