"""`iii-skill trigger`: call any function, in the syntax of the engine's own command."""

from __future__ import annotations

import click
import msgspec

from iii_skill.cli.key_values import KEY_VALUE
from iii_skill.cli.reach import Backend, Reach, reach_options, run
from iii_skill.cli.state.values import given_value, put, shown

EXAMPLES = (
    "state::get scope=shop key=chair",
    """state::set --payload '{"scope": "shop", "key": "chair", "value": 3}'""",
)


@click.command(epilog="\n".join(["\b", "Examples:", *(f"  iii-skill trigger {one}" for one in EXAMPLES)]))
@click.argument("function_id", metavar="FUNCTION")
@click.argument("fields", metavar="[KEY=VALUE]...", nargs=-1, type=KEY_VALUE)
@click.option("--payload", metavar="JSON", help="The whole payload (`-`: stdin) instead of KEY=VALUE.")
@click.option("--timeout-ms", type=click.IntRange(1), default=30_000, show_default=True)
@reach_options
def trigger(
    function_id: str, fields: tuple[tuple[str, str], ...], payload: str | None, timeout_ms: int, reach: Reach
) -> None:
    """Call a function and print its result; a VALUE is JSON if it can be read as such, else a text."""
    if fields and payload is not None:
        raise click.UsageError("Give KEY=VALUE or --payload, not both.")

    async def work(opened: Backend) -> None:
        if payload is not None:
            data = given_value(payload)
        else:
            data = msgspec.json.encode({key: _value(text) for key, text in fields})
        result = await opened.call(function_id, data, timeout=timeout_ms / 1000)
        put("null" if result is None else shown(result))

    run(reach, work, only_calls=True)


def _value(text: str) -> msgspec.Raw | str:
    from iii_skill.readable import unreadable_because  # late: a call without KEY=VALUE does without it

    raw = text.encode("utf-8", "surrogateescape")
    return msgspec.Raw(raw) if unreadable_because(raw) is None else text
