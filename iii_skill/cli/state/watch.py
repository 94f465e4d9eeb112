"""`watch`: changes as they happen, going on where it stopped after a break."""

from __future__ import annotations

import contextlib
import subprocess
import time

import click
import msgspec

from iii_skill.cli.reach import Backend, Reach, backend, encode, need, reach_options, run
from iii_skill.cli.resuming import Resuming
from iii_skill.cli.seconds import Seconds
from iii_skill.cli.state.names import complete_key, complete_scope
from iii_skill.cli.state.values import name_of, put
from iii_skill.state.functions import CHANGES

WAIT_MS = 20_000


@click.command()
@click.argument("scope", required=False, shell_complete=complete_scope)
@click.argument("key", required=False, shell_complete=complete_key)
@click.option("--prefix", metavar="TEXT", help="Only keys that begin with it.")
@click.option(
    "--since",
    metavar="CURSOR",
    default="now",
    show_default=True,
    help="What `--json` gave; `start`: what is kept since somebody watched first; or `now`.",
)
@click.option("--count", type=click.IntRange(1), help="End after so many changes.")
@click.option("--timeout", type=Seconds(0), help="End after this time.")
@click.option("--exec", "command", metavar="COMMAND", help="Run it for each change, which it gets on stdin.")
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
            await work(Resuming(first, lambda: backend(reach), connections))

    run(reach, resumed)


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
        put(row.decode())
        return
    fields = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    kind, scope, key = (msgspec.json.decode(fields[name]) for name in ("event_type", "scope", "key"))
    value = "" if kind == "state:deleted" else f"\t{bytes(fields['new_value']).decode()}"
    put(f"{kind.removeprefix('state:')}\t{name_of(scope)}\t{name_of(key)}{value}")
