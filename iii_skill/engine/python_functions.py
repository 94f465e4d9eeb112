"""Python callables as functions of the engine: JSON in, JSON out, exceptions as errors with a code."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import json
import logging
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from iii_skill.calls import CHAIN, TRACE, Call, Failure, Handler
from iii_skill.errors import IiiSkillError, InputError

logger = logging.getLogger(__name__)

DEPTH: contextvars.ContextVar[int] = contextvars.ContextVar("DEPTH", default=0)
"""In a Python callable: how many observers led to its call, so that what it calls knows it too."""


def encoded(value: Any) -> bytes:
    """The value as compact JSON; InputError for what JSON cannot say (NaN, lone surrogates, other types)."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"The value is not JSON: {error}.") from None


def decoded(data: bytes) -> Any:
    """The value of encoded JSON; integers of any size stay exact."""
    return msgspec.json.decode(data)


class PythonFunctions:
    """The Python callables of one host; `running` counts the calls of them that are not answered yet."""

    def __init__(self) -> None:
        self.running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def handler(self, function: Callable[[Any], Any]) -> Handler:
        """A handler that runs the callable on the event loop, never inside the caller's stack."""

        def run(call: Call) -> None:
            try:
                result = function(decoded(call.data))
                if inspect.iscoroutine(result):
                    task = asyncio.get_running_loop().create_task(self._wait(call, result))
                    self._tasks.add(task)
                    task.add_done_callback(functools.partial(self._ended, call, result))
                    return
                _succeed(call, result)
            except Exception as error:
                _fail(call, error)
            self.running -= 1

        def handler(call: Call) -> None:
            self.running += 1
            loop = asyncio.get_running_loop()
            same = DEPTH.get() == call.depth and CHAIN.get() == call.chain and TRACE.get() == call.traceparent
            if same:
                loop.call_soon(run, call)
            else:
                inside = contextvars.copy_context()
                inside.run(DEPTH.set, call.depth)
                inside.run(CHAIN.set, call.chain)
                inside.run(TRACE.set, call.traceparent)
                loop.call_soon(run, call, context=inside)

        return handler

    async def _wait(self, call: Call, result: Coroutine[Any, Any, Any]) -> None:
        try:
            _succeed(call, await result)
        except asyncio.CancelledError:
            _cancelled(call)
            raise
        except Exception as error:
            _fail(call, error)
        finally:
            self.running -= 1

    def _ended(self, call: Call, result: Coroutine[Any, Any, Any], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if inspect.getcoroutinestate(result) == inspect.CORO_CREATED:
            # The task was cancelled before its first step: `_wait` has not begun.
            result.close()
            self.running -= 1
            _cancelled(call)


def _succeed(call: Call, result: Any) -> None:
    call.succeed(None if result is None else encoded(result))


def _cancelled(call: Call) -> None:
    # Whoever waits for it would wait for ever.
    call.reply(Failure("invocation_failed", f"{call.function_id} was cancelled before it answered."))


def _fail(call: Call, error: Exception) -> None:
    if isinstance(error, IiiSkillError):
        call.fail(error)
        return
    extra = {"traceparent": call.traceparent}
    logger.warning("function %s raised %s: %s", call.function_id, type(error).__name__, error, extra=extra)
    call.reply(Failure("invocation_failed", str(error), "".join(traceback.format_exception(error))))
