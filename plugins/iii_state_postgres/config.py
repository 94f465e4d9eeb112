"""PostgresConfig: the settings of the adapter `postgres`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from iii_skill.adapter import HistorySettings

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class PostgresConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the database is and how state lies in it."""

    database_url: str = ""
    """`postgresql://user:password@host:port/database?sslmode=verify-full`, as libpq reads it; several hosts
    are tried until one takes writes. Without it the environment's DATABASE_URL counts."""
    schema: Annotated[str, msgspec.Meta(pattern=r"^[a-z_][a-z0-9_]{0,40}$")] = "iii"
    """The schema that holds the state, made when it is missing."""
    pooler: bool = False
    """For PgBouncer in transaction mode: nothing is prepared, and changes are looked for, not listened to."""
    timeout: Positive = 5.0
    """Seconds for a call."""
    changes_kept: Count = 20_000
    """So many changes are kept in each of 16 buckets: that is how long another host may be away."""
    change_bytes: Count = 16 * 1024 * 1024
    """At most so many bytes of changes are kept in each bucket."""
    history: HistorySettings | None = None
    """Keep earlier versions of keys (`keep` of each, for `days`); without it none are."""
