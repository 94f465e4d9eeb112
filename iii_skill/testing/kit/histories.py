"""Histories: recorded concurrent calls are linearizable, and sequences of calls do what a dictionary does."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from iii_skill.testing.checks import Group, is_shared, keeps_data
from iii_skill.testing.linearizable import ANY, Operation, fault
from iii_skill.testing.subject import OpenedAdapter, Subject, expect, gather
from iii_skill.values import KEEP, Change, ChangeFunction

group = Group("histories")

KEYS = ("a", "b", "c")
SEEDS = {f"seed-{seed}": seed for seed in range(8)}


@dataclass
class OperationRecorder:
    """The operations on each key, with one clock for all."""

    clock: Iterator[int] = field(default_factory=itertools.count)
    operations: dict[str, list[Operation]] = field(default_factory=lambda: {key: [] for key in KEYS})

    def read(self, label: str, called: int, values: dict[str, bytes | None]) -> None:
        """A read of these keys was answered."""
        answered = next(self.clock)
        for key, value in values.items():
            self.operations[key].append(Operation(called, answered, value, value, label))

    def changed(self, label: str, called: int, change: Change) -> None:
        """A change was answered."""
        operation = Operation(called, next(self.clock), change.old, change.new, label)
        self.operations[change.key].append(operation)

    def lost(self, label: str, key: str, called: int, new: bytes | None) -> None:
        """A change was called and its caller gave up."""
        self.operations[key].append(Operation(called, None, ANY, new, label))


@group.table(SEEDS)
async def a_concurrent_history_is_linearizable(subject: Subject, seed: int) -> None:
    """6 tasks of random reads, changes and cancelled sets: one order explains all answers."""
    await _expect_linearizable([await subject.open()], seed)


@group.table(SEEDS, applies=is_shared)
async def a_history_of_two_hosts_is_linearizable(subject: Subject, seed: int) -> None:
    """Random calls through two instances on one storage: one order explains all answers."""
    await _expect_linearizable([await subject.open(), await subject.open()], seed)


@group.table({f"seed-{seed}": seed for seed in range(20)})
async def a_sequence_does_what_a_dictionary_does(subject: Subject, seed: int) -> None:
    """60 random calls one after the other answer what dictionaries in Python would."""
    chance = random.Random(seed)
    store = await subject.open()
    model: dict[str, dict[str, bytes]] = {}
    revisions: dict[tuple[str, str], int] = {}
    for step in range(60):
        scope, key = chance.choice("xy"), chance.choice("abcd")
        old = model.get(scope, {}).get(key)
        change = await _call(
            store, scope, key, chance.choice(("set", "set", "delete", "update", "keep")), step
        )
        if change.kept:
            expect(
                (change.old, change.new) == (old, old), f"Call {step}: KEEP tells a value that is not there."
            )
        else:
            expect(change.old == old, f"Call {step} tells old={change.old!r}, but {old!r} was there.")
            _store(model, scope, key, change.new)
            before = revisions.get((scope, key), 0)
            expect(change.revision > before, f"Call {step} takes revision {change.revision} after {before}.")
            revisions[scope, key] = change.revision
        if keeps_data(subject.adapter_type) and chance.random() < 0.05:
            store = await subject.reopen(store)
        await _compare(store, model, step)


async def _expect_linearizable(stores: Sequence[OpenedAdapter], seed: int) -> None:
    recorder = OperationRecorder()
    numbers = itertools.count(1)
    await gather(
        [
            _work(store, recorder, random.Random(seed * 100 + number), numbers)
            for number, store in enumerate(itertools.islice(itertools.cycle(stores), 6))
        ]
    )
    for key, operations in recorder.operations.items():
        reason = fault(operations)
        expect(reason is None, f"The history of key '{key}' is not linearizable. {reason}")


async def _work(
    store: OpenedAdapter, recorder: OperationRecorder, chance: random.Random, numbers: Iterator[int]
) -> None:
    for _ in range(20):
        key, value = chance.choice(KEYS), b"%d" % next(numbers)
        kind = chance.choices(
            ("get", "list", "set", "delete", "update", "keep", "give up"), (3, 2, 3, 1, 3, 1, 1)
        )[0]
        called = next(recorder.clock)
        if kind == "get":
            recorder.read(kind, called, {key: await store.get("scope", key)})
        elif kind == "list":
            pairs = dict(await store.list("scope"))
            recorder.read(kind, called, {name: pairs.get(name) for name in KEYS})
        elif kind == "give up":
            await _give_up(store, recorder, key, value, chance.randrange(3))
        else:
            change = _changes(kind, value)
            recorder.changed(kind, called, await store.update("scope", key, change))
        for _ in range(chance.randrange(2)):
            await asyncio.sleep(0)


async def _give_up(
    store: OpenedAdapter, recorder: OperationRecorder, key: str, value: bytes, turns: int
) -> None:
    called = next(recorder.clock)
    task = asyncio.create_task(store.set("scope", key, value))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    (answer,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(answer, Change):
        recorder.changed("set", called, answer)
    elif isinstance(answer, asyncio.CancelledError):
        recorder.lost("cancelled set", key, called, value)
    else:
        raise answer


def _changes(kind: str, value: bytes) -> ChangeFunction:
    if kind == "delete":
        return lambda _old: None
    if kind == "keep":
        return lambda _old: KEEP
    if kind == "set":
        return lambda _old: value
    return lambda old: b"%d" % (int(value) * 1000 + int(old or b"0") % 1000)


async def _call(store: OpenedAdapter, scope: str, key: str, kind: str, step: int) -> Change:
    if kind == "set":
        return await store.set(scope, key, b"%d" % step)
    if kind == "delete":
        return await store.delete(scope, key)
    if kind == "keep":
        return await store.update(scope, key, lambda _old: KEEP)
    return await store.update(scope, key, lambda old: (old or b"") + b"1")


def _store(model: dict[str, dict[str, bytes]], scope: str, key: str, new: bytes | None) -> None:
    if new is not None:
        model.setdefault(scope, {})[key] = new
    elif model.get(scope, {}).pop(key, None) is not None and not model[scope]:
        del model[scope]


async def _compare(store: OpenedAdapter, model: dict[str, dict[str, bytes]], step: int) -> None:
    expect(sorted(await store.scopes()) == sorted(model), f"After call {step} `scopes` is wrong.")
    for scope in "xy":
        held = model.get(scope, {})
        expect(await store.list(scope) == list(held.items()), f"After call {step} `list` is wrong.")
        for key in "abcd":
            expect(await store.get(scope, key) == held.get(key), f"After call {step} `get` is wrong.")
