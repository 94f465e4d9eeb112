"""`export` and `copy`: scopes out of one place, into a file or another place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from iii_skill.cli.exit_codes import LEFT
from iii_skill.cli.reach import LOST, Backend, Reach, backend, connected, encode, need, reach_options, run
from iii_skill.cli.resuming import Resuming
from iii_skill.cli.state.export_file import ExportRow, ExportWriter, target
from iii_skill.cli.state.names import complete_scope
from iii_skill.cli.state.past import export_past
from iii_skill.cli.state.progress import IN_FLIGHT, grow, progress
from iii_skill.cli.state.values import counted, encode_text, entries, line, put
from iii_skill.errors import InvocationError

PATIENCE_S = 60.0
"""How long a lost connection is waited for."""


@click.command()
@click.argument("scopes", nargs=-1, shell_complete=complete_scope)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file (`.gz`: packed).  [default: stdout]",
)
@click.option("--at", metavar="TIME|CURSOR", help="As they were then; the store must keep versions.")
@click.option("--partial", is_flag=True, help="With --at: leave out keys of which it is not kept.")
@reach_options
def export(scopes: tuple[str, ...], output: Path | None, at: str | None, partial: bool, reach: Reach) -> None:
    """Write scopes (all without a name) as lines of JSON; a file appears when it is whole.

    TIME is an ISO date and time, or ms since 1970; a CURSOR comes from `iii-skill::state::changes`.
    """
    if at is None and partial:
        raise click.UsageError("--partial goes with --at.")

    async def work(opened: Backend) -> int:
        if at is not None:
            return await export_past(opened, scopes, output, at, partial=partial)
        await need(opened, "state::list_entries", "export")
        names = list(scopes) or await scopes_of(opened)
        with target(output) as file:
            writer = ExportWriter(file)
            with progress(0, "export", shown=output is not None) as bar:
                for scope in names:
                    before = writer.count
                    async for key, value in entries(opened, scope, told=grow(bar)):
                        writer.row(scope, key, value)
                        bar.update(1)
                    if writer.count == before:
                        click.echo(f"scope {encode_text(scope)} has no keys", err=True)
            writer.end()
        click.echo(f"{counted(writer.count, 'key')} of {counted(len(names), 'scope')}", err=True)
        return 0

    run(reach, work)


@click.command()
@click.argument("scopes", nargs=-1, shell_complete=complete_scope)
@click.option("--to", "to", metavar="URL", required=True, help="The host or engine to copy to.")
@click.option("--if-absent", is_flag=True, help="Leave keys alone that are there already.")
@click.option("--dry-run", is_flag=True, help="Only say how many keys would be written.")
@reach_options
def copy(scopes: tuple[str, ...], to: str, if_absent: bool, dry_run: bool, reach: Reach) -> None:
    """Copy scopes (all without a name) to another host, key by key; what is equal there is left alone.

    A lost connection is waited for, for a minute. Done again after a break, it goes on where it stopped.
    """

    async def work(opened: Backend, other: Backend) -> int:
        await need(opened, "state::list_entries", "copy")
        click.echo(f"[to {other.label}]", err=True)
        copying = _Copying(other, if_absent=if_absent, dry_run=dry_run)
        names = list(scopes) or await scopes_of(opened)
        with progress(0, "copy") as bar:
            for scope in names:
                some: list[ExportRow] = []
                before = copying.seen
                async for key, value in entries(opened, scope, told=grow(bar)):
                    some.append(ExportRow(scope, key, msgspec.Raw(value)))
                    if len(some) == IN_FLIGHT:
                        await copying.take(some)
                        bar.update(len(some))
                        some.clear()
                await copying.take(some)
                bar.update(len(some))
                if copying.seen == before:
                    click.echo(f"scope {encode_text(scope)} has no keys", err=True)
        if reach.as_json:
            put(line(written=copying.written, equal=copying.equal, refused=copying.refused))
        would = "would be written" if dry_run else "written"
        told = f"{counted(copying.written, 'key')} {would}, {copying.equal} equal, {copying.refused} refused"
        click.echo(told, err=True)
        return LEFT if copying.refused else 0

    async def resumed(first: Backend) -> int:
        async with contextlib.AsyncExitStack() as connections:
            second = await connections.enter_async_context(connected(to, reach.token))
            return await work(
                Resuming(first, lambda: backend(reach), connections, patience_s=PATIENCE_S),
                Resuming(second, lambda: connected(to, reach.token), connections, patience_s=PATIENCE_S),
            )

    run(reach, resumed)


class _Copying:
    """Writes what is not there yet, and counts."""

    def __init__(self, other: Backend, *, if_absent: bool, dry_run: bool) -> None:
        self._other = other
        self._if_absent = if_absent
        self._dry_run = dry_run
        self.seen = self.written = self.equal = self.refused = 0

    async def take(self, rows: Sequence[ExportRow]) -> None:
        """Begun in their order, so keys that are new get their places in it."""
        self.seen += len(rows)
        await asyncio.gather(*map(self._one, rows))

    async def _one(self, row: ExportRow) -> None:
        there = await self._other.call("state::get", encode(scope=row.scope, key=row.key))
        if there == bytes(row.value) or (there is not None and self._if_absent):
            self.equal += there == bytes(row.value)
            return
        try:
            done = 1 if self._dry_run else await store(self._other, row, if_absent=self._if_absent)
        except InvocationError as error:
            if error.code in LOST:
                raise
            self.refused += 1
            click.echo(f"{encode_text(row.scope)} {encode_text(row.key)}: {error.message}", err=True)
        else:
            self.written += done


async def scopes_of(opened: Backend) -> list[str]:
    """All scopes of a place."""
    answer = await opened.call("state::list_groups", b"{}")
    return list(msgspec.json.decode(answer or b"{}").get("groups", []))


async def store(opened: Backend, row: ExportRow, *, if_absent: bool) -> int:
    """Write one key; how many were written."""
    payload: dict[str, Any] = {"scope": row.scope, "key": row.key, "value": row.value}
    if not if_absent:
        await opened.call("state::set", encode(**payload))
        return 1
    answer = await opened.call("state::compare-and-set", encode(**payload))
    return int(msgspec.json.decode(answer or b"{}").get("swapped", False))
