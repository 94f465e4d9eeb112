"""Values on the command line: JSON as text, never through floats, and how rows are printed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import click
import msgspec

from iii_skill.cli.exit_codes import FAILED, INTERRUPTED, NOT_FOUND, USAGE
from iii_skill.cli.reach import Backend, Stopped, encode

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters (not tab and line end), line separators, and what turns the direction of writing."""

PAGE_ROWS, PAGE_BYTES = 1000, 4_000_000


_NO_VALUE = ("There is no value.", "Give it as JSON, or write it to stdin.")
QUOTE = "Put it in quotes of the shell"


def given_value(text: str | None, *, as_string: bool = False, fix: str = f"{QUOTE}.") -> bytes:
    """The encoded value of an argument (`-` or None: stdin); Stopped, with the fix, for what is no JSON."""
    if text is None or text == "-":
        if sys.stdin.isatty():
            raise Stopped(USAGE, _NO_VALUE[0], fix=_NO_VALUE[1])
        raw = sys.stdin.buffer.read()
    else:
        raw = text.encode("utf-8", "surrogateescape")
    if as_string:
        try:
            return msgspec.json.encode(raw.decode("utf-8"))
        except UnicodeDecodeError:
            raise Stopped(USAGE, "The text is not UTF-8.") from None
    from iii_skill.readable import unreadable_because  # late: what only reads does without it

    raw = raw.strip()
    if not raw:
        raise Stopped(USAGE, _NO_VALUE[0], fix=_NO_VALUE[1])
    why = unreadable_because(raw)
    if why is not None:
        raise Stopped(USAGE, f"That is no JSON: {why}.", fix=fix)
    return raw


def shown(value: bytes) -> str:
    """A value for the terminal: indented for people, as it is for programs."""
    if sys.stdout.isatty():
        return msgspec.json.format(value, indent=2).decode()
    return value.decode()


def put(text: str) -> None:
    """A line of data on stdout: UTF-8 whatever the locale; on a terminal, what would steer it as escapes."""
    click.echo(_STEERING.sub(_escaped, text) if sys.stdout.isatty() else text.encode())


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def name_of(text: str) -> str:
    """A key or scope on a line of its own; what would break the line is written as JSON."""
    return text if text.isprintable() and text and not text.startswith('"') else encode_text(text)


def encode_text(text: str) -> str:
    return msgspec.json.encode(text).decode()


def line(**fields: Any) -> str:
    """One line of JSON; values are given as `msgspec.Raw`."""
    return msgspec.json.encode(fields).decode()


async def entries(opened: Backend, scope: str, *, told: Callable[[int], None] | None = None) -> Any:
    """All keys and encoded values of a scope, page by page; `told` hears how many there are."""
    cursor: str | None = None
    while True:
        payload = {"scope": scope, "limit": PAGE_ROWS, "max_bytes": PAGE_BYTES}
        if cursor is not None:
            payload["cursor"] = cursor
        answer = await opened.call("state::list_entries", encode(**payload))
        page = msgspec.json.decode(answer or b"{}", type=dict[str, msgspec.Raw])
        if cursor is None and told is not None:
            told(msgspec.json.decode(page["total"]))
        for key, value in msgspec.json.decode(page["entries"], type=list[tuple[str, msgspec.Raw]]):
            yield key, bytes(value)
        cursor = msgspec.json.decode(page["next_cursor"], type=str | None)
        if cursor is None:
            return


async def value_of(opened: Backend, scope: str, key: str) -> bytes | None:
    """The encoded value, or None."""
    return await opened.call("state::get", encode(scope=scope, key=key))


def missing(scope: str, key: str) -> Stopped:
    """There is no such key."""
    text = f"There is no key {encode_text(key)} in scope {encode_text(scope)}."
    return Stopped(NOT_FOUND, text, error="not_found")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; without a terminal `--yes` must say it."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Stopped(USAGE, f"{question} Nobody is there to ask.", fix="Add --yes.")
    from iii_skill.cli.interrupts import interruptible  # late: most commands ask nothing

    try:
        with interruptible():
            agreed = click.confirm(question, err=True)
    except click.Abort:  # Ctrl-C, or the end of the terminal
        click.echo(err=True)
        raise SystemExit(INTERRUPTED) from None
    if not agreed:
        raise Stopped(FAILED, "Nothing was changed.", error="declined")


def counted(count: int, noun: str) -> str:
    """`1 key`, `2 keys`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
