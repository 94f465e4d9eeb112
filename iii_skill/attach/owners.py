"""Who else serves `state::*` on an engine: two owners would lose writes, so the second one is refused."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from iii_skill.calls import Failure
from iii_skill.config.names import STATE
from iii_skill.engine_link import Link
from iii_skill.protocol.unreached import Refused

_PROBE = "state::set"
_OURS = "state::list_keys"
"""The engine's own state worker does not have it, ours inside a host has; the names of the two are one."""


class _Row(msgspec.Struct):
    function_id: str
    worker_name: str | None = None


class _Listed(msgspec.Struct):
    functions: list[_Row] = []


async def refuse_second_owner(link: Link, *, besides: str | None) -> None:
    """Refused when the engine lists an owner of `state::*`; `besides` is our own worker's former self."""
    found = await link.ask("engine::functions::list", {"prefix": "state::", "include_internal": True})
    if isinstance(found, Failure):
        return
    try:
        rows = msgspec.json.decode(found, type=_Listed).functions
    except msgspec.DecodeError:
        raise Refused(
            "What answers there lists no functions as an iii engine does; look at --engine."
        ) from None
    owners = {row.worker_name for row in rows if row.function_id == _PROBE and row.worker_name != besides}
    if owners:
        host = _Row(_OURS, STATE) in rows
        raise second_owner("state::*", sorted(f"worker '{name}'" for name in owners), inside_host=host)


def second_owner(what: str, owners: Sequence[str], *, inside_host: bool = False) -> Refused:
    """The refusal, with what to do: a host of ours that serves state itself has an option for that."""
    if inside_host:
        remedy = "That is an iii-skill host: start it with `iii-skill serve --no-state`"
    else:
        remedy = "Take the worker `iii-state` out of the engine's config.yaml (or stop the other worker)"
    owner = " and ".join(owners) or "the engine itself"
    return Refused(
        f"{what} is served by {owner} already, and two owners would lose writes. {remedy}, then attach again."
    )
