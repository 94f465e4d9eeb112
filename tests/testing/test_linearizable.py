"""The linearizability checker accepts what one register can answer and refuses what it cannot."""

from __future__ import annotations

import itertools
import random

import pytest

from iii_skill.testing.linearizable import ANY, Operation, fault


def read(called: int, answered: int, value: bytes | None) -> Operation:
    return Operation(called, answered, value, value, "get")


def wrote(called: int, answered: int | None, old: bytes | None, new: bytes | None) -> Operation:
    return Operation(called, answered, old, new, "set")


def lost(called: int, new: bytes | None) -> Operation:
    return Operation(called, None, ANY, new, "cancelled set")


GOOD: dict[str, list[Operation]] = {
    "nothing": [],
    "one after the other": [
        wrote(0, 1, None, b"1"),
        read(2, 3, b"1"),
        wrote(4, 5, b"1", None),
        read(6, 7, None),
    ],
    "a read beside a write may see the old value": [wrote(0, 3, None, b"1"), read(1, 2, None)],
    "a read beside a write may see the new value": [wrote(0, 3, None, b"1"), read(1, 2, b"1")],
    "writes side by side in either order": [
        wrote(0, 3, b"2", b"1"),
        wrote(1, 2, None, b"2"),
        read(4, 5, b"1"),
    ],
    "a write without an answer happened": [lost(0, b"1"), read(1, 2, b"1")],
    "a write without an answer did not happen": [lost(0, b"1"), read(1, 2, None)],
    "a write without an answer happens late": [lost(0, b"1"), read(1, 2, None), read(3, 4, b"1")],
    "a write without an answer lies between two": [
        lost(0, b"9"),
        wrote(1, 2, None, b"1"),
        wrote(3, 4, b"9", b"2"),
    ],
}

BAD: dict[str, list[Operation]] = {
    "stale read": [wrote(0, 1, None, b"1"), read(2, 3, None)],
    "read of what nobody wrote": [wrote(0, 1, None, b"1"), read(2, 3, b"2")],
    "read before the write": [read(0, 1, b"1"), wrote(2, 3, None, b"1")],
    "lost update": [wrote(0, 2, b"0", b"1"), wrote(1, 3, b"0", b"1"), read(4, 5, b"1")],
    "two creators": [wrote(0, 2, None, b"1"), wrote(1, 3, None, b"2")],
    "value goes back": [wrote(0, 5, None, b"1"), read(1, 2, b"1"), read(3, 4, None)],
    "readers disagree on the order": [
        wrote(0, 9, None, b"1"),
        wrote(0, 9, b"1", b"2"),
        read(1, 2, b"2"),
        read(3, 4, b"1"),
    ],
    "delete came back": [wrote(0, 1, None, b"1"), wrote(2, 3, b"1", None), read(4, 5, b"1")],
    "old value of a set is stale": [
        wrote(0, 1, None, b"1"),
        wrote(2, 3, b"1", b"2"),
        wrote(4, 5, b"1", b"3"),
    ],
    "acknowledged write is gone": [wrote(0, 1, None, b"1"), lost(2, b"2"), read(3, 4, None)],
    "a write without an answer happens twice": [
        lost(0, b"9"),
        read(1, 2, b"9"),
        wrote(3, 4, b"9", b"1"),
        read(5, 6, b"9"),
    ],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_a_history_of_one_register_is_accepted(history: list[Operation]) -> None:
    for order in itertools.islice(itertools.permutations(history), 24):
        assert fault(order) is None


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_a_history_that_no_register_gives_is_refused(history: list[Operation]) -> None:
    for order in itertools.islice(itertools.permutations(history), 24):
        assert "explains" in (fault(order) or "")


def test_the_initial_value_counts() -> None:
    assert fault([read(0, 1, b"1")], initial=b"1") is None
    assert fault([read(0, 1, None)], initial=b"1") is not None


def recorded(seed: int, count: int) -> list[Operation]:
    """A history of a real register: every operation takes effect somewhere inside its interval."""
    chance = random.Random(seed)
    moments = sorted((chance.uniform(0, count), number) for number in range(count))
    value: bytes | None = None
    operations = []
    for moment, number in moments:
        called, answered = (moment - chance.uniform(0, 4)) * 1000, (moment + chance.uniform(0, 4)) * 1000
        new = value if chance.random() < 0.5 else b"%d" % number
        operations.append(Operation(int(called), int(answered), value, new))
        value = new
    return operations


@pytest.mark.parametrize("seed", range(20))
def test_a_long_history_is_accepted_and_its_damage_refused(seed: int) -> None:
    operations = recorded(seed, 300)
    assert fault(operations) is None
    chance = random.Random(seed)
    place = chance.randrange(len(operations))
    damaged = operations[place]
    operations[place] = Operation(damaged.called, damaged.answered, b"never written", damaged.new)
    assert fault(operations) is not None
