"""`export --at`: what scopes held at a past moment, or how much of that nobody knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from iii_skill.cli.exit_codes import FAILED, LEFT, NOT_FOUND
from iii_skill.cli.reach import Backend, Stopped, encode, need
from iii_skill.cli.state.expiry import moment_ms, said
from iii_skill.cli.state.export_file import ExportRow, ExportWriter, target
from iii_skill.cli.state.progress import progress
from iii_skill.cli.state.values import counted
from iii_skill.state.functions import CHANGES, PAST

_PAGE = 1000
_CURSOR = re.compile(r"([0-9a-f]{12})-(\d{1,18})\Z", re.ASCII)


class _Unknown(msgspec.Struct):
    scope: str
    key: str
    known_from_ms: int


class _Page(msgspec.Struct):
    entries: list[ExportRow]
    unknown: list[_Unknown]
    whole: bool
    whole_from_ms: int
    next: str | None


class _Moment(msgspec.Struct):
    revision: str


class _Change(msgspec.Struct):
    cursor: str
    revision: str


class _Changes(msgspec.Struct):
    changes: list[_Change]


async def export_past(
    opened: Backend, scopes: Sequence[str], output: Path | None, at: str, *, partial: bool
) -> int:
    """Write what the scopes (all without a name) held; the exit code."""
    await need(opened, PAST, "export --at")
    revision = await _revision(opened, at)
    gaps = _Gaps()
    wanted = frozenset(scopes)
    found: set[str] = set()
    with target(output) as file:
        writer = ExportWriter(file, at=at, revision=revision, partial=partial)
        with progress(0, "export", shown=output is not None) as bar:
            after: str | None = None
            while True:
                payload = encode(revision=revision, after=after, limit=_PAGE)
                page = msgspec.json.decode(await opened.call(PAST, payload) or b"{}", type=_Page)
                gaps.note(page, wanted)
                if gaps and not partial:
                    page.entries.clear()
                for row in page.entries:
                    if not wanted or row.scope in wanted:
                        writer.row(row.scope, row.key, bytes(row.value))
                        found.add(row.scope)
                        bar.update(1)
                after = page.next
                if after is None:
                    break
        if gaps and not partial:
            fix = "Name a later moment, or add --partial to leave out what is not known."
            raise Stopped(FAILED, f"{gaps.said()} Nothing is exported.", error="not_kept", fix=fix)
        writer.end()
    told = f"{counted(writer.count, 'key')} of {counted(len(found), 'scope')}, at revision {revision}"
    click.echo(told, err=True)
    if gaps:
        click.echo(f"{gaps.said()} They are left out.", err=True)
        return LEFT
    return 0


class _Gaps:
    """What is not known of a moment."""

    def __init__(self) -> None:
        self._count = 0
        self._from_ms = 0
        self._whole = True

    def __bool__(self) -> bool:
        return self._count > 0 or not self._whole

    def note(self, page: _Page, wanted: frozenset[str]) -> None:
        """Count those of a page."""
        if not page.whole:
            self._whole = False
            self._from_ms = max(self._from_ms, page.whole_from_ms)
        for one in page.unknown:
            if not wanted or one.scope in wanted:
                self._count += 1
                self._from_ms = max(self._from_ms, one.known_from_ms)

    def said(self) -> str:
        """One sentence."""
        keys = counted(self._count, "key")
        more = "" if self._whole else " and of keys that are forgotten since"
        return (
            f"What was there at that moment is not kept of {keys}{more}; "
            f"the oldest moment that can be exported whole is {said(self._from_ms)}."
        )


async def _revision(opened: Backend, at: str) -> str:
    cursor = _CURSOR.match(at)
    if cursor is not None:
        return await _revision_of_cursor(opened, at, cursor[1], int(cursor[2]))
    at_ms = moment_ms(at)
    answer = await opened.call(PAST, encode(at_ms=at_ms))
    return msgspec.json.decode(answer or b"{}", type=_Moment).revision


async def _revision_of_cursor(opened: Backend, at: str, epoch: str, number: int) -> str:
    if number > 0:
        payload = encode(after=f"{epoch}-{number - 1}", limit=1, values=False)
        answer = msgspec.json.decode(await opened.call(CHANGES, payload) or b"{}", type=_Changes)
        if answer.changes and answer.changes[0].cursor == at:
            return answer.changes[0].revision
    raise Stopped(NOT_FOUND, f"No change has the cursor {at}.", error="not_found", fix="Name a time.")
