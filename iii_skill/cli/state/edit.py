"""`edit`: a value in the user's editor, stored only if nothing is lost by it."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import click
import msgspec

from iii_skill.cli.reach import CONFLICT, USAGE, Backend, Reach, Stopped, encode, need, reach_options, run
from iii_skill.cli.state.values import encode_text, missing, value_of
from iii_skill.readable import unreadable_because


class Overlap(Exception):
    """Both sides changed the same part; the argument is its JSON pointer."""


@click.command()
@click.argument("scope")
@click.argument("key")
@click.option("--create", is_flag=True, help="Begin with an empty object if there is no such key.")
@reach_options
def edit(scope: str, key: str, create: bool, reach: Reach) -> None:
    """Open a value in $EDITOR and store what was made of it.

    It is stored by compare-and-set. When somebody else changed the value meanwhile, the two are merged; where
    both changed the same member, the editor opens again. The edit is never thrown away.
    """

    async def work(opened: Backend) -> None:
        await need(opened, "state::compare-and-set", "edit")
        base = await value_of(opened, scope, key)
        if base is None and not create:
            raise missing(scope, key)
        file = _file(base or b"{}")
        try:
            mine = _edited(file, "")
            while True:
                if base is not None and msgspec.json.format(mine, indent=0) == msgspec.json.format(
                    base, indent=0
                ):
                    click.echo("nothing was changed", err=True)
                    break
                payload: dict[str, Any] = {"scope": scope, "key": key, "value": msgspec.Raw(mine)}
                if base is not None:
                    payload["expected"] = msgspec.Raw(base)
                answer = await opened.call("state::compare-and-set", encode(**payload)) or b"{}"
                found = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
                if msgspec.json.decode(found["swapped"]):
                    break
                theirs = bytes(found["current"])
                try:
                    mine = merged(base or b"{}", theirs, mine)
                    click.echo("somebody else changed it too: both changes are in it now", err=True)
                except Overlap as overlap:
                    mine = _decide(file, mine, theirs, str(overlap))
                base = None if theirs == b"null" else theirs
        except BaseException:
            click.echo(f"your edit is kept in {file}", err=True)
            raise
        os.unlink(file)

    run(reach, work)


def merged(base: bytes, theirs: bytes, mine: bytes, where: str = "") -> bytes:
    """Both changes in one value, member by member; Overlap where both changed the same."""
    same = [msgspec.json.format(one, indent=-1) for one in (base, theirs, mine)]
    if same[1] == same[2] or same[0] == same[1]:
        return mine
    if same[0] == same[2]:
        return theirs
    sides = [_members(one) for one in (base, theirs, mine)]
    if any(side is None for side in sides):
        raise Overlap(where or "/")
    old, left, right = sides
    assert old is not None
    assert left is not None
    assert right is not None
    result: dict[str, msgspec.Raw] = {}
    for name in [*left, *(name for name in right if name not in left)]:
        pointer = f"{where}/{name.replace('~', '~0').replace('/', '~1')}"
        one, two, three = (side.get(name) for side in (old, left, right))
        if two is None or three is None:
            changed = three if two is None else two
            # One side removed it: fine unless the other one changed it.
            if one is None:
                assert changed is not None
                result[name] = changed
            elif bytes(changed or b"") != bytes(one):
                raise Overlap(pointer)
        elif one is None:
            if bytes(two) != bytes(three):
                raise Overlap(pointer)
            result[name] = two
        else:
            result[name] = msgspec.Raw(merged(bytes(one), bytes(two), bytes(three), pointer))
    return msgspec.json.encode(result)


def _same(one: bytes, other: bytes) -> bool:
    return msgspec.json.format(one, indent=-1) == msgspec.json.format(other, indent=-1)


def _members(value: bytes) -> dict[str, msgspec.Raw] | None:
    if value.lstrip()[:1] != b"{":
        return None
    return msgspec.json.decode(value, type=dict[str, msgspec.Raw])


def _file(value: bytes) -> str:
    handle, path = tempfile.mkstemp(prefix="iii-skill-", suffix=".json")
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.format(value, indent=2) + b"\n")
    return path


def _edited(file: str, problem: str) -> bytes:
    """What the user made of the file; JSON that cannot be read opens the editor again, with a terminal."""
    while True:
        if problem:
            click.echo(problem, err=True)
        click.edit(filename=file)
        with open(file, "rb") as opened:
            text = opened.read().strip()
        why = unreadable_because(text)
        if why is None:
            return msgspec.json.format(text, indent=-1)
        problem = f"That is no JSON: {why}."
        if not sys.stdin.isatty():
            raise Stopped(USAGE, problem)


def _decide(file: str, mine: bytes, theirs: bytes, pointer: str) -> bytes:
    """Both changed one member: the user decides, with both before him."""
    problem = f"Somebody else changed {encode_text(pointer)} too; their value: {theirs.decode()}"
    if not sys.stdin.isatty():
        raise Stopped(CONFLICT, problem, error="conflict")
    with open(file, "wb") as opened:
        opened.write(msgspec.json.format(mine, indent=2) + b"\n")
    return _edited(file, problem)
