"""`scopes`, `keys`, `list` and `get`."""

from __future__ import annotations

import re
from typing import Any

import click
import msgspec

from iii_skill.cli.exit_codes import NOT_FOUND, USAGE
from iii_skill.cli.reach import Backend, Reach, Stopped, encode, need, reach_options, run
from iii_skill.cli.state.names import complete_key, complete_scope
from iii_skill.cli.state.values import encode_text, entries, line, missing, name_of, put, shown, value_of

_INDEX = re.compile("0|[1-9][0-9]{0,17}")


@click.command()
@reach_options
def scopes(reach: Reach) -> None:
    """All scopes, sorted."""

    async def work(opened: Backend) -> None:
        answer = msgspec.json.decode(await opened.call("state::list_groups", b"{}") or b"{}")
        for name in answer.get("groups", []):
            put(line(scope=name) if reach.as_json else name_of(name))

    run(reach, work, only_calls=True)


@click.command()
@click.argument("scope", shell_complete=complete_scope)
@click.option("--prefix", default="", help="Only keys that begin with it.")
@reach_options
def keys(scope: str, prefix: str, reach: Reach) -> None:
    """The keys of a scope, in order of first insertion."""

    async def work(opened: Backend) -> None:
        await need(opened, "state::list_keys", "keys")
        answer = msgspec.json.decode(await opened.call("state::list_keys", encode(scope=scope)) or b"{}")
        for key in answer.get("keys", []):
            if key.startswith(prefix):
                put(line(scope=scope, key=key) if reach.as_json else name_of(key))

    run(reach, work, only_calls=True)


@click.command("list")
@click.argument("scope", shell_complete=complete_scope)
@click.option("--prefix", default="", help="Only keys that begin with it.")
@click.option("--values", is_flag=True, help="Values without keys, as one array: any engine can do that.")
@reach_options
def list_(scope: str, prefix: str, values: bool, reach: Reach) -> None:
    """Keys and values of a scope, in order of first insertion."""

    async def work(opened: Backend) -> None:
        if values:
            put(shown(await opened.call("state::list", encode(scope=scope)) or b"[]"))
            return
        await need(opened, "state::list_entries", "list")
        async for key, value in entries(opened, scope):
            if key.startswith(prefix):
                text = f"{name_of(key)}\t{value.decode()}"
                put(line(scope=scope, key=key, value=msgspec.Raw(value)) if reach.as_json else text)

    run(reach, work, only_calls=True)


@click.command()
@click.argument("scope", shell_complete=complete_scope)
@click.argument("key", shell_complete=complete_key)
@click.option("--pointer", metavar="/A/B", help="Only this part of the value (RFC 6901).")
@reach_options
def get(scope: str, key: str, pointer: str | None, reach: Reach) -> None:
    """The value under a key, as it is stored."""

    async def work(opened: Backend) -> None:
        value = await value_of(opened, scope, key)
        if value is None:
            raise missing(scope, key)
        if pointer is not None:
            value = at_pointer(value, pointer)
        put(line(scope=scope, key=key, value=msgspec.Raw(value)) if reach.as_json else shown(value))

    run(reach, work, only_calls=True)


def at_pointer(value: bytes, pointer: str) -> bytes:
    """The part that a JSON pointer names, still as it is stored."""
    part: Any = msgspec.Raw(value)
    if pointer and not pointer.startswith("/"):
        raise Stopped(USAGE, f"{encode_text(pointer[:200])} is no JSON pointer: it begins with '/'.")
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        inner: Any = (
            msgspec.json.decode(part, type=dict[str, msgspec.Raw] | list[msgspec.Raw] | None)
            if (bytes(part).lstrip()[:1] in b"{[")
            else None
        )
        if isinstance(inner, dict) and name in inner:
            part = inner[name]
        elif isinstance(inner, list) and _INDEX.fullmatch(name) and int(name) < len(inner):
            part = inner[int(name)]
        else:
            raise Stopped(
                NOT_FOUND, f"The value has nothing at {encode_text(pointer[:200])}.", error="not_found"
            )
    return bytes(part)
