"""RedisConfig: the settings of the adapter `redis`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from iii_skill.adapter import HistorySettings

Positive = Annotated[float, msgspec.Meta(gt=0)]


class RedisConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the server is and how state lies in it; `redis_url` is what redis-py reads."""

    redis_url: str = "redis://localhost:6379"
    """`redis://`, `rediss://` (TLS, with `ssl_ca_certs=` and the like in the query) or `unix://`, with user,
    password and database."""
    key_prefix: str = ""
    """What every key begins with, so that several stores share a database."""
    layout: Literal["engine", "cluster"] = "engine"
    """`engine`: hash `state:<scope>`, field = key, so that a real iii engine reads and writes the same data;
    `cluster`: for a Redis Cluster."""
    timeout: Positive = 5.0
    """Seconds for a call."""
    connect_timeout: Positive = 5.0
    """Seconds to connect."""
    stream_length: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    """About so many changes are kept: that is how long another host may be away without missing one."""
    stream_bytes: Annotated[int, msgspec.Meta(ge=1)] = 64 * 1024 * 1024
    """At most about so many bytes of changes are kept."""
    scan_seconds: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    """Scopes that a real engine made are searched with SCAN, at most once in so many seconds."""
    history: HistorySettings | None = None
    """Keep earlier versions of keys, as `{keep: 100, days: 7}`: at every host of the store, and not with
    layout=cluster."""
