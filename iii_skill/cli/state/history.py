"""`history`, `diff` and `revert`: what a key held before."""

from __future__ import annotations

import difflib
from typing import Any

import click
import msgspec

from iii_skill.cli.exit_codes import NOT_FOUND
from iii_skill.cli.reach import Backend, Reach, Stopped, encode, need, reach_options, run
from iii_skill.cli.state.expiry import said
from iii_skill.cli.state.names import complete_key, complete_scope
from iii_skill.cli.state.values import encode_text, line, missing, name_of, put, value_of
from iii_skill.state.functions import HISTORY
from iii_skill.values import MAX_REVISION

_PAGE = 200
REVISION = click.IntRange(1, MAX_REVISION)


class _Version(msgspec.Struct):
    revision: str
    at_ms: int
    deleted: bool
    value: msgspec.Raw


class _Page(msgspec.Struct):
    versions: list[_Version]
    next: str | None


@click.command()
@click.argument("scope", shell_complete=complete_scope)
@click.argument("key", shell_complete=complete_key)
@click.option("--limit", type=click.IntRange(1), help="Only so many, the newest.")
@reach_options
def history(scope: str, key: str, limit: int | None, reach: Reach) -> None:
    """The versions of a key, the newest first: revision, time and value. The store must keep them."""

    async def work(opened: Backend) -> None:
        await need(opened, HISTORY, "history")
        left, before, found = limit, None, False
        while left is None or left > 0:
            page = await _page(opened, scope, key, before, _PAGE if left is None else min(left, _PAGE))
            for version in page.versions:
                found = True
                put(_line(scope, key, version) if reach.as_json else _shown(version))
            left = None if left is None else left - len(page.versions)
            before = page.next
            if before is None:
                break
        if not found:
            raise _none(scope, key)

    run(reach, work, only_calls=True)


@click.command()
@click.argument("scope", shell_complete=complete_scope)
@click.argument("key", shell_complete=complete_key)
@click.argument("revision", type=REVISION)
@click.argument("other", required=False, type=REVISION)
@reach_options
def diff(scope: str, key: str, revision: int, other: int | None, reach: Reach) -> None:
    """What is different from a version of a key to another one, or to the value of now."""

    async def work(opened: Backend) -> None:
        await need(opened, HISTORY, "diff")
        first = await _version(opened, scope, key, revision)
        if other is None:
            name, second = "now", await value_of(opened, scope, key)
        else:
            name, second = str(other), _value(await _version(opened, scope, key, other))
        if reach.as_json:
            old, new = msgspec.Raw(_value(first) or b"null"), msgspec.Raw(second or b"null")
            put(line(scope=scope, key=key, old_value=old, new_value=new))
            return
        lines = difflib.unified_diff(
            _lines(_value(first)),
            _lines(second),
            f"{name_of(key)} {revision}",
            f"{name_of(key)} {name}",
            lineterm="",
        )
        for one in lines:
            put(one)

    run(reach, work, only_calls=True)


@click.command()
@click.argument("scope", shell_complete=complete_scope)
@click.argument("key", shell_complete=complete_key)
@click.argument("revision", type=REVISION)
@click.option("--dry-run", is_flag=True, help="Only say what would be stored.")
@reach_options
def revert(scope: str, key: str, revision: int, dry_run: bool, reach: Reach) -> None:
    """Store a version of a key again: an ordinary write, itself a version. One that is a delete deletes."""

    async def work(opened: Backend) -> None:
        await need(opened, HISTORY, "revert")
        value = _value(await _version(opened, scope, key, revision))
        if dry_run:
            text = "would delete the key" if value is None else f"would store {value.decode()}"
            fields: dict[str, Any] = {"scope": scope, "key": key, "value": msgspec.Raw(value or b"null")}
            put(line(**fields) if reach.as_json else text)
            return
        if value is None:
            answer = await opened.call("state::delete", encode(scope=scope, key=key))
        else:
            payload = encode(scope=scope, key=key, value=msgspec.Raw(value))
            answer = await opened.call("state::set", payload)
        if reach.as_json:
            put((answer or b"null").decode())

    run(reach, work, only_calls=True)


async def _page(opened: Backend, scope: str, key: str, before: str | None, limit: int) -> _Page:
    payload = encode(scope=scope, key=key, before=before, limit=limit)
    return msgspec.json.decode(await opened.call(HISTORY, payload) or b"{}", type=_Page)


async def _version(opened: Backend, scope: str, key: str, revision: int) -> _Version:
    page = await _page(opened, scope, key, str(revision + 1), 1)
    if not page.versions or int(page.versions[0].revision) != revision:
        text = f"Key {encode_text(key)} in scope {encode_text(scope)} has no version {revision}."
        raise Stopped(NOT_FOUND, text, error="not_found", fix="`iii-skill state history` lists them.")
    return page.versions[0]


def _none(scope: str, key: str) -> Stopped:
    absent = missing(scope, key)
    text = f"{absent.message[:-1]}, nor was there one as far back as is kept."
    return Stopped(NOT_FOUND, text, error="not_found")


def _value(version: _Version) -> bytes | None:
    return None if version.deleted else bytes(version.value)


def _lines(value: bytes | None) -> list[str]:
    return [] if value is None else msgspec.json.format(value, indent=2).decode().split("\n")


def _shown(version: _Version) -> str:
    text = "deleted" if version.deleted else bytes(version.value).decode()
    return f"{version.revision}\t{said(version.at_ms)}\t{text}"


def _line(scope: str, key: str, version: _Version) -> str:
    return line(
        scope=scope,
        key=key,
        revision=version.revision,
        at_ms=version.at_ms,
        deleted=version.deleted,
        value=version.value,
    )
