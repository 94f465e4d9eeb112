"""RedisConfig: the settings of the adapter `redis`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]


class RedisConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the server is and how state lies in it.

    `redis_url` is what redis-py reads: `redis://`, `rediss://` (TLS, with `ssl_ca_certs=` and the like in the
    query) or `unix://`, with user, password and database. `layout` is `engine` (hash `state:<scope>`, field =
    key: a real iii engine reads and writes the same data) or `cluster` (a Redis Cluster). `timeout` and
    `connect_timeout` are seconds. The stream of changes keeps about `stream_length` changes and at most about
    `stream_bytes` bytes: that is how long another host may be away without missing one.
    """

    redis_url: str = "redis://localhost:6379"
    key_prefix: str = ""
    layout: Literal["engine", "cluster"] = "engine"
    timeout: Positive = 5.0
    connect_timeout: Positive = 5.0
    stream_length: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    stream_bytes: Annotated[int, msgspec.Meta(ge=1)] = 64 * 1024 * 1024
    scan_seconds: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    """ScopeFinder that a real engine made are searched with SCAN, at most once in so many seconds."""
