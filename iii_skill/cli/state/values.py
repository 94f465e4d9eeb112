"""Values on the command line: JSON as text, never through floats, and how rows are printed."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec
import orjson

from iii_skill.cli.reach import NOT_FOUND, USAGE, Backend, Stopped, encode
from iii_skill.readable import unreadable_because

PAGE_ROWS, PAGE_BYTES = 1000, 4_000_000


def given_value(text: str | None, *, as_string: bool) -> bytes:
    """The encoded value of an argument (`-` or None: stdin); Stopped for what is no JSON."""
    if text is None or text == "-":
        if sys.stdin.isatty():
            raise Stopped(USAGE, "There is no value.", fix="Give it as JSON, or write it to stdin.")
        raw = sys.stdin.buffer.read()
    else:
        raw = text.encode("utf-8", "surrogateescape")
    if as_string:
        try:
            return orjson.dumps(raw.decode("utf-8"))
        except UnicodeDecodeError:
            raise Stopped(USAGE, "The text is not UTF-8.") from None
    raw = raw.strip()
    why = unreadable_because(raw)
    if why is not None:
        raise Stopped(USAGE, f"That is no JSON: {why}.", fix="Quote it, or store a text with --string.")
    return raw


def shown(value: bytes) -> str:
    """A value for the terminal: indented for people, as it is for programs."""
    if sys.stdout.isatty():
        return msgspec.json.format(value, indent=2).decode()
    return value.decode()


def name_of(text: str) -> str:
    """A key or scope on a line of its own; what would break the line is written as JSON."""
    return text if text.isprintable() and text and not text.startswith('"') else encode_text(text)


def encode_text(text: str) -> str:
    return msgspec.json.encode(text).decode()


def line(**fields: Any) -> str:
    """One line of JSON; values are given as `msgspec.Raw`."""
    return msgspec.json.encode(fields).decode()


async def entries(opened: Backend, scope: str) -> Any:
    """All keys and encoded values of a scope, page by page."""
    cursor: str | None = None
    while True:
        payload = {"scope": scope, "limit": PAGE_ROWS, "max_bytes": PAGE_BYTES}
        if cursor is not None:
            payload["cursor"] = cursor
        answer = await opened.call("state::list_entries", encode(**payload))
        page = msgspec.json.decode(answer or b"{}", type=dict[str, msgspec.Raw])
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
    click.confirm(question, abort=True, err=True)
