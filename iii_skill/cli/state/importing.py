"""`import`: the file of an export, all of it or nothing.

A host takes the rows in parts, keeps them aside, and stores them as one write when all have come
(`iii-skill::state::import`). What has no such function, an iii engine, takes them one after another.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from iii_skill.cli.exit_codes import UNREACHABLE, USAGE
from iii_skill.cli.reach import LOST, Backend, Reach, Stopped, encode, functions_of, need, reach_options, run
from iii_skill.cli.state.export_file import Content, ExportRow, check, readable_twice, rows
from iii_skill.cli.state.progress import IN_FLIGHT, progress
from iii_skill.cli.state.transfer import store
from iii_skill.cli.state.values import confirm, counted, line, put
from iii_skill.errors import InvocationError
from iii_skill.state.functions import IMPORT

PART_ROWS, PART_BYTES = 2_000, 512 * 1024
"""What one call brings; a value above that has a call of its own."""


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("--if-absent", is_flag=True, help="Leave keys alone that are there already.")
@click.option("--replace", is_flag=True, help="Delete the keys of the file's scopes that it does not have.")
@click.option("--in-parts", is_flag=True, help="One key after another: of any size, but not as one write.")
@click.option("--dry-run", is_flag=True, help="Only check the file and say what would be written.")
@click.option("--yes", is_flag=True, help="Do not ask before --replace.")
@reach_options
def import_(
    file: Path, if_absent: bool, replace: bool, in_parts: bool, dry_run: bool, yes: bool, reach: Reach
) -> None:
    """Read what `export` wrote: all of it is checked first, then all of it is stored, or nothing.

    `-` reads stdin.
    """
    if if_absent and replace:
        raise click.UsageError("--if-absent and --replace contradict each other.")

    async def work(opened: Backend) -> None:
        with readable_twice(file) as found:
            await stored(opened, found)

    async def stored(opened: Backend, file: Path) -> None:
        content = check(file)
        if dry_run:
            if reach.as_json:
                put(line(count=content.count, scopes=len(content.scopes)))
            found = f"{counted(content.count, 'key')} of {counted(len(content.scopes), 'scope')}"
            click.echo(f"{found} would be written", err=True)
            return
        if replace:
            await need(opened, "state::list_keys", "import --replace")
            confirm(f"Replace {counted(len(content.scopes), 'scope')}?", yes=yes)
        deletes = await _left_over(opened, file, content) if replace else []
        begun: dict[str, Any] = {"atomic": False}
        if not in_parts and IMPORT in await functions_of(opened):
            begun = await _ask(opened, step="begin", if_absent=if_absent)
        atomic = bool(begun["atomic"])
        if atomic:
            written = await _as_one(opened, file, content, deletes, begun["import"], if_absent=if_absent)
        else:
            if if_absent:
                await need(opened, "state::compare-and-set", "import --if-absent")
            if not in_parts:
                text = "this place takes one key after another: after a break a part is there; import again"
                click.echo(text, err=True)
            written = await _one_by_one(opened, file, content, deletes, if_absent=if_absent)
        if reach.as_json:
            put(line(count=content.count, written=written, deleted=len(deletes), atomic=atomic))
        click.echo(f"{written} of {content.count} keys written", err=True)

    run(reach, work)


async def _left_over(opened: Backend, file: Path, content: Content) -> list[tuple[str, str]]:
    """The keys of the file's scopes that are there and not in the file."""
    names = {(row.scope, row.key) for row in rows(file)}
    found: list[tuple[str, str]] = []
    for scope in content.scopes:
        answer = await opened.call("state::list_keys", encode(scope=scope))
        for key in msgspec.json.decode(answer or b"{}").get("keys", []):
            if (scope, key) not in names:
                found.append((scope, key))
    return found


async def _as_one(
    opened: Backend,
    file: Path,
    content: Content,
    deletes: list[tuple[str, str]],
    name: str,
    *,
    if_absent: bool,
) -> int:
    count = content.count + len(deletes)
    try:
        with progress(count, "bring") as bar:
            for part in parts(rows(file)):
                if len(part) == 1:
                    (row,) = part
                    fields: dict[str, Any] = {"scope": row.scope, "key": row.key, "value": row.value}
                    await _ask(opened, step="row", **{"import": name}, **fields)
                else:
                    values = [(row.scope, row.key, row.value) for row in part]
                    await _ask(opened, step="rows", **{"import": name}, rows=values)
                bar.update(len(part))
            for start in range(0, len(deletes), PART_ROWS):
                some = deletes[start : start + PART_ROWS]
                await _ask(opened, step="rows", **{"import": name}, deletes=some)
                bar.update(len(some))
    except InvocationError as error:
        if error.code in LOST:
            text = f"The connection was lost before all had come: nothing is stored ({error.message})"
            raise Stopped(UNREACHABLE, text, error=error.code, fix="Import it again.") from None
        with contextlib.suppress(InvocationError):
            # A host forgets by itself an import that nobody goes on with: what failed first is what is told.
            await _ask(opened, step="cancel", **{"import": name})
        if error.code == "IMPORT_TOO_LARGE":
            fix = "--in-parts stores one key after another."
            raise Stopped(USAGE, f"{error.message} Nothing is stored.", error=error.code, fix=fix) from None
        raise
    try:
        answer = await _committed(opened, name, count)
    except InvocationError as error:
        if error.code not in (*LOST, "IMPORT_UNKNOWN"):
            raise
        text = f"The answer did not come: all of the file is stored, or nothing of it ({error.message})"
        raise Stopped(UNREACHABLE, text, error=error.code, fix="Import it again.") from None
    return int(answer["changed"]) - len(deletes) if if_absent else content.count


async def _committed(opened: Backend, name: str, count: int) -> dict[str, Any]:
    with progress(count, "store") as bar:
        done = 0
        while True:
            answer = await _ask(opened, step="commit", **{"import": name}, count=count)
            bar.update(int(answer["written"]) - done)
            done = int(answer["written"])
            if answer["done"]:
                return answer


async def _ask(opened: Backend, **fields: Any) -> dict[str, Any]:
    answer = await opened.call(IMPORT, encode(**fields), timeout=120)
    found: dict[str, Any] = msgspec.json.decode(answer or b"{}")
    return found


async def _one_by_one(
    opened: Backend, file: Path, content: Content, deletes: list[tuple[str, str]], *, if_absent: bool
) -> int:
    written = 0
    with progress(content.count, "import") as bar:
        for some in _batched(rows(file), IN_FLIGHT):
            # Begun in the order of the file, so keys keep their places in a scope.
            done = await asyncio.gather(*(store(opened, row, if_absent=if_absent) for row in some))
            written += sum(done)
            bar.update(len(some))
    for scope, key in deletes:
        await opened.call("state::delete", encode(scope=scope, key=key))
    return written


def _batched(found: Iterator[ExportRow], size: int) -> Iterator[list[ExportRow]]:
    while some := list(itertools.islice(found, size)):
        yield some


def parts(found: Iterator[ExportRow]) -> Iterator[list[ExportRow]]:
    """The rows in calls; one that is large by itself stands alone."""
    some: list[ExportRow] = []
    size = 0
    for row in found:
        more = len(bytes(row.value)) + len(row.scope) + len(row.key)
        if some and (size + more > PART_BYTES or len(some) == PART_ROWS):
            yield some
            some, size = [], 0
        some.append(row)
        size += more
    if some:
        yield some
