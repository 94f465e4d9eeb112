"""`edit`: a value in the user's editor, stored only if nothing is lost by it."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from typing import Any

import click
import msgspec

from iii_skill.cli.exit_codes import CONFLICT, FAILED, USAGE
from iii_skill.cli.interrupts import left_to_others
from iii_skill.cli.reach import Backend, Reach, Stopped, encode, need, reach_options, run
from iii_skill.cli.state.names import complete_key, complete_scope
from iii_skill.cli.state.values import encode_text, missing, value_of
from iii_skill.readable import unreadable_because
from iii_skill.state.three_way import Overlap, merged


@click.command()
@click.argument("scope", shell_complete=complete_scope)
@click.argument("key", shell_complete=complete_key)
@click.option("--create", is_flag=True, help="Begin with an empty object if there is no such key.")
@reach_options
def edit(scope: str, key: str, create: bool, reach: Reach) -> None:
    """Open a value in $EDITOR and store what was made of it.

    It is stored by compare-and-set. When somebody else changed the value meanwhile, the two are merged; where
    both changed the same member, the editor opens again. The edit is never thrown away; an empty file changes
    nothing.
    """

    async def work(opened: Backend) -> None:
        await need(opened, "state::compare-and-set", "edit")
        base = await value_of(opened, scope, key)
        if base is None and not create:
            raise missing(scope, key)
        first = _text(base or b"{}")
        file = _file(first)
        try:
            mine = _edited(file, "")
            lost = 0
            while True:
                if not mine or (base is not None and _text(mine) == _text(base)):
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
                    if not mine:
                        continue
                base = None if theirs == b"null" else theirs
                # Many at once would only get into each other's way.
                await asyncio.sleep(random.random() * min(1.0, 0.01 * 2**lost))
                lost += 1
        except BaseException:
            _keep(file, first)
            raise
        os.unlink(file)

    run(reach, work)


def _text(value: bytes) -> bytes:
    return msgspec.json.format(value, indent=2) + b"\n"


def _file(text: bytes) -> str:
    try:
        handle, path = tempfile.mkstemp(prefix="iii-skill-", suffix=".json")
        with os.fdopen(handle, "wb") as file:
            file.write(text)
    except OSError as error:
        text_of_it = f"There is no room for a file to edit: {error.strerror or error}."
        raise Stopped(FAILED, text_of_it, fix="TMPDIR names another place for it.") from None
    return path


def _content(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError as error:
        text = f"The editor left no file behind ({error.strerror}): nothing was changed."
        raise Stopped(FAILED, text) from None


def _keep(file: str, first: bytes) -> None:
    """Say where the edit is; a file that the editor did not change, or that is gone, is none."""
    try:
        with open(file, "rb") as opened:
            left = opened.read()
    except OSError:
        return
    if left.strip() in (b"", first.strip()):
        os.unlink(file)
    else:
        click.echo(f"your edit is kept in {file}", err=True)


def _edited(file: str, problem: str) -> bytes:
    """What the user made of the file, nothing if it is empty.

    JSON that cannot be read opens the editor again, with a terminal, until it is left as it was.
    """
    before = b""
    while True:
        if problem:
            click.echo(problem, err=True)
        with left_to_others():
            click.edit(filename=file)
        text = _content(file).strip()
        if not text:
            return b""
        why = unreadable_because(text)
        if why is None:
            return msgspec.json.format(text, indent=-1)
        problem = f"That is no JSON: {why}."
        if text == before or not sys.stdin.isatty():
            raise Stopped(USAGE, problem)
        before = text


def _decide(file: str, mine: bytes, theirs: bytes, pointer: str) -> bytes:
    """Both changed one member: the user decides, with both before him."""
    if theirs == b"null":
        problem = "Somebody else deleted the key."
    else:
        what = "the value" if pointer == "/" else encode_text(pointer)
        problem = f"Somebody else changed {what} too; their value: {theirs.decode()}"
    if not sys.stdin.isatty():
        raise Stopped(CONFLICT, problem, error="conflict")
    with open(file, "wb") as opened:
        opened.write(_text(mine))
    return _edited(file, problem)
