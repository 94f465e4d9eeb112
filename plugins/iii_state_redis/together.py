"""Many writes in one transaction of Redis: MULTI, the script of each write, EXEC, on a connection of its own.

A transaction that breaks before EXEC is dropped by the server, and one that it has begun to carry out nobody
interrupts; in its log (AOF) it is one entry. An error of a single write would not take back the others, so
what could raise one is looked at first: the types of all keys, and rights, memory and scripts by the server
itself while it queues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iii_skill.adapter import Write
from iii_skill.errors import AdapterError, AdapterUnavailable

from .commands import EXEC, MULTI, RawCommand
from .connect import Mode
from .server_errors import ServerFault, adapter_error
from .store import RedisStore

PATIENCE_S = 120.0
"""The server says nothing while it carries out a transaction, however long that takes."""


class Transaction(RawCommand):
    """The commands of a transaction; the future gets the replies of EXEC."""

    writes = True
    replies: int = 0
    left: int = 0
    fault: ServerFault | None = None

    def reply(self, value: Any) -> None:
        """What was wrong with a command is said when it is queued; EXEC only says that something was."""
        if type(value) is ServerFault and self.fault is None:
            self.fault = value
        self.left -= 1
        if self.left:
            return
        if self.fault is None:
            self.answered(value)
        else:
            self.failed(adapter_error(self.fault))


async def write_together(store: RedisStore, writes: Sequence[Write]) -> int:
    """Make all writes or none; how many changed something."""
    if not writes:
        return 0
    places = [store.layout.places[write.scope] for write in writes]
    buckets = {place.bucket.number: place.bucket for place in places}
    if len(buckets) > 1 and store.connection.mode is Mode.CLUSTER:
        raise AdapterError(
            "A Redis Cluster makes writes as one where their scopes lie together: write each scope by itself."
        )
    await _look(store, {place.values: place for place in places}.values(), buckets.values())
    bucket = places[0].bucket
    commands = [_packed(store, write) for write in writes]
    if store.history is not None:
        commands = store.history.around(commands)
    packed = b"".join([MULTI, *commands, EXEC])
    count = len(commands) + 2
    connection = store.new_connection(bucket, timeout=PATIENCE_S)
    await connection.open()
    try:
        if not connection.up:
            raise AdapterUnavailable(
                f"Redis at {store.target.label} cannot be used now; nothing was changed."
            )
        transaction = Transaction(store, bucket, packed, replies=count, left=count)
        connection.send(transaction)
        results = await transaction.future
        if store.history is not None:
            results = results[1:-1]
    finally:
        await connection.close()
        for write in writes:
            store.known.forget((write.scope, write.key))
    for place, write in zip(places, writes, strict=True):
        if write.value is not None and len(write.value) > store.large:
            store.grow(place.bucket, len(write.value))
    faults = [result for result in results if type(result) is ServerFault]
    if faults:
        raise AdapterError(
            f"{len(faults)} of {len(writes)} writes were not made: {adapter_error(faults[0]).message}"
        )
    return sum(result[0] is not None for result in results)


def _packed(store: RedisStore, write: Write) -> bytes:
    # It may take long until it is carried out: by then a key may have an end.
    key = (write.scope, write.key)
    if write.if_absent and write.value is not None:
        return store.pack_swap(key, [b"", write.value])
    return store.pack_blind(key, write.value or b"")


async def _look(store: RedisStore, places: Any, buckets: Any) -> None:
    """AdapterError where a key has a type that a write would stumble over."""
    wanted = [(place.bucket, place.values, b"hash") for place in places]
    wanted += [(place.bucket, place.order, b"zset") for place in places]
    for bucket in buckets:
        wanted += [(bucket, bucket.index, b"set"), (bucket, bucket.stream, b"stream")]
    for bucket, key, kind in wanted:
        if await store.ask(bucket, b"TYPE", key) not in (kind, b"none"):
            raise adapter_error(ServerFault(f"WRONGTYPE {key!r}"))
