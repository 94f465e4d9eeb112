"""Make a connection that is ready for commands: redis-py does sockets, TLS, authentication and database."""

from __future__ import annotations

import asyncio
import enum
import errno
import os
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from iii_skill.adapters.shared import causes_of, reason_of
from iii_skill.errors import StoreRefused

from .pipeline import Pipeline
from .scripts import SCRIPTS, Script

OLDEST = (6, 2)

_HANGS_UP = (os.strerror(errno.ECONNRESET), "Connection closed by server")


class NotReady(Exception):
    """The server cannot be used now; it may later."""


class Mode(enum.Enum):
    """What kind of server answered."""

    SINGLE = "standalone"
    CLUSTER = "cluster"


class Server(NamedTuple):
    """What a server says of itself."""

    label: str
    mode: Mode
    policy: str
    """`maxmemory-policy`: what becomes of keys when memory is full."""
    evicted: int
    """How many keys it has thrown away since its start."""

    @classmethod
    def of(cls, label: str, info: Mapping[str, str]) -> Server:
        """Out of the reply to INFO."""
        mode = Mode.CLUSTER if info.get("cluster_enabled") == "1" else Mode.SINGLE
        return cls(label, mode, info.get("maxmemory_policy", ""), int(info.get("evicted_keys", "0")))

    @property
    def eviction(self) -> str | None:
        """The sentence that says that it may throw state away; None when it never does."""
        # The `volatile` policies take keys with an expiry only, and ours have none.
        if not self.policy.startswith("allkeys"):
            return None
        return (
            f"Redis at {self.label} throws acknowledged writes away when its memory is full ({self.evicted} "
            f"keys so far): its `maxmemory-policy` is {self.policy}; set it to noeviction."
        )


class Address(NamedTuple):
    """A redis-py connection class and what to make it with."""

    connection_class: Any
    arguments: dict[str, Any]

    @property
    def label(self) -> str:
        """Host and port or path, never the password."""
        path = self.arguments.get("path")
        if path:
            return str(path)
        return f"{self.arguments.get('host', 'localhost')}:{self.arguments.get('port', 6379)}"

    def at(self, host: str, port: int) -> Address:
        """The same settings at another node of the cluster."""
        return Address(self.connection_class, {**self.arguments, "host": host, "port": port})


def address(url: str) -> Address:
    """Read a redis_url; StoreRefused says what is wrong with it."""
    try:
        import hiredis  # noqa: F401
        from redis.asyncio import connection as redis_connection
    except ImportError as error:
        raise StoreRefused(
            f"The adapter 'redis' needs redis-py with hiredis ({error}): pip install 'redis[hiredis]>=5.2'."
        ) from None
    try:
        arguments: dict[str, Any] = dict(redis_connection.parse_url(url))
    except ValueError as error:
        raise StoreRefused(f"redis_url cannot be read: {error}") from None
    _check_database(url)
    connection_class = arguments.pop("connection_class", redis_connection.Connection)
    for name in ("max_connections", "decode_responses", "timeout", "protocol", "legacy_responses"):
        arguments.pop(name, None)
    found = Address(connection_class, {"client_name": "iii-skill", **arguments})
    try:
        _connection(found, 1)
    except Exception as error:
        raise StoreRefused(f"redis_url cannot be used: {error}") from None
    return found


def _check_database(url: str) -> None:
    """Refuse a database that redis-py would read as another one: it takes what is no number for 0."""
    parts = urlsplit(url)
    written = unquote(parts.path).removeprefix("/") if parts.scheme != "unix" else ""
    named = parse_qs(parts.query, keep_blank_values=True).get("db", [])
    numbers = [written, *named] if written else named
    for text in numbers:
        if not (text.isascii() and text.isdigit()):
            raise StoreRefused(
                f"redis_url cannot be used: {text!r} is no database number; write redis://HOST:PORT/NUMBER, "
                "or leave it out for database 0."
            )
    if len({int(text) for text in numbers}) > 1:
        raise StoreRefused(f"redis_url cannot be used: it names the databases {' and '.join(numbers)}.")


async def connect(
    target: Address, pipeline: Pipeline, *, seconds: float, scripts: Sequence[Script] = SCRIPTS
) -> Server:
    """Connect within `seconds`, load the scripts, start the pipeline; NotReady: later may help, StoreRefused:
    it may not."""
    from redis import exceptions

    connection = _connection(target, seconds)
    try:
        async with asyncio.timeout(seconds):
            await connection.connect()
            server = await _prepare(connection, target.label, scripts)
    except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
        raise StoreRefused(
            f"Redis at {target.label} refuses the user or password of redis_url: {error}"
        ) from None
    except exceptions.BusyLoadingError:
        raise NotReady("it is loading its data") from None
    except exceptions.InvalidResponse as error:
        raise StoreRefused(f"What answers at {target.label} is no Redis: {error}") from None
    except exceptions.ResponseError as error:
        raise StoreRefused(f"Redis at {target.label} refuses the connection: {error}") from None
    except (TimeoutError, exceptions.TimeoutError):
        hint = "; rediss:// needs a port that speaks TLS" if _secure(target) else ""
        raise NotReady(f"it did not answer within {seconds:g} s{hint}") from None
    except (exceptions.RedisError, OSError) as error:
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes_of(error)):
            raise StoreRefused(f"The certificate of {target.label} is not trusted: {error}") from None
        reason = reason_of(error)
        hangs_up = reason in _HANGS_UP and not _secure(target)
        raise NotReady(reason + ("; a port that speaks TLS takes rediss://" if hangs_up else "")) from None
    else:
        writer = connection._writer
        connection._reader = connection._writer = None
        pipeline.start(writer.transport, writer)
        return server
    finally:
        await connection.disconnect(nowait=True)


def _secure(target: Address) -> bool:
    """True when it is to be reached with TLS."""
    return "SSL" in target.connection_class.__name__


def _connection(target: Address, seconds: float) -> Any:
    arguments = {"socket_timeout": seconds, "socket_connect_timeout": seconds, **target.arguments}
    return target.connection_class(protocol=2, **arguments)


async def _prepare(connection: Any, label: str, scripts: Sequence[Script]) -> Server:
    """ReadCommand who answered and load the scripts."""
    await connection.send_command("INFO")
    for script in scripts:
        await connection.send_command("SCRIPT", "LOAD", script.source)
    info = read_info(await connection.read_response())
    version = tuple(int(part) for part in info.get("redis_version", "0").split(".")[:2] if part.isdigit())
    if version < OLDEST:
        raise StoreRefused(
            f"This is Redis {info.get('redis_version')}; the adapter needs 6.2 or newer, or Valkey."
        )
    if info.get("loading") == "1":
        raise NotReady("it is loading its data")
    if info.get("role") == "slave":
        raise NotReady("it is a read-only replica")
    for _ in scripts:
        await connection.read_response()
    return Server.of(label, info)


def read_info(raw: bytes) -> dict[str, str]:
    """The fields of the reply to INFO."""
    lines = raw.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
