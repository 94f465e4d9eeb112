"""Deferred: listeners are called at once; everyone else awaits it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from iii_skill.adapter import Deferred


def listened(answer: Deferred[Any]) -> list[object]:
    heard: list[object] = []
    answer.listen(heard, list.append, list.append)
    return heard


def test_a_listener_hears_the_answer_before_set_result_returns() -> None:
    answer: Deferred[int] = Deferred()
    heard = listened(answer)
    assert not answer.done()
    answer.set_result(1)
    assert answer.done()
    assert heard == [1]


def test_a_listener_that_comes_late_hears_it_now() -> None:
    answer: Deferred[int] = Deferred()
    answer.set_result(1)
    assert listened(answer) == [1]
    error = ValueError("no")
    failed: Deferred[int] = Deferred()
    failed.set_exception(error)
    assert listened(failed) == [error]


def test_it_is_settled_once() -> None:
    answer: Deferred[int] = Deferred()
    answer.set_result(1)
    with pytest.raises(asyncio.InvalidStateError):
        answer.set_result(2)
    with pytest.raises(asyncio.InvalidStateError):
        answer.set_exception(ValueError("no"))
    assert listened(answer) == [1]


async def test_it_can_be_awaited_before_and_after() -> None:
    answer: Deferred[int] = Deferred()
    asyncio.get_running_loop().call_soon(answer.set_result, 1)
    assert await answer == 1
    assert await answer == 1
    failed: Deferred[int] = Deferred()
    asyncio.get_running_loop().call_soon(failed.set_exception, ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await failed


async def test_who_awaits_it_can_leave() -> None:
    answer: Deferred[int] = Deferred()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await answer
    answer.set_result(1)
    assert await answer == 1


async def test_all_who_wait_hear_it() -> None:
    answer: Deferred[int] = Deferred()
    waiting = [asyncio.ensure_future(answer) for _ in range(3)]
    await asyncio.sleep(0)
    heard = listened(answer)
    answer.set_result(1)
    assert heard == [1]
    assert await asyncio.gather(*waiting) == [1, 1, 1]


async def test_a_listener_that_fails_stops_nobody_else() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    for settle in (lambda answer: answer.set_result(0), lambda answer: answer.set_exception(ValueError())):
        answer: Deferred[int] = Deferred()
        answer.listen([], lambda _, value: 1 // value, lambda nothing, _: nothing.pop())
        settle(answer)
    assert [type(context["exception"]) for context in reported] == [IndexError, IndexError]


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_a_listener_that_cannot_use_the_answer_hears_of_it_as_a_failure(when: str) -> None:
    answer: Deferred[int] = Deferred()
    heard: list[object] = []
    others = listened(answer)
    if when == "after":
        answer.set_result(0)
    answer.listen(heard, lambda _, value: 1 // value, list.append)
    last = listened(answer) if when == "between" else others
    if when != "after":
        answer.set_result(0)
    assert [type(error) for error in heard] == [ZeroDivisionError]
    assert (others, last) == ([0], [0])
