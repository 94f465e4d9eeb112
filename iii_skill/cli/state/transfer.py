"""`export`, `import` and `copy`: scopes as lines of JSON, exact to the byte, checked before it is written.

The first line says what follows, then one line a key, the last one counts and sums:
`{"format":"iii-state/1"}`, `{"scope":...,"key":...,"value":...}`, `{"end":true,"count":N,"sha256":...}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from iii_skill.cli.reach import (
    LEFT,
    USAGE,
    Backend,
    Reach,
    Stopped,
    connected,
    encode,
    need,
    reach_options,
    run,
)
from iii_skill.cli.state.values import confirm, encode_text, entries
from iii_skill.errors import InvocationError

IN_FLIGHT = 256
"""Writes that are under way at once."""

_HEAD = b'{"format":"iii-state/1"}\n'


class _Row(msgspec.Struct, frozen=True):
    scope: str
    key: str
    value: msgspec.Raw


_row = msgspec.json.Decoder(_Row).decode


@click.command()
@click.argument("scopes", nargs=-1)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A file (`.gz`: packed).  [default: stdout]"
)
@reach_options
def export(scopes: tuple[str, ...], output: Path | None, reach: Reach) -> None:
    """Write scopes (all without a name) as lines of JSON; a file appears when it is whole."""

    async def work(opened: Backend) -> None:
        await need(opened, "state::list_entries", "export")
        names = list(scopes) or await _scopes(opened)
        with _target(output) as file:
            digest, count = hashlib.sha256(), 0
            file.write(_HEAD)
            with _progress(len(names), "export", shown=output is not None) as bar:
                for scope in names:
                    async for key, value in entries(opened, scope):
                        row = msgspec.json.encode(_Row(scope, key, msgspec.Raw(value))) + b"\n"
                        digest.update(row)
                        file.write(row)
                        count += 1
                    bar.update(1)
            trailer = {"end": True, "count": count, "sha256": digest.hexdigest()}
            file.write(msgspec.json.encode(trailer) + b"\n")
        click.echo(f"{count} keys of {len(names)} scopes", err=True)

    run(reach, work)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--if-absent", is_flag=True, help="Leave keys alone that are there already.")
@click.option("--replace", is_flag=True, help="Delete the keys of the file's scopes that it does not have.")
@click.option("--dry-run", is_flag=True, help="Only check the file and say what would be written.")
@click.option("--yes", is_flag=True, help="Do not ask before --replace.")
@reach_options
def import_(file: Path, if_absent: bool, replace: bool, dry_run: bool, yes: bool, reach: Reach) -> None:
    """Read what `export` wrote. All of it is checked first; done again, it goes on where it stopped."""
    if if_absent and replace:
        raise click.UsageError("--if-absent and --replace contradict each other.")

    async def work(opened: Backend) -> None:
        count, found = check(file)
        if dry_run:
            click.echo(f"{count} keys of {len(found)} scopes would be written", err=True)
            return
        if if_absent:
            await need(opened, "state::compare-and-set", "import --if-absent")
        if replace:
            confirm(f"Replace {len(found)} scopes?", yes=yes)
        written = 0
        with _progress(count, "import", shown=True) as bar:
            for some in batched(rows(file), IN_FLIGHT):
                # Begun in the order of the file, so keys keep their places in a scope.
                done = await asyncio.gather(*(_store(opened, row, if_absent=if_absent) for row in some))
                written += sum(done)
                bar.update(len(some))
        if replace:
            for scope, kept in found.items():
                answer = await opened.call("state::list_keys", encode(scope=scope))
                for key in msgspec.json.decode(answer or b"{}").get("keys", []):
                    if key not in kept:
                        await opened.call("state::delete", encode(scope=scope, key=key))
        click.echo(f"{written} of {count} keys written", err=True)

    run(reach, work)


@click.command()
@click.argument("scopes", nargs=-1)
@click.option("--to", "target", metavar="URL", required=True, help="The host or engine to copy to.")
@click.option("--if-absent", is_flag=True, help="Leave keys alone that are there already.")
@reach_options
def copy(scopes: tuple[str, ...], target: str, if_absent: bool, reach: Reach) -> None:
    """Copy scopes (all without a name) to another host; what is equal there already is left alone."""

    async def work(opened: Backend) -> int:
        await need(opened, "state::list_entries", "copy")
        names = list(scopes) or await _scopes(opened)
        written, refused = 0, 0
        async with connected(target, reach.token) as other:
            click.echo(f"[to {other.label}]", err=True)
            for scope in names:
                async for key, value in entries(opened, scope):
                    if await other.call("state::get", encode(scope=scope, key=key)) == value:
                        continue
                    try:
                        row = _Row(scope, key, msgspec.Raw(value))
                        written += await _store(other, row, if_absent=if_absent)
                    except InvocationError as error:
                        refused += 1
                        click.echo(f"{encode_text(scope)} {encode_text(key)}: {error.message}", err=True)
        click.echo(f"{written} keys written, {refused} refused", err=True)
        return LEFT if refused else 0

    run(reach, work)


def batched(found: Iterator[_Row], size: int) -> Iterator[list[_Row]]:
    """The rows, so many at a time."""
    while some := list(itertools.islice(found, size)):
        yield some


async def _scopes(opened: Backend) -> list[str]:
    answer = await opened.call("state::list_groups", b"{}")
    return list(msgspec.json.decode(answer or b"{}").get("groups", []))


async def _store(opened: Backend, row: _Row, *, if_absent: bool) -> int:
    payload: dict[str, Any] = {"scope": row.scope, "key": row.key, "value": row.value}
    if not if_absent:
        await opened.call("state::set", encode(**payload))
        return 1
    answer = await opened.call("state::compare-and-set", encode(**payload))
    return int(msgspec.json.decode(answer or b"{}").get("swapped", False))


def check(file: Path) -> tuple[int, dict[str, set[str]]]:
    """Read the whole file; how many keys it has, and which by scope. Stopped names the line that is wrong."""
    found: dict[str, set[str]] = {}
    count = 0
    for row in rows(file):
        keys = found.setdefault(row.scope, set())
        if row.key in keys:
            raise Stopped(USAGE, f"{file}: key {encode_text(row.key)} is there twice.")
        keys.add(row.key)
        count += 1
    return count, found


def rows(file: Path) -> Iterator[_Row]:
    """The rows of an export; Stopped unless it is whole and unchanged."""
    digest, count, ended = hashlib.sha256(), 0, False
    with _source(file) as lines:
        try:
            for number, line in enumerate(lines, 1):
                if number == 1:
                    if line.strip() != _HEAD.strip():
                        raise Stopped(USAGE, f"{file} was not written by `iii-skill state export`.")
                    continue
                if ended:
                    raise Stopped(USAGE, f"{file}: line {number} comes after the end.")
                if line.startswith(b'{"end":'):
                    trailer = msgspec.json.decode(line)
                    ended = True
                    if trailer.get("count") != count or trailer.get("sha256") != digest.hexdigest():
                        raise Stopped(USAGE, f"{file} was changed or is not whole: its sum does not fit.")
                    continue
                digest.update(line)
                count += 1
                try:
                    yield _row(line)
                except msgspec.DecodeError as error:
                    raise Stopped(USAGE, f"{file}: line {number} is no row: {error}.") from None
        except (EOFError, OSError) as error:
            raise Stopped(USAGE, f"{file} cannot be read to its end: {error}.") from None
    if not ended:
        raise Stopped(USAGE, f"{file} is not whole: its last line is missing.")


@contextlib.contextmanager
def _source(file: Path) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        lines: Any = stack.enter_context(open(file, "rb"))
        if file.suffix == ".gz":
            lines = stack.enter_context(gzip.GzipFile(fileobj=lines))
        yield lines


@contextlib.contextmanager
def _target(output: Path | None) -> Iterator[IO[bytes]]:
    """Stdout, or a file beside the wanted one that takes its place at the end."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    handle, half = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    try:
        with os.fdopen(handle, "wb") as raw:
            packed: Any = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) if output.suffix == ".gz" else raw
            yield packed
            if packed is not raw:
                packed.close()
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(half, output)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(half)
        raise


def _progress(length: int, label: str, *, shown: bool) -> Any:
    hidden = not (shown and sys.stderr.isatty())
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=hidden)
