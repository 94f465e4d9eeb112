"""Linearizability: is a recorded concurrent history of one key what a single register could have answered?

The search is that of Wing and Gong with Lowe's memory of visited states: an operation may take effect at any
moment between its call and its answer, and the order found has to explain every answer. An operation without
an answer (its caller was cancelled or killed) may have taken effect at any later moment, or never.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias


class Anything(enum.Enum):
    """The type of ANY."""

    ANY = "any"


ANY: Final = Anything.ANY
"""The old value of an operation that may have met any value."""

Old: TypeAlias = bytes | Literal[Anything.ANY] | None


@dataclass(frozen=True)
class Operation:
    """A call on one key that found `old` and left `new`; a read leaves what it found.

    `called` and `answered` are readings of one clock; `answered` is None when no answer came.
    """

    called: int
    answered: int | None
    old: Old
    new: bytes | None
    label: str = ""

    def __str__(self) -> str:
        old = "anything" if self.old is ANY else repr(self.old)[:40]
        what = f"{self.label or 'call'} {old} -> {self.new!r:.40}"
        return f"{what} [{self.called}, {'no answer' if self.answered is None else self.answered}]"


def fault(operations: Sequence[Operation], *, initial: bytes | None = None) -> str | None:
    """None when the history is linearizable, else a sentence with the operation that cannot be explained."""
    ordered = sorted(operations, key=lambda operation: operation.called)
    required = sum(1 << place for place, op in enumerate(ordered) if op.answered is not None)
    visited: set[tuple[int, bytes | None]] = set()
    stack: list[tuple[int, bytes | None]] = [(0, initial)]
    furthest = 0
    while stack:
        state = stack.pop()
        done, value = state
        if done & required == required:
            return None
        if state in visited:
            continue
        visited.add(state)
        if (done & required).bit_count() > (furthest & required).bit_count():
            furthest = done
        for place in _candidates(ordered, done):
            operation = ordered[place]
            if operation.old is ANY or operation.old == value:
                stack.append((done | 1 << place, operation.new))
    return _explain(ordered, furthest)


def _candidates(ordered: Sequence[Operation], done: int) -> list[int]:
    """The operations that may come next: called before any of those left has been answered."""
    left = [place for place in range(len(ordered)) if not done >> place & 1]
    answers = [answered for place in left if (answered := ordered[place].answered) is not None]
    first = min(answers)
    return [place for place in left if ordered[place].called < first]


def _explain(ordered: Sequence[Operation], done: int) -> str:
    places = _candidates(ordered, done)
    stuck = min((ordered[place] for place in places if ordered[place].answered is not None), key=_answer)
    count = done.bit_count()
    return f"No order of the {len(ordered)} operations explains their answers; after {count}: {stuck}."


def _answer(operation: Operation) -> int:
    assert operation.answered is not None
    return operation.answered
