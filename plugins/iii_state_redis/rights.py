"""Which rights the user lacks that calls will need: asked of the server, without a write."""

from __future__ import annotations

from collections.abc import Sequence

from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable

from .scripts import BLIND
from .store import RedisStore


async def missing(store: RedisStore) -> list[str]:
    """The commands that the user may not run on the keys of the adapter; empty also where nobody can tell.

    `ACL DRYRUN` (Redis 7) tells it of every command if the user may ask; else those that read are tried.
    """
    place = store.layout.places["iii-skill"]
    bucket = place.bucket
    values, order = place.values, place.order
    reads: Sequence[tuple[str | bytes | int, ...]] = (
        ("HGET", values, "k"),
        ("HGETALL", values),
        ("HKEYS", values),
        ("HLEN", values),
        ("ZRANGE", order, 0, -1),
        ("ZCARD", order),
        ("TYPE", values),
        ("SMEMBERS", bucket.index),
        ("XREVRANGE", bucket.stream, "+", "-", "COUNT", 1),
        ("XREAD", "COUNT", 1, "STREAMS", bucket.stream, "0"),
        ("EVAL", "return 1", 1, values),
    )
    writes: Sequence[tuple[str | bytes | int, ...]] = (
        ("EVALSHA", "0" * 40, 1, values),
        ("SCRIPT", "LOAD", BLIND.source),
        ("HSET", values, "k", "1"),
        ("HDEL", values, "k"),
        ("ZADD", order, 1, "k"),
        ("ZREM", order, "k"),
        ("SADD", bucket.index, "s"),
        ("SREM", bucket.index, "s"),
        ("DEL", order),
        ("XADD", bucket.stream, "*", "s", "s"),
    )
    try:
        user = await store.ask(bucket, "ACL", "WHOAMI")
        found = []
        for command in (*reads, *writes):
            verdict = await store.ask(bucket, "ACL", "DRYRUN", user, *command)
            if verdict != b"OK":
                found.append(str(command[0]))
        return found
    except (AdapterUnavailable, AdapterTimeout):
        raise
    except AdapterError:
        pass  # An older server, or no right to ask.
    found = []
    for command in reads:
        try:
            await store.ask(bucket, *command)
        except (AdapterUnavailable, AdapterTimeout):
            raise
        except AdapterError as error:
            if "NOPERM" in error.message:
                found.append(str(command[0]))
    return found


async def setting(store: RedisStore, name: str) -> str | None:
    """A setting of the server; None where the user may not ask for it."""
    try:
        found = await store.ask(store.layout.buckets[0], "CONFIG", "GET", name)
    except (AdapterUnavailable, AdapterTimeout):
        raise
    except AdapterError:
        return None
    return found[1].decode() if len(found) > 1 else None
