"""Cron: each trigger or observer is a job that waits for its next moment, runs, and computes the next one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Hashable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from iii_skill.companion import (
    KEEP,
    Companion,
    CompanionHost,
    Event,
    Failure,
    Filter,
    Hear,
    Source,
    Subscriber,
    Timer,
    Trigger,
    TriggerProvider,
)
from iii_skill.errors import AdapterError, CallerError, TriggerRefused
from iii_skill.values import Keep

from .expression import CronExpression, InvalidExpression

ON_TICK = "cron::on-tick"

_TICKS = "ticks"
"""The scope that says which host fired a job at which moment."""

_encode = msgspec.json.Encoder().encode


class CronSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `iii-cron`. `adapter` is taken as in the engine's files and selects nothing here."""

    adapter: dict[str, Any] | None = None
    handler_timeout_s: float = 1800.0
    """Seconds after which a schedule goes on without the answer of its handler."""


class _Job:
    """One subscriber on its way from moment to moment; `tell` is called with each and awaited."""

    def __init__(
        self,
        subscriber: Subscriber,
        expression: CronExpression,
        tell: Callable[[datetime], Awaitable[None]],
    ) -> None:
        self.subscriber = subscriber
        self.expression = expression
        self.tell = tell
        self.timer: Timer | None = None
        self.run: asyncio.Task[None] | None = None
        self.ended = False

    def identity(self, number: int) -> str:
        """What it is called on all hosts of a store; `number` tells jobs of one function and time apart."""
        return hashlib.sha256(_encode([*self.kind, number])).hexdigest()

    @property
    def kind(self) -> tuple[str | None, str, str]:
        """What jobs that are told apart by a number alone have in common."""
        return self.subscriber.namespace, self.subscriber.function_id, self.expression.text


class Schedules(TriggerProvider):
    """The trigger type `cron`."""

    trigger_type = "cron"
    worker_name = "iii-cron"
    description = "Fires when the time matches `expression`: sec min hour day month weekday [year], in UTC."
    configuration_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {
            "expression": {"type": "string", "description": "Six or seven fields, or @daily and the like."},
            "condition_function_id": {"type": ["string", "null"]},
        },
        "required": ["expression"],
    }
    request_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {
            name: {"type": "string"} for name in ("trigger", "job_id", "scheduled_time", "actual_time")
        },
        "required": ["actual_time", "job_id", "scheduled_time", "trigger"],
    }

    def __init__(self, host: CompanionHost, settings: CronSettings) -> None:
        self._host = host
        self._settings = settings
        self._jobs: dict[Hashable, _Job] = {}
        self._stopped = False

    def register(self, trigger: Trigger) -> None:
        """Wait for the first moment; TriggerRefused says what is wrong with the expression."""
        config = trigger.settings()
        text = config.get("expression") if isinstance(config, dict) else None
        if not isinstance(text, str) or not text:
            raise TriggerRefused("Cron expression is required")
        if trigger.id in self._jobs:
            raise TriggerRefused(f"Cron job '{trigger.id}' is already registered")
        try:
            expression = CronExpression(text)
        except InvalidExpression as error:
            raise TriggerRefused(str(error)) from None
        condition = config.get("condition_function_id")
        condition = condition if isinstance(condition, str) else None

        async def tell(moment: datetime) -> None:
            await self._call(trigger, expression, condition, moment)

        self.begin(trigger.id, trigger, expression, tell)

    def unregister(self, trigger: Trigger) -> None:
        """End the schedule; a handler that runs is left to end."""
        self.end(trigger.id)

    def begin(
        self,
        name: Hashable,
        subscriber: Subscriber,
        expression: CronExpression,
        tell: Callable[[datetime], Awaitable[None]],
    ) -> None:
        """Start a job of that name; the next moment is computed after `tell` has ended."""
        self.end(name)
        job = self._jobs[name] = _Job(subscriber, expression, tell)
        self._wait(job)

    def end(self, name: Hashable) -> None:
        """End the job of that name; unknown names are fine."""
        job = self._jobs.pop(name, None)
        if job is not None:
            job.ended = True
            if job.timer is not None:
                job.timer.cancel()

    async def stop(self) -> None:
        """Fire nothing more and wait for the handlers that run."""
        self._stopped = True
        for job in self._jobs.values():
            if job.timer is not None:
                job.timer.cancel()
        running = [job.run for job in self._jobs.values() if job.run is not None]
        if running:
            await asyncio.wait(running)

    def _wait(self, job: _Job) -> None:
        """Set the timer for the first moment from now on; one that never comes has none."""
        if self._stopped or job.ended:
            return
        moment = job.expression.after(datetime.fromtimestamp(self._host.clock.now(), UTC))
        job.timer = None
        if moment is not None:
            job.timer = self._host.clock.call_at(moment.timestamp(), self._start, job, moment)

    def _start(self, job: _Job, moment: datetime) -> None:
        job.run = asyncio.ensure_future(self._run(job, moment))

    async def _run(self, job: _Job, moment: datetime) -> None:
        """Fire once. What comes due meanwhile is skipped: the next moment is computed afterwards."""
        try:
            if self._host.store.shared and not await self._claimed(job, moment):
                return
            if not job.ended:
                await job.tell(moment)
        finally:
            job.run = None
            self._wait(job)

    async def _call(
        self, trigger: Trigger, expression: CronExpression, condition: str | None, moment: datetime
    ) -> None:
        event = {"trigger": "cron", "job_id": trigger.id, **self.times(moment)}
        outcome = await self._host.deliver(
            trigger, _encode(event), condition=condition, timeout=self._settings.handler_timeout_s
        )
        if isinstance(outcome, Failure):
            self._host.log.warning(
                "%s, scheduled by '%s', failed: %s: %s",
                trigger.function_id,
                expression.text,
                outcome.code,
                outcome.message,
            )

    def times(self, moment: datetime) -> dict[str, str]:
        """When a job was due, and the time that it is."""
        now = datetime.fromtimestamp(self._host.clock.now(), UTC)
        return {"scheduled_time": moment.isoformat(), "actual_time": now.isoformat()}

    async def _claimed(self, job: _Job, moment: datetime) -> bool:
        """True on the one host that fires this moment of a job which other hosts may have too."""
        alike = [other for other in self._jobs.values() if other.kind == job.kind]
        number = alike.index(job) if job in alike else 0
        mine = _encode(moment.timestamp())

        def claim(held: bytes | None) -> bytes | Literal[Keep.KEEP]:
            if held is not None and msgspec.json.decode(held, type=float) >= moment.timestamp():
                return KEEP
            return mine

        store = self._host.store
        try:
            change = await store.read(store.update(_TICKS, job.identity(number), claim))
        except AdapterError as error:
            self._host.log.warning(
                "%s is not called for %s: the store that says which host does cannot: %s",
                job.subscriber.function_id,
                moment.isoformat(),
                error.message,
            )
            return False
        return not change.kept


