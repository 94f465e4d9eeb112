"""Crashes: after SIGKILL in the middle of writes, everything acknowledged is there and nothing is torn."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from iii_skill.testing.checks import Group, keeps_data, keeps_data_here
from iii_skill.testing.child import Child
from iii_skill.testing.subject import OpenedAdapter, Subject, expect
from iii_skill.testing.workload import MADE, SCOPE, WRITERS, number_of

group = Group("crashes", applies=keeps_data, seconds=120.0)


@dataclass
class Told:
    """What the killed processes said before they died."""

    wrote: dict[str, int] = field(default_factory=dict)
    saw: dict[str, int] = field(default_factory=dict)
    revisions: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    made: list[int] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)
    acknowledged: int = 0

    def note(self, line: list[Any]) -> None:
        """Take in one line."""
        kind, *words = line
        if kind == "saw":
            key, number = words
            expect(number is not None, f"A `get` during the writes shows a torn value of {key}.")
            self.saw[key] = max(number, self.saw.get(key, 0))
            return
        self.acknowledged += 1
        if kind == "wrote":
            key, number, revision = words
            self.wrote[key] = max(number, self.wrote.get(key, 0))
            self._rise(SCOPE, key, revision)
            return
        number, revision = words
        self.deleted.add(number) if kind == "deleted" else self.made.append(number)
        self._rise(MADE, f"{number:012}", revision)

    def _rise(self, scope: str, key: str, revision: int) -> None:
        self.revisions[scope, key] = max(revision, self.revisions[scope, key])


KILLS = {
    "at-the-first-answer": (1, 1, 1),
    "early": (3, 7, 15),
    "in-the-middle": (60, 150),
    "late": (600,),
}


@group.table(KILLS)
async def acknowledged_writes_outlive_a_kill(subject: Subject, kills: tuple[int, ...]) -> None:
    """After SIGKILL amid concurrent writes every acknowledged or seen one is there, whole, in order."""
    told = Told()
    for round_, count in enumerate(kills, start=1):
        await _write_and_kill(subject, told, base=round_ * 1_000_000, count=count)
        store = await subject.open()
        await _expect_written(store, told, base=round_ * 1_000_000)
        await _expect_made(store, told)
        await store.adapter.close()


@group.table({"early": (2, 5), "in-the-middle": (100,)})
async def revisions_are_not_used_again_after_a_kill(subject: Subject, kills: tuple[int, ...]) -> None:
    """After SIGKILL every key goes on above the revisions that were told, also a deleted key."""
    told = Told()
    for round_, count in enumerate(kills, start=1):
        await _write_and_kill(subject, told, base=round_ * 1_000_000, count=count)
    store = await subject.open()
    for (scope, key), revision in told.revisions.items():
        change = await store.set(scope, key, b"0")
        expect(
            change.revision > revision,
            f"After a kill a change took revision {change.revision}, though {revision} had been told.",
        )


@group.check(applies=keeps_data_here)
async def what_was_recovered_stays(subject: Subject) -> None:
    """After SIGKILL the storage opens, and a further close and open shows the same contents."""
    told = Told()
    await _write_and_kill(subject, told, base=1_000_000, count=80)
    store = await subject.open()
    before = [await store.list(scope) for scope in (SCOPE, MADE)]
    expect(await store.list("scope") == [], "After a kill an unknown scope has keys.")
    store = await subject.reopen(store)
    after = [await store.list(scope) for scope in (SCOPE, MADE)]
    expect(before == after, "After a kill a second open shows other contents than the first.")


async def _write_and_kill(subject: Subject, told: Told, *, base: int, count: int) -> None:
    until = told.acknowledged + count
    async with Child(subject, "write", base=base) as child:
        await child.read("open")
        while told.acknowledged < until:
            line = await child.line()
            expect(
                line is not None, "The process that writes ended by itself: `update` raised, or it crashed."
            )
            told.note(line)
        child.send_kill()
        while (line := await child.line()) is not None:
            told.note(line)


async def _expect_written(store: OpenedAdapter, told: Told, *, base: int) -> None:
    for writer in range(WRITERS):
        key = f"writer-{writer}"
        value = await store.get(SCOPE, key)
        number = 0 if value is None else number_of(writer, value)
        expect(number is not None, f"After a kill the value of {key} is torn.")
        assert number is not None
        _expect_at_least(key, number, told)
        expect(
            number <= max(told.wrote.get(key, 0) + 1, base), f"After a kill {key} has a value never written."
        )
    counted = int(await store.get(SCOPE, "counter") or b"0")
    _expect_at_least("counter", counted, told)
    told.wrote["counter"] = counted
    listed = dict(await store.list(SCOPE))
    for key in [*(f"writer-{writer}" for writer in range(WRITERS)), "counter"]:
        expect(
            listed.get(key) == await store.get(SCOPE, key), f"After a kill `list` and `get` differ on {key}."
        )


def _expect_at_least(key: str, number: int, told: Told) -> None:
    wrote, saw = told.wrote.get(key, 0), told.saw.get(key, 0)
    expect(
        number >= wrote, f"After a kill an acknowledged write is lost: {key} is {number}, {wrote} was told."
    )
    expect(number >= saw, f"A read showed what a kill took back: {key} is {number}, {saw} was seen.")


async def _expect_made(store: OpenedAdapter, told: Told) -> None:
    names = await store.keys(MADE)
    expect(names == sorted(names), "After a kill the order is not that of first insertion.")
    there = {int(name) for name in names}
    lost = {number for number in told.made if number % 3} - there
    expect(not lost, f"After a kill {len(lost)} acknowledged new keys are lost.")
    expect(not told.deleted & there, "After a kill an acknowledged delete came back.")
    for name in names:
        expect(
            await store.get(MADE, name) == b"1", "After a kill `keys` gives a key that `get` does not find."
        )
    expect((MADE in await store.scopes()) == bool(names), "After a kill `scopes` does not agree with `keys`.")
