"""Cron: each trigger is a job that waits for its next moment, runs once, and computes the next one then."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from iii_skill.companion import (
    KEEP,
    Companion,
    CompanionHost,
    Failure,
    Timer,
    Trigger,
    TriggerProvider,
)
from iii_skill.errors import AdapterError, TriggerRefused
from iii_skill.values import Keep

from .expression import CronExpression, InvalidExpression

_TICKS = "ticks"
"""The scope that says which host fired a job at which moment."""

_encode = msgspec.json.Encoder().encode


class CronSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `iii-cron`. `adapter` is taken as in the engine's files and selects nothing here."""

    adapter: dict[str, Any] | None = None
    handler_timeout_s: float = 1800.0
    """Seconds after which a schedule goes on without the answer of its handler."""


class _Job:
    """One trigger on its way from moment to moment."""

    def __init__(self, trigger: Trigger, expression: CronExpression, condition: str | None) -> None:
        self.trigger = trigger
        self.expression = expression
        self.condition = condition
        self.timer: Timer | None = None
        self.run: asyncio.Task[None] | None = None
        self.ended = False

    def identity(self, number: int) -> str:
        """What it is called on all hosts of a store; `number` tells jobs of one function and time apart."""
        parts = [self.trigger.namespace, self.trigger.function_id, self.expression.text, number]
        return hashlib.sha256(_encode(parts)).hexdigest()


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
        self._jobs: dict[str, _Job] = {}
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
        job = _Job(trigger, expression, condition if isinstance(condition, str) else None)
        self._jobs[trigger.id] = job
        self._wait(job)

    def unregister(self, trigger: Trigger) -> None:
        """End the schedule; a handler that runs is left to end."""
        job = self._jobs.pop(trigger.id, None)
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
        trigger = job.trigger
        try:
            if not self._host.store.shared or await self._claimed(job, moment):
                event = {
                    "trigger": "cron",
                    "job_id": trigger.id,
                    "scheduled_time": moment.isoformat(),
                    "actual_time": datetime.fromtimestamp(self._host.clock.now(), UTC).isoformat(),
                }
                outcome = await self._host.deliver(
                    trigger,
                    _encode(event),
                    condition=job.condition,
                    timeout=self._settings.handler_timeout_s,
                )
                if isinstance(outcome, Failure):
                    self._host.log.warning(
                        "%s, scheduled by '%s', failed: %s: %s",
                        trigger.function_id,
                        job.expression.text,
                        outcome.code,
                        outcome.message,
                    )
        finally:
            job.run = None
            self._wait(job)

    async def _claimed(self, job: _Job, moment: datetime) -> bool:
        """True on the one host that fires this moment of a job which other hosts may have too."""
        alike = [
            other
            for other in self._jobs.values()
            if (other.trigger.namespace, other.trigger.function_id, other.expression.text)
            == (job.trigger.namespace, job.trigger.function_id, job.expression.text)
        ]
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
                job.trigger.function_id,
                moment.isoformat(),
                error.message,
            )
            return False
        return not change.kept


class Cron(Companion):
    """The worker `iii-cron`."""

    name = "iii-cron"
    aliases = ("cron",)
    description = "Calls functions at the times that an expression names."
    config_type = CronSettings
    on_by_default = True

    async def start(self, host: CompanionHost, settings: CronSettings) -> None:
        """Offer the trigger type `cron`."""
        self._schedules = Schedules(host, settings)
        host.add_trigger_type(self._schedules)

    async def stop(self) -> None:
        """Fire nothing more; handlers that run may end."""
        await self._schedules.stop()
