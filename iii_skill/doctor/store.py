"""Store: what the chosen adapter says of its store, and which promises its server breaks."""

from __future__ import annotations

import asyncio

from iii_skill.adapter import CALL_SECONDS, Health
from iii_skill.doctor.outcome import Check, Outcome, Outcomes, fail, ok, page, skipped, split_remedy, warn
from iii_skill.doctor.setup import Setup
from iii_skill.errors import IiiSkillError
from iii_skill.values import Durability

CLOSE_S = 3.0
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
    try:
        async with asyncio.timeout(CALL_SECONDS):
            await adapter.open(setup.adapter_settings)
            health = await adapter.health()
    except IiiSkillError as error:
        return fail(*split_remedy(error.message, _LOOK))
    except TimeoutError:
        return fail(f"The store did not answer within {CALL_SECONDS:g} s.", "Look at its server.")
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


_PAGE = page("store")
_AFTER = ("python.packages", "config.file", "config.variable", "plugins.adapter", "config.adapter")
CHECKS = (
    Check("store.server", "The server of the store", server, _PAGE, after=_AFTER),
    Check("store.promises", "Settings of the server", promises, _PAGE, after=(*_AFTER, "store.server")),
    Check("store.durability", "Durability", durability, _PAGE, after=_AFTER[:4]),
)
