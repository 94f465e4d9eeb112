"""Store: what the chosen adapter says of its store, and which promises its server breaks."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from iii_skill.adapter import Health
from iii_skill.doctor.outcome import (
    Outcome,
    Outcomes,
    SetupCheck,
    fail,
    ok,
    page,
    skipped,
    split_remedy,
    warn,
)
from iii_skill.doctor.patience import in_time
from iii_skill.doctor.setup import Setup
from iii_skill.errors import IiiSkillError
from iii_skill.values import Durability

CLOSE_S = 0.5
LONG_TRANSACTION_S = 60
_LOOK = "Correct the settings of the adapter (`iii-skill adapters` lists them) or of its server."


def durability(setup: Setup) -> Outcome:
    """Whether what is written outlives the host."""
    kind = setup.adapter_type
    if kind is None:
        return skipped("no state is served")
    if kind.durability is Durability.NONE:
        return warn(
            f"The adapter '{kind.name}' keeps nothing: all state is gone when the host ends.",
            "Where state must stay, use the adapter file (the default).",
        )
    return ok(f"{kind.name}: {kind.durability.value}")


async def server(setup: Setup) -> Outcomes:
    """Whether the store can be opened and answers; opened as `serve` opens it, and closed again."""
    kind = setup.adapter_type
    if kind is None or kind.name in ("file", "memory"):
        return skipped("no server")
    adapter = kind()
    seconds = setup.asked.seconds

    async def asked() -> Health:
        await adapter.open(_hurried(setup.adapter_settings, seconds))
        return await adapter.health()

    try:
        health = await in_time(asked(), seconds)
    except IiiSkillError as error:
        return fail(*split_remedy(error.message, _LOOK))
    except TimeoutError:
        return fail(f"The store did not answer within {seconds:g} s.", "Look at its server.")
    except Exception as error:
        return fail(
            f"The adapter '{kind.name}' cannot be opened: {type(error).__name__}: {error}",
            f"Try its own test: iii-skill adapter test {kind.name}",
        )
    finally:
        try:
            async with asyncio.timeout(CLOSE_S):
                await adapter.close()
        except Exception:
            pass  # what it says of closing is no answer to the question
    setup.health = health
    if not health.ok:
        return fail(*split_remedy(health.message, "Start its server, or correct its address."))
    facts = ", ".join(f"{name} {value}" for name, value in health.facts.items())
    return ok(facts or f"{kind.name} answers")


def _hurried(settings: Any, seconds: float) -> Any:
    """The same settings with time-outs that end before ours, so that the adapter says what it waited for."""
    names = {field.name for field in msgspec.structs.fields(settings)} & {"timeout", "connect_timeout"}
    most = 0.8 * seconds
    given = {name: getattr(settings, name) for name in names}
    shorter = {name: most for name, value in given.items() if isinstance(value, int | float) and value > most}
    return msgspec.structs.replace(settings, **shorter)


def promises(setup: Setup) -> Outcomes:
    """Whether the server is set up so that it loses what it acknowledged."""
    health = setup.health
    if health is None:
        return skipped("no server that answers")
    found = [fail(*split_remedy(warning, _LOOK)) for warning in health.warnings]
    found += [outcome for outcome in (_append_only(health),) if outcome is not None]
    return found or ok("nothing that loses data")


def _append_only(health: Health) -> Outcome | None:
    """Redis without its append-only file forgets minutes of writes when it is killed."""
    if str(health.facts.get("aof_enabled", "1")) != "0":
        return None
    return warn(
        "Redis runs without an append-only file: writes since its last snapshot are gone when it stops.",
        "redis-cli config set appendonly yes, and appendonly yes in redis.conf",
    )


def rights(setup: Setup) -> Outcome:
    """Whether the user may do what calls will do."""
    health = setup.health
    if health is None:
        return skipped("no server that answers")
    lacking = health.facts.get("rights_missing")
    if lacking:
        return fail(
            f"The user of the store lacks rights: {lacking}. Calls that need them fail.",
            "Give them to the user, as with: ACL SETUSER name +@all ~*",
        )
    return ok("nothing is known to be missing")


def flush(setup: Setup) -> Outcome:
    """Whether Redis flushes its append-only file; one that does not loses what it has acknowledged."""
    health = setup.health
    if health is None or "appendfsync" not in health.facts:
        return skipped("no Redis whose settings can be read")
    if str(health.facts.get("aof_enabled", "1")) == "0":
        return skipped("it has no append-only file")
    when = str(health.facts["appendfsync"])
    if when == "no":
        return fail(
            "Redis leaves it to the system when its append-only file reaches the disk (`appendfsync no`): "
            "a loss of power takes half a minute of acknowledged writes.",
            "redis-cli config set appendfsync everysec (or always), and the same in redis.conf",
        )
    lost = "nothing" if when == "always" else "at most a second"
    return ok(f"appendfsync {when}: a loss of power takes {lost}")


def standbys(setup: Setup) -> Outcome:
    """Whether the standbys that PostgreSQL waits for are there: without them no write ends."""
    health = setup.health
    if health is None or "synchronous_standbys" not in health.facts:
        return skipped("no PostgreSQL that answers")
    names = str(health.facts["synchronous_standbys"])
    if names == "none":
        return ok("it waits for none")
    if not health.facts["standbys_connected"]:
        return fail(
            f"PostgreSQL waits with every write for a standby (synchronous_standby_names = '{names}'), and "
            "none is connected: writes do not end.",
            "Start the standby, or clear synchronous_standby_names and reload.",
        )
    return ok(f"it waits for {names}")


def transactions(setup: Setup) -> Outcome:
    """Whether a writing transaction stays open: what it locked waits, and nothing that died is removed."""
    health = setup.health
    if health is None or "oldest_write_transaction_s" not in health.facts:
        return skipped("no PostgreSQL that answers")
    seconds = int(health.facts["oldest_write_transaction_s"])
    if seconds > LONG_TRANSACTION_S:
        return warn(
            f"A transaction that writes has been open for {seconds} s: rows that it locked keep others "
            "waiting, and the tables grow meanwhile.",
            "End it: SELECT pid, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL, then "
            "pg_terminate_backend(pid).",
        )
    return ok(f"the oldest that writes: {seconds} s")


_PAGE = page("store")
_AFTER = ("python.packages", "config.file", "config.variable", "plugins.adapter", "config.adapter")
CHECKS = (
    SetupCheck("store.server", "The server of the store", server, _PAGE, after=_AFTER),
    SetupCheck("store.promises", "Settings of the server", promises, _PAGE, after=(*_AFTER, "store.server")),
    SetupCheck("store.rights", "Rights of the user", rights, _PAGE, after=(*_AFTER, "store.server")),
    SetupCheck("store.flush", "Flushes of Redis", flush, _PAGE, after=(*_AFTER, "store.server")),
    SetupCheck("store.standbys", "Standbys of PostgreSQL", standbys, _PAGE, after=(*_AFTER, "store.server")),
    SetupCheck(
        "store.transactions",
        "Open transactions of PostgreSQL",
        transactions,
        _PAGE,
        after=(*_AFTER, "store.server"),
    ),
    SetupCheck("store.durability", "Durability", durability, _PAGE, after=_AFTER[:4]),
)
