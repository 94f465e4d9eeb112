"""What workers say about observers, in the order in which they say it.

Answers to `observe` leave in the order in which the `observe`s came: what one must wait for, until its args
were checked against a schema, holds back what the same worker says after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeAlias

import msgspec

from iii_skill.engine.engine import Engine
from iii_skill.engine.functions import Function
from iii_skill.engine.workers import Worker
from iii_skill.errors import CallerError
from iii_skill.json_schema import BadSchema, CheckFailed, SchemaChecker
from iii_skill.observers.errors import refused
from iii_skill.observers.legacy import LegacyTypes
from iii_skill.observers.observer import Accepted, Observer
from iii_skill.observers.table import Observers
from iii_skill.protocol.messages import (
    ErrorBody,
    InvocationsObserved,
    Observe,
    ObserverAck,
    Unobserve,
    UnreadableObserve,
)
from iii_skill.protocol.outgoing import ObserveResult, RegistrationRejected

logger = logging.getLogger(__name__)

Said: TypeAlias = Observe | UnreadableObserve | Unobserve

_encode = msgspec.json.Encoder().encode


def read_observe(encoded: bytes) -> Observe:
    """The message of its text; raises INVALID_ARGS."""
    try:
        return msgspec.json.decode(encoded, type=Observe)
    except msgspec.DecodeError as error:
        raise refused("INVALID_ARGS", f"The observer cannot be read: {error}") from None


class ObserverMessages:
    """Joins the messages of workers to the table."""

    def __init__(self, engine: Engine, observers: Observers, checker: SchemaChecker) -> None:
        self._engine = engine
        self._observers = observers
        self._checker = checker
        # By worker, while one of its messages waits: what it said after that.
        self._waiting: dict[str, deque[Said]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        LegacyTypes(engine, observers)
        observers.verify = self._verify
        engine.on_function.append(self._check_args_format)
        engine.through = observers.delivery.through
        engine.actions.update(
            {
                Observe: self._said,
                UnreadableObserve: self._said,
                Unobserve: self._said,
                ObserverAck: observers.acknowledged,
                InvocationsObserved: observers.delivery.report,
            }
        )

    async def observe(self, message: Observe) -> Accepted:
        """Take an observer of the host itself; raises CallerError with the code of the refusal."""
        await self._settled_args(message)
        return self._observers.observe(None, message, args_fit=True)

    async def close(self) -> None:
        """Stop what waits."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _said(self, worker: Worker, message: Said) -> None:
        waiting = self._waiting.get(worker.id)
        if waiting is not None:
            waiting.append(message)
            return
        later = self._act(worker, message)
        if later is not None:
            self._waiting[worker.id] = deque()
            self._spawn(self._go_on(worker, later))

    def _act(self, worker: Worker, message: Said) -> Coroutine[Any, Any, None] | None:
        """Act at once, or give what is to be waited for."""
        if isinstance(message, Unobserve):
            self._observers.unobserve(worker, message.id)
        elif isinstance(message, UnreadableObserve):
            self._answer(
                worker, message.id, refused("INVALID_ARGS", f"The observer cannot be read: {message.reason}")
            )
        else:
            source = self._source(message)
            if source is not None and source.observable and self._has_schema(source):
                return self._observe_later(worker, message)
            self._observe(worker, message)
        return None

    def _observe(self, worker: Worker, message: Observe, *, args_fit: bool = True) -> None:
        try:
            taken = self._observers.observe(worker, message, args_fit=args_fit)
        except CallerError as error:
            self._answer(worker, message.id, error)
            return
        observer = taken.observer
        reason = observer.reason
        body = None if reason is None else ErrorBody(reason.code, reason.message)
        worker.send(ObserveResult(observer.id, observer.state.value, body, taken.warnings or None))

    async def _observe_later(self, worker: Worker, message: Observe) -> None:
        try:
            await self._settled_args(message)
        except CallerError as error:
            self._answer(worker, message.id, error)
            return
        if worker.live:
            self._observe(worker, message)

    async def _go_on(self, worker: Worker, later: Coroutine[Any, Any, None]) -> None:
        waiting = self._waiting[worker.id]
        try:
            await later
            while waiting and worker.live:
                following = self._act(worker, waiting.popleft())
                if following is not None:
                    await following
        finally:
            del self._waiting[worker.id]

    def _answer(self, worker: Worker, observer_id: str, error: CallerError) -> None:
        worker.send(ObserveResult(observer_id, "error", ErrorBody(error.code, error.message)))

    # Schemas of args.

    def _verify(self, observer: Observer, function: Function) -> bool:
        """Whether the args of an observer fit a source that came after it; False: it is being found out."""
        if not self._has_schema(function):
            return True
        self._spawn(self._verify_later(observer, function))
        return False

    async def _verify_later(self, observer: Observer, function: Function) -> None:
        try:
            await self._check(function, observer.definition.args)
        except CallerError as error:
            self._observers.args_checked(observer, function, error)
        else:
            self._observers.args_checked(observer, function, None)

    async def _settled_args(self, message: Observe) -> None:
        """Raise INVALID_ARGS unless the args fit the source that is there when this returns."""
        checked: Function | None = None
        while (function := self._source(message)) is not checked:
            if function is not None and self._has_schema(function):
                await self._check(function, {} if message.source.args is None else message.source.args)
            checked = function

    async def _check(self, function: Function, args: Any) -> None:
        """Raise INVALID_ARGS; a schema that cannot be used checks nothing, and that is logged."""
        try:
            faults = await self._checker.errors(_encode(function.args_format), _encode(args))
        except (BadSchema, CheckFailed) as error:
            logger.warning("args of observers of %s are not checked: %s", function.id, error.message)
            return
        if faults:
            raise refused("INVALID_ARGS", f"The args do not fit {function.id}: {'; '.join(faults)}")

    def _check_args_format(self, function: Function) -> None:
        owner = function.owner
        if function.args_format is not None and owner is not None and "observe.v2" in owner.features:
            self._spawn(self._refuse_bad_schema(owner, function))

    async def _refuse_bad_schema(self, owner: Worker, function: Function) -> None:
        try:
            await self._checker.check_schema(_encode(function.args_format))
        except CheckFailed:
            return
        except BadSchema as error:
            if self._engine.functions.lookup(function.id, function.namespace) is not function:
                return
            logger.warning("%s: args_format of '%s': %s", owner.label, function.id, error.message)
            self._engine.functions.remove(function.namespace, function.id, owner)
            self._engine.function_changed(function)
            self._engine.changed("functions", owner)
            owner.send(
                RegistrationRejected(
                    "INVALID_ARGS_FORMAT", function.namespace, owner_worker_id="", function_id=function.id
                )
            )

    def _has_schema(self, function: Function) -> bool:
        """Whether args are checked by a schema; sources inside the host check their own."""
        return function.args_format is not None and function.id not in self._engine.sources

    def _source(self, message: Observe) -> Function | None:
        source = message.source
        return self._engine.functions.lookup(source.function_id, source.namespace)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