class _Args(msgspec.Struct, frozen=True):
    expression: str


class Ticks(Source):
    """`cron::on-tick`: each observer that is active is a job of the schedules.

    A moment is told whether the target still runs or not: `max_in_flight` says how often it may.
    """

    def __init__(self, schedules: Schedules) -> None:
        super().__init__(
            ON_TICK,
            "Called when the time matches the expression that the args of an observer name",
            worker_name=Schedules.worker_name,
            event_schema={
                "type": "object",
                "properties": {
                    name: {"type": "string"} for name in ("expression", "scheduled_time", "actual_time")
                },
                "required": ["actual_time", "expression", "scheduled_time"],
            },
            args_format={
                "type": "object",
                "required": ["expression"],
                "properties": {"expression": Schedules.configuration_schema["properties"]["expression"]},
            },
        )
        self._schedules = schedules
        self._wanted: dict[str, tuple[Subscriber, CronExpression]] = {}

    def admit(self, observer: Subscriber, args: Any) -> None:
        """Take the expression; CallerError says what is wrong with it."""
        try:
            text = msgspec.convert(args, _Args).expression
        except msgspec.ValidationError as error:
            fault = f"The args of an observer of {ON_TICK}: {error}"
            raise CallerError(fault, code="INVALID_ARGS") from None
        try:
            self._wanted[observer.id] = (observer, CronExpression(text))
        except InvalidExpression as error:
            raise CallerError(str(error), code="INVALID_CRON_EXPRESSION") from None

    def dismiss(self, observer_id: str) -> None:
        """Its expression goes with it."""
        self._wanted.pop(observer_id, None)

    def listen(self, name: str, filter_: Filter, hear: Hear) -> None:
        """Start the job of an observer."""
        observer, expression = self._wanted[name]

        async def tell(moment: datetime) -> None:
            event = {"expression": expression.text, **self._schedules.times(moment)}
            if filter_.matches({"input": event, "output": event}):
                hear(Event(moment, _encode(event)))

        self._schedules.begin((ON_TICK, name), observer, expression, tell)

    def leave(self, name: str) -> None:
        """End the job of an observer."""
        self._schedules.end((ON_TICK, name))


class Cron(Companion):
    """The worker `iii-cron`."""

    name = "iii-cron"
    aliases = ("cron",)
    description = "Calls functions at the times that an expression names."
    config_type = CronSettings
    on_by_default = True

    async def start(self, host: CompanionHost, settings: CronSettings) -> None:
        """Offer the trigger type `cron` and the source `cron::on-tick`."""
        self._schedules = Schedules(host, settings)
        host.add_trigger_type(self._schedules)
        host.add_source(Ticks(self._schedules))

    async def stop(self) -> None:
        """Fire nothing more; handlers that run may end."""
        await self._schedules.stop()
