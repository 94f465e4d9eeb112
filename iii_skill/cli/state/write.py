"""`set`, `update` and `delete`."""

from __future__ import annotations

import click
import msgspec

from iii_skill.cli.exit_codes import CONFLICT
from iii_skill.cli.reach import Backend, Reach, Stopped, encode, need, reach_options, run
from iii_skill.cli.state.names import complete_key, complete_scope
from iii_skill.cli.state.progress import IN_FLIGHT, progress
from iii_skill.cli.state.values import (
    QUOTE,
    confirm,
    counted,
    encode_text,
    given_value,
    line,
    missing,
    put,
    shown,
    value_of,
)


@click.command("set")
@click.argument("scope", shell_complete=complete_scope)
@click.argument("key", shell_complete=complete_key)
@click.argument("value", required=False)
@click.option("--string", "as_string", is_flag=True, help="VALUE is a text, not JSON.")
@click.option("--if-absent", is_flag=True, help="Only if there is no value yet.")
@click.option("--if-equals", metavar="JSON", help="Only if this is the value now.")
@reach_options
def set_(
    scope: str,
    key: str,
    value: str | None,
    as_string: bool,
    if_absent: bool,
    if_equals: str | None,
    reach: Reach,
) -> None:
    """Store a value: JSON, or stdin without one (or with `-`)."""
    if if_absent and if_equals is not None:
        raise click.UsageError("--if-absent and --if-equals contradict each other.")

    async def work(opened: Backend) -> None:
        encoded = given_value(value, as_string=as_string, fix=f"{QUOTE}, or store a text with --string.")
        payload = {"scope": scope, "key": key, "value": msgspec.Raw(encoded)}
        if not if_absent and if_equals is None:
            answer = await opened.call("state::set", encode(**payload))
            if reach.as_json:
                put((answer or b"null").decode())
            return
        await need(opened, "state::compare-and-set", "set --if-absent and --if-equals")
        if if_equals is not None:
            payload["expected"] = msgspec.Raw(given_value(if_equals))
        answer = await opened.call("state::compare-and-set", encode(**payload)) or b"{}"
        if reach.as_json:
            put(answer.decode())
        if not msgspec.json.decode(answer).get("swapped"):
            text = f"The value of {encode_text(key)} is another one now; nothing was stored."
            raise Stopped(CONFLICT, text, error="conflict")

    run(reach, work, only_calls=True)


@click.command()
@click.argument("scope", shell_complete=complete_scope)
@click.argument("key", shell_complete=complete_key)
@click.option("--op", "ops", metavar="JSON", multiple=True, required=True, help="An op; may be repeated.")
@reach_options
def update(scope: str, key: str, ops: tuple[str, ...], reach: Reach) -> None:
    """Apply ops in one atomic step, as {"type": "increment", "path": "n", "by": 1}; the new value."""

    async def work(opened: Backend) -> int:
        encoded = [msgspec.Raw(given_value(op)) for op in ops]
        answer = await opened.call("state::update", encode(scope=scope, key=key, ops=encoded)) or b"{}"
        found = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
        put(answer.decode() if reach.as_json else shown(bytes(found.get("new_value", b"null"))))
        errors = msgspec.json.decode(found["errors"]) if "errors" in found else []
        for error in errors:
            click.echo(f"op {error['op_index']}: {error['code']}: {error['message']}", err=True)
        return 1 if errors else 0

    run(reach, work, only_calls=True)


@click.command()
@click.argument("scope", shell_complete=complete_scope)
@click.argument("key", required=False, shell_complete=complete_key)
@click.option("--prefix", metavar="TEXT", help="Every key that begins with it.")
@click.option("--all", "everything", is_flag=True, help="Every key of the scope.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@reach_options
def delete(
    scope: str, key: str | None, prefix: str | None, everything: bool, yes: bool, dry_run: bool, reach: Reach
) -> None:
    """Remove a key, the keys of a prefix, or all keys of a scope."""
    if sum((key is not None, prefix is not None, everything)) != 1:
        raise click.UsageError("Name one of KEY, --prefix and --all.")

    async def work(opened: Backend) -> None:
        if key is not None:
            found = [key]
            if await value_of(opened, scope, key) is None:
                raise missing(scope, key)
        else:
            await need(opened, "state::list_keys", "delete --prefix and --all")
            answer = msgspec.json.decode(await opened.call("state::list_keys", encode(scope=scope)) or b"{}")
            found = [one for one in answer.get("keys", []) if one.startswith(prefix or "")]
        if dry_run:
            for one in found:
                text = f"would delete {encode_text(one)}"
                put(line(scope=scope, key=one) if reach.as_json else text)
            return
        if key is None:
            confirm(f"Delete {counted(len(found), 'key')} of scope {encode_text(scope)}?", yes=yes)

        async def remove(one: str) -> bytes | None:
            return await opened.call("state::delete", encode(scope=scope, key=one))

        def told(one: str, old: bytes | None) -> None:
            if reach.as_json:
                put(line(scope=scope, key=one, old_value=msgspec.Raw(old or b"null")))

        if key is not None:
            told(key, await remove(key))
            return
        import asyncio  # late: what writes one key needs no event loop

        with progress(len(found), "delete") as bar:
            for start in range(0, len(found), IN_FLIGHT):
                some = found[start : start + IN_FLIGHT]
                for one, old in zip(some, await asyncio.gather(*map(remove, some)), strict=True):
                    told(one, old)
                bar.update(len(some))

    run(reach, work, only_calls=key is not None)
