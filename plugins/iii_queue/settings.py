"""What can be set: the section `iii-queue`, a named queue, and the queue of a subscriber."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from iii_skill.errors import ConfigurationError

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]

DAY_MS = 86_400_000


class JobLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How the jobs of one queue run."""

    attempts: int = 3
    """How often a job is tried in all before it is a dead letter."""
    concurrency: int = 10
    fifo: bool = False
    group_field: str | None = None
    """The field of the data whose value names the group of a job; None: the whole queue is one group."""
    backoff_s: float = 1.0
    """Seconds before the second attempt; each later one waits twice as long."""
    timeout_s: float = 1800.0
    """Seconds after which a handler that does not answer counts as a failed attempt."""

    def pause(self, failures: int) -> float:
        """Seconds until the next attempt after so many failed ones."""
        return self.backoff_s * 2.0 ** min(failures - 1, 32)


class NamedQueue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `queue_configs`, or the `config` of `queue::define`."""

    max_retries: Count = 3
    """Attempts in all, as the engine counts: 3 are the first one and two more."""
    concurrency: Count = 10
    type: str = "standard"
    message_group_field: str | None = None
    backoff_ms: Count = 1000
    timeout_ms: Positive = 1_800_000
    poll_interval_ms: Count | None = None
    """Taken as in the engine's files; nothing polls here."""
    max_priority: Annotated[int, Meta(ge=1, le=255)] | None = None
    priority_field: str | None = None
    redeliver_on_engine_restart: bool | None = None

    def fault(self, name: str) -> str | None:
        """What is wrong with it in the engine's words, or None."""
        if self.type not in ("standard", "fifo"):
            return f"Queue '{name}' has invalid type '{self.type}'. Must be 'standard' or 'fifo'"
        if self.type == "fifo" and not self.message_group_field:
            return f"Queue '{name}' is of type 'fifo' but 'message_group_field' is not set"
        if self.concurrency < 1:
            return f"Queue '{name}' has 'concurrency' 0; it must be at least 1"
        return None

    def limits(self) -> JobLimits:
        """The same in the terms of the scheduler."""
        return JobLimits(
            attempts=max(1, self.max_retries),
            concurrency=self.concurrency,
            fifo=self.type == "fifo",
            group_field=self.message_group_field,
            backoff_s=self.backoff_ms / 1000,
            timeout_s=self.timeout_ms / 1000,
        )


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `iii-queue`. Jobs live in the store of the host, whatever `adapter` names."""

    adapter: dict[str, Any] | None = None
    """`config` of it may hold the defaults of subscribers: max_attempts, backoff_ms, concurrency, mode."""
    queue_configs: dict[str, NamedQueue] = {}
    max_jobs: Positive = 1_000_000
    """Jobs of one queue, waiting, running and dead; beyond that it takes none."""
    max_parked: Positive = 1_000
    """Messages of a topic without any subscriber that wait for the first one."""
    subscriber_retention_ms: Count = 7 * DAY_MS
    """How long messages are kept for a subscriber that is away."""
    lease_ms: Annotated[int, Meta(ge=1000)] = 30_000
    """On a store that hosts share: how long a job stays with a host that is gone."""

    def check(self) -> None:
        """Raise ConfigurationError with the first thing that is wrong."""
        for name, queue in self.queue_configs.items():
            fault = queue.fault(name)
            if fault is not None:
                raise ConfigurationError(fault)

    def subscriber_limits(self, config: Mapping[str, Any]) -> JobLimits:
        """The limits of a subscription; settings of the wrong type are passed over one by one."""
        defaults = (self.adapter or {}).get("config")
        defaults = defaults if isinstance(defaults, Mapping) else {}
        own = config.get("queue_config")
        own = own if isinstance(own, Mapping) else {}
        kind = own.get("type", defaults.get("mode"))
        retries = _count(own, "maxRetries")
        attempts = _count(defaults, "max_attempts", 3) if retries is None else retries + 1
        top = _count(config, "max_retries")
        if retries is None and top is not None:
            attempts = top
        backoff = _count(defaults, "backoff_ms", 1000)
        backoff = _count(own, "backoffDelayMs", _count(config, "backoff_ms", backoff))
        concurrency = _count(own, "concurrency", _count(defaults, "concurrency", 10))
        fifo = kind == "fifo"
        return JobLimits(
            attempts=max(1, attempts or 0),
            concurrency=1 if fifo else max(1, concurrency or 0),
            fifo=fifo,
            backoff_s=(backoff or 0) / 1000,
        )


def _count(source: Mapping[str, Any], key: str, default: int | None = None) -> int | None:
    value = source.get(key)
    return value if type(value) is int and value >= 0 else default
