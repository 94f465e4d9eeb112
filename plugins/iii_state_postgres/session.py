"""Session: one connection to the database, ready for calls: its promises looked at, its layout there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from iii_skill.errors import AdapterUnavailable, StoreRefused

from . import layout
from .config import PostgresConfig
from .server_errors import of_call, of_tls, while_connecting

log = logging.getLogger(__name__)

OLDEST = 120_000
LOOK_AGAIN = 1.0
"""Seconds between two looks at the log of changes while nothing is heard of it."""
POLL = 0.05
"""The same behind a pooler, where nothing can be heard."""
CLOSING = 0.5
# A connection of ours may be idle as long as it likes; older servers do not know that setting.
PROMISES = """
SELECT current_setting('fsync'), current_setting('full_page_writes'), (
    SELECT set_config(name, '0', false) FROM pg_settings WHERE $1 AND name = 'idle_session_timeout'
)
"""
# Tables are asked, not functions like to_regclass: those remember within a transaction what was not there.
SCHEMA = "SELECT 1 FROM pg_namespace WHERE nspname = $1"
META = """
SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = 'meta'
"""

OnSession: TypeAlias = "Callable[[Callable[[Session], Awaitable[Any]]], Awaitable[Any]]"
"""Runs a function on a session, for reads and upkeep, and gives what that gave."""

RESERVED = "SELECT 1 FROM pg_get_keywords() WHERE word = $1 AND catcode <> 'U'"
"""Words that are no name unless they are quoted."""


def driver() -> Any:
    """asyncpg, which is imported when a database is used."""
    try:
        import asyncpg
    except ImportError as error:
        raise StoreRefused(
            f"The adapter 'postgres' needs asyncpg ({error}): pip install 'iii-skill[postgres]'."
        ) from None
    return asyncpg


class Session:
    """Runs one statement at a time. A connection that broke raises what `driver_lost` names."""

    def __init__(self, connection: Any, config: PostgresConfig, server: str) -> None:
        self._connection = connection
        self._config = config
        self._server = server
        self._news = asyncio.Event()
        self._listening = False

    @classmethod
    async def connect(cls, config: PostgresConfig, url: str, server: str) -> Session:
        """Connect and look at the server; StoreRefused when it can never keep our promises."""
        asyncpg = driver()
        milliseconds = str(int(config.timeout * 1000))
        settings = {
            "application_name": "iii-skill",
            "default_transaction_isolation": "read committed",
            "statement_timeout": milliseconds,
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            "jit": "off",
            # A plan is kept while its tables grow.
            "enable_seqscan": "off",
            "plan_cache_mode": "force_generic_plan",
        }
        try:
            connection = await asyncpg.connect(
                url,
                timeout=config.timeout,
                statement_cache_size=0 if config.pooler else 100,
                # A pooler refuses settings that it does not know.
                server_settings={"application_name": "iii-skill"} if config.pooler else settings,
                target_session_attrs="read-write",
            )
        except asyncpg.TargetServerAttributeNotMatched:
            raise AdapterUnavailable(f"{server} cannot be used now: it takes no writes.") from None
        except asyncpg.PostgresError as error:
            raise while_connecting(error, server) from None
        except (ssl.SSLError, OSError) as error:
            if (refusal := of_tls(error, server, url)) is not None:
                raise refusal from None
            raise
        except (ValueError, asyncpg.ClientConfigurationError) as error:
            words = str(error).partition("\n")[0].rstrip(".")
            raise StoreRefused(f"database_url cannot be used: {words}.") from None
        session = cls(connection, config, server)
        try:
            await session._look()
        except BaseException:
            await session.close()
            raise
        return session

    async def _look(self) -> None:
        """What the server promises, then the layout."""
        version = self._connection.get_server_version()
        if version.major * 10_000 < OLDEST:
            raise StoreRefused(
                f"{self._server} is PostgreSQL {version.major}; the adapter needs 12 or newer."
            )
        ((fsync, full_page_writes, _),) = await self.fetch(PROMISES, not self._config.pooler)
        if fsync != "on":
            raise StoreRefused(
                f"{self._server} runs with fsync = off: a loss of power destroys what it has acknowledged, "
                "or all of it. Set fsync = on."
            )
        if full_page_writes != "on":
            log.warning("%s runs with full_page_writes = off: a loss of power may damage it.", self._server)
        await self._prepare_layout()

    async def _prepare_layout(self) -> None:
        """Make the schema, or bring it to the newest layout; StoreRefused when it is newer."""
        schema, newest = self._config.schema, len(layout.STEPS)
        if await self._layout() == newest:
            return
        async with self._connection.transaction():
            # One host at a time; the others find it done.
            await self._connection.execute(f"SELECT pg_advisory_xact_lock(hashtext('iii-skill {schema}'))")
            found = await self._layout()
            if found == newest:
                return
            if found > newest:
                raise StoreRefused(
                    f"The schema {schema!r} at {self._server} has layout {found}, and this iii-skill knows "
                    f"{newest}: install a newer one, or set another `schema`."
                )
            if schema.startswith("pg_") or await self._there(RESERVED):
                raise StoreRefused(f"The name {schema!r} is reserved by PostgreSQL: set another `schema`.")
            try:
                if not found and not await self._there(SCHEMA):
                    await self._connection.execute(f"CREATE SCHEMA {schema}")
                for step in layout.STEPS[found:]:
                    await self._connection.execute(step.replace("{schema}", schema))
                await self._connection.execute(f"UPDATE {schema}.meta SET layout = {newest}")
            except driver().PostgresConnectionError:
                raise
            except driver().PostgresError as error:
                meaning = of_call(error, self._server)
                if isinstance(meaning, OSError | AdapterUnavailable):
                    # A lock, a deadlock, a server that stops: the next attempt may succeed.
                    raise meaning from None
                words = str(error).rstrip(".")
                if found:
                    raise StoreRefused(
                        f"The schema {schema!r} at {self._server} has layout {found} and cannot be brought "
                        f"to {newest}: {words}. Start a host once as the user who owns it."
                    ) from None
                raise StoreRefused(
                    f"The schema {schema!r} cannot be made at {self._server}: {words}. Let "
                    "the user create it (GRANT CREATE ON DATABASE), or make it and give it to the user."
                ) from None
            if found:
                log.warning("The schema %r at %s now has layout %d.", schema, self._server, newest)

    async def _layout(self) -> int:
        """The version of the schema; 0 when it is not there or empty."""
        if not await self._there(META):
            return 0
        ((found,),) = await self.fetch(f"SELECT layout FROM {self._config.schema}.meta")
        return int(found)

    async def _there(self, what: str) -> bool:
        return bool(await self.fetch(what, self._config.schema))

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Any]:
        """Run one statement in a transaction of its own; its rows."""
        try:
            if not self._config.pooler or self._connection.is_in_transaction():
                return list(await self._connection.fetch(statement, *arguments))
            # Behind a pooler only a transaction stays on one connection, and it takes two steps.
            async with self._connection.transaction(isolation="read_committed"):
                return list(await self._connection.fetch(statement, *arguments))
        except driver().PostgresConnectionError:
            raise
        except driver().PostgresError as error:
            raise of_call(error, self._server) from None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All that is fetched in it is one commit, or nothing."""
        try:
            async with self._connection.transaction(isolation="read_committed"):
                yield
        except driver().PostgresConnectionError:
            raise
        except driver().PostgresError as error:
            raise of_call(error, self._server) from None

    async def news(self, channel: str) -> None:
        """Wait until something was written since `listen_anew`, about a second at most; always with the same
        channel."""
        if self._config.pooler:
            await asyncio.sleep(POLL)
            return
        if not self._listening:
            self._listening = True
            await self._connection.add_listener(channel, self._heard)
            self._connection.add_termination_listener(self._heard)
            # What was written until now is looked for first.
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN):
                await self._news.wait()

    def listen_anew(self) -> None:
        """What was heard of until now is looked at next."""
        self._news.clear()

    def wake(self) -> None:
        """Something was written: there is no need to hear of it."""
        self._news.set()

    def _heard(self, *_of: object) -> None:
        self._news.set()

    async def close(self) -> None:
        """End the connection, whatever it is in the middle of."""
        with contextlib.suppress(Exception):
            await self._connection.close(timeout=CLOSING)
        self._connection.terminate()


def lost_errors() -> tuple[type[BaseException], ...]:
    """What asyncpg raises when a connection broke."""
    asyncpg = driver()
    return (
        OSError,
        EOFError,
        asyncpg.PostgresConnectionError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    )
