"""`watch`: changes as they happen, going on where it stopped after a break."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time

import click
import msgspec

from iii_skill.cli.reach import (
    UNREACHABLE,
    Backend,
    Reach,
    Stopped,
    backend,
    encode,
    need,
    reach_options,
    run,
)
from iii_skill.cli.state.values import name_of
from iii_skill.errors import InvocationError

CHANGES = "iii-skill::state::changes"
WAIT_MS = 20_000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0


@click.command()
@click.argument("scope", required=False)
@click.argument("key", required=False)
@click.option("--prefix", metavar="TEXT", help="Only keys that begin with it.")
@click.option("--since", default="now", show_default=True, help="A cursor, `start` (what is kept) or `now`.")
@click.option("--count", type=click.IntRange(1), help="End after so many changes.")
@click.option("--timeout", type=click.FloatRange(0), help="End after so many seconds.")
@click.option("--exec", "command", metavar="COMMAND", help="Run it for each change (on stdin).")
@reach_options
def watch(
    scope: str | None,
    key: str | None,
    prefix: str | None,
    since: str,
    count: int | None,
    timeout: float | None,
    command: str | None,
    reach: Reach,
) -> None:
    """Changes as they happen. With --json each has a `cursor` to go on from; a gap ends it with 7."""

    async def work(opened: Backend) -> None:
        await need(opened, CHANGES, "watch")
        after = {"now": None, "start": "oldest"}.get(since, since)
        left = count
        end = None if timeout is None else time.monotonic() + timeout
        fields = {"scope": scope, "key": key, "key_prefix": prefix}
        while True:
            answer = await _next(opened, after, fields, end)
            if answer is None:
                return
            found = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
            after = msgspec.json.decode(found["next"])
            for row in msgspec.json.decode(found["changes"], type=list[msgspec.Raw]):
                _show(bytes(row), as_json=reach.as_json, command=command)
                if left is not None:
                    left -= 1
                    if left == 0:
                        return

    if reach.store:
        raise click.UsageError("A store that is opened here has no changes to watch: name a host with --url.")

    async def resumed(first: Backend) -> None:
        async with contextlib.AsyncExitStack() as connections:
            await work(_Resuming(reach, first, connections))

    run(reach, resumed)


class _Resuming:
    """Calls the backend, and connects again when the connection is lost."""

    def __init__(self, reach: Reach, first: Backend, connections: contextlib.AsyncExitStack) -> None:
        self._connections = connections
        self._reach = reach
        self._current = first
        self.label = first.label

    async def call(self, function_id: str, payload: bytes, *, timeout: float | None = 30.0) -> bytes | None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                return await self._current.call(function_id, payload, timeout=timeout)
            except InvocationError as error:
                if error.code != "not_connected":
                    raise
            click.echo("the connection is lost; going on when it is back", err=True)
            while True:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                try:
                    self._current = await self._connections.enter_async_context(backend(self._reach))
                    break
                except Stopped as error:
                    if error.code != UNREACHABLE:
                        raise


async def _next(
    opened: Backend, after: str | None, fields: dict[str, str | None], end: float | None
) -> bytes | None:
    """The next page of changes; None when the time is over."""
    wait_ms = WAIT_MS
    if end is not None:
        wait_ms = min(wait_ms, int((end - time.monotonic()) * 1000))
        if wait_ms <= 0:
            return None
    if after is None:
        wait_ms = 0
    payload = encode(after=after, wait_ms=wait_ms, **fields)
    return await opened.call(CHANGES, payload, timeout=wait_ms / 1000 + 30)


def _show(row: bytes, *, as_json: bool, command: str | None) -> None:
    if command is not None:
        subprocess.run(command, shell=True, input=row, check=False)
        return
    if as_json:
        click.echo(row.decode())
        return
    fields = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    kind, scope, key = (msgspec.json.decode(fields[name]) for name in ("event_type", "scope", "key"))
    value = "" if kind == "state:deleted" else f"\t{bytes(fields['new_value']).decode()}"
    click.echo(f"{kind.removeprefix('state:')}\t{name_of(scope)}\t{name_of(key)}{value}")
