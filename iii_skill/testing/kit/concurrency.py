"""Concurrency: nothing is lost, torn or seen too late when many calls are under way."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial

from iii_skill.testing.checks import Group
from iii_skill.testing.kit.basics import ChangeRefused
from iii_skill.testing.subject import Subject, expect, gather
from iii_skill.values import KEEP, Change, ChangeFunction

group = Group("concurrency")

TASKS = 8
ROUNDS = 25


def increment(old: bytes | None) -> bytes:
    """The change of a counter."""
    return b"%d" % (int(old or b"0") + 1)


@group.check()
async def concurrent_updates_of_one_key_lose_nothing(subject: Subject) -> None:
    """8 tasks add 1 to one counter 25 times each: it is 200, and every answer is a different step."""
    store = await subject.open()

    async def work() -> list[Change]:
        return [await store.update("scope", "counter", increment) for _ in range(ROUNDS)]

    changes = [change for part in await gather([work() for _ in range(TASKS)]) for change in part]
    total = await store.get("scope", "counter")
    expect(total == b"%d" % (TASKS * ROUNDS), f"The counter is {total!r} after 200 increments.")
    expect_chain(changes)


@group.check()
async def concurrent_updates_of_many_keys_lose_nothing(subject: Subject) -> None:
    """8 tasks increment 10 counters in 2 scopes in different orders: no increment is lost."""
    store = await subject.open()
    places = [(scope, f"key-{number}") for scope in ("one", "two") for number in range(5)]

    async def work(shift: int) -> None:
        for step in range(5):
            order = places[(shift + step) % 10 :] + places[: (shift + step) % 10]
            await gather([store.update(scope, key, increment) for scope, key in order])

    await gather([work(shift) for shift in range(TASKS)])
    for scope in ("one", "two"):
        found = await store.list(scope)
        expect(len(found) == 5, f"`list` shows {len(found)} of 5 keys after concurrent updates.")
        expect({value for _, value in found} == {b"40"}, f"Counters are {found} after 40 increments each.")


@group.check()
async def one_of_many_creators_wins(subject: Subject) -> None:
    """20 updates that create a key only where it is absent: one creates, 19 keep, for each of 10 keys."""
    store = await subject.open()

    def creator(name: bytes) -> ChangeFunction:
        return lambda old: name if old is None else KEEP

    for round_ in range(10):
        key = f"key-{round_}"
        changes = await gather([store.update("scope", key, creator(b"%d" % number)) for number in range(20)])
        made = [change for change in changes if not change.kept]
        expect(len(made) == 1, f"{len(made)} callers created one key that was to be created once.")
        value = await store.get("scope", key)
        expect(value == made[0].new, "The key has another value than the one that created it.")
        others = {change.old for change in changes if change.kept}
        expect(others == {value}, "A KEEP tells an old value that the key did not have.")


@group.check()
async def concurrent_sets_and_deletes_form_one_chain(subject: Subject) -> None:
    """Sets, deletes and updates of one key under way at once form one chain in order of revision."""
    store = await subject.open()

    async def work(name: int) -> list[Change]:
        made: list[Change] = []
        for number in range(8):
            made.append(await store.set("scope", "key", b"%d" % (name * 100 + number)))
            made.append(await store.update("scope", "key", lambda old: (old or b"0") + b"0"))
            made.append(await store.delete("scope", "key"))
        return made

    expect_chain([change for part in await gather([work(name) for name in range(6)]) for change in part])


@group.check()
async def a_change_tells_what_change_saw_and_returned(subject: Subject) -> None:
    """Under contention each Change tells what its `change` was last given and returned."""
    store = await subject.open()

    async def work(name: int) -> None:
        for _ in range(10):
            runs: list[tuple[bytes | None, bytes]] = []

            def change(old: bytes | None, runs: list[tuple[bytes | None, bytes]] = runs) -> bytes:
                new = b"%d" % ((int(old or b"0") * 31 + name) % 1_000_003)
                runs.append((old, new))
                return new

            done = await store.update("scope", "key", change)
            expect(runs, "`update` answered without running `change`.")
            expect(
                (done.old, done.new) == runs[-1], "A Change tells other values than its `change` last saw."
            )

    await gather([work(name) for name in range(TASKS)])


@group.check()
async def errors_of_change_spare_the_calls_beside_them(subject: Subject) -> None:
    """Of 60 updates under way at once every third raises: the others count, each gets its own answer."""
    store = await subject.open()

    def refuse(_old: bytes | None) -> bytes:
        raise ChangeRefused("refused by the kit")

    async def call(number: int) -> bool:
        try:
            await store.update("scope", "counter", refuse if number % 3 == 0 else increment)
        except ChangeRefused:
            return False
        return True

    done = await gather([call(number) for number in range(60)])
    expect(
        done == [number % 3 != 0 for number in range(60)], "An error of one `change` reached another caller."
    )
    expect(
        await store.get("scope", "counter") == b"40", "An error of one `change` lost the update of another."
    )


@group.check()
async def an_answered_write_is_seen_by_every_later_read(subject: Subject) -> None:
    """After the answer to a write, get, list, keys and scopes show it, also while other keys are written."""
    store = await subject.open()
    running = True

    async def noise() -> None:
        while running:
            await gather([store.update("scope", f"noise-{number}", increment) for number in range(10)])
            await asyncio.sleep(0)

    other = asyncio.create_task(noise())
    try:
        for number in range(40):
            value, scope = b"%d" % number, f"scope-{number}"
            await store.set("scope", "key", value)
            expect(await store.get("scope", "key") == value, "A `get` after an answered `set` is stale.")
            await store.set("scope", "key", value + b"0")
            expect(dict(await store.list("scope"))["key"] == value + b"0", "A `list` after a `set` is stale.")
            await store.set(scope, "key", value)
            expect(scope in await store.scopes(), "`scopes` does not show a scope just made.")
            await store.delete(scope, "key")
            expect(await store.get(scope, "key") is None, "A `get` after an answered `delete` is stale.")
            expect(await store.keys(scope) == [], "`keys` after an answered `delete` is stale.")
    finally:
        running = False
        await other


@group.check()
async def plain_answers_come_in_the_order_of_the_calls(subject: Subject) -> None:
    """A plain `def update` applies and answers 50 calls for one key in the order of the calls."""
    store = await subject.open()
    if inspect.iscoroutinefunction(store.adapter.update):
        return
    answered: list[int] = []

    def setter(number: int) -> ChangeFunction:
        return lambda _old: b"%d" % number

    calls = []
    for number in range(50):
        call = store.begin_update("scope", "key", setter(number))
        call.add_done_callback(partial(_note, answered, number))
        calls.append(call)
    changes = await asyncio.gather(*calls)
    await asyncio.sleep(0)
    expect(answered == list(range(50)), f"Answers came in the order {answered[:10]}.")
    expect(
        [c.revision for c in changes] == sorted(c.revision for c in changes),
        "Calls were applied out of order.",
    )
    expect(await store.get("scope", "key") == b"49", "The last call is not the one that stands.")


def _note(answered: list[int], number: int, _done: object) -> None:
    answered.append(number)


def expect_chain(changes: list[Change]) -> None:
    """Sorted by revision, the changes of one key lead from nothing through each other's values."""
    ordered = sorted((change for change in changes if not change.kept), key=lambda change: change.revision)
    revisions = [change.revision for change in ordered]
    expect(len(set(revisions)) == len(revisions), "Two changes of one key have the same revision.")
    before: bytes | None = None
    for change in ordered:
        expect(
            change.old == before,
            f"Revision {change.revision} tells old={change.old!r:.60}, but before it was {before!r:.60}.",
        )
        before = change.new
