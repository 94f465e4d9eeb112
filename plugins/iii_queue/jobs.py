"""A job: what is stored of it, and what a host keeps of it in memory."""

from __future__ import annotations

import msgspec

CACHED_BYTES = 16 * 1024
"""Records up to this size are kept in memory until the job starts; larger ones are read again."""


class Record(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the store holds of one job. One job is one record, its place in life a field."""

    id: str
    """The receipt that its caller has."""
    function_id: str
    data: msgspec.Raw
    namespace: str | None = None
    metadata: msgspec.Raw | None = None
    traceparent: str | None = None
    baggage: str | None = None
    condition: str | None = None
    group: str | None = None
    attempts: int = 0
    """Attempts that failed."""
    ready_at: float = 0.0
    """Not to be started before (seconds since 1970)."""
    dead: bool = False
    error: str | None = None
    failed_at: float = 0.0
    holder: str | None = None
    """On a shared store: the host that runs it, until `ready_at`."""


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Record).decode


class Job(msgspec.Struct, eq=False):
    """One job of the index. `record` is None for a large one, until it is read."""

    key: str
    id: str
    function_id: str
    namespace: str | None
    group: str | None
    attempts: int
    ready_at: float
    dead: bool
    size: int
    failed_at: float = 0.0
    error: str | None = None
    record: Record | None = None
    running: bool = False
    gone: bool = False
    """It was done, or discarded, here or by another host."""

    @property
    def target(self) -> tuple[str, str | None]:
        """The function that it is for."""
        return self.function_id, self.namespace


def job_of(key: str, record: Record, size: int) -> Job:
    """The index's view of a record."""
    return Job(
        key,
        record.id,
        record.function_id,
        record.namespace,
        record.group,
        record.attempts,
        record.ready_at,
        record.dead,
        size,
        record.failed_at,
        record.error,
        record if size <= CACHED_BYTES else None,
    )


def readable(value: bytes | None) -> Record | None:
    """The record, or None when there is none or nobody can read it."""
    if value is None:
        return None
    try:
        return decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
