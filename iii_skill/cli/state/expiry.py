"""`expire`: when a key ends."""

from __future__ import annotations

import datetime
import re
from typing import Any

import click
import msgspec

from iii_skill.cli.reach import Backend, Reach, encode, need, reach_options, run
from iii_skill.cli.state.names import complete_key, complete_scope
from iii_skill.cli.state.values import line, missing, put
from iii_skill.state.functions import EXPIRE

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def duration_ms(text: str) -> int:
    """`90s`, `1.5h`, `250ms`, `1d12h`: milliseconds; UsageError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise click.UsageError(f"'{text}' is no duration: write 90s, 15m, 1.5h, 2d or 250ms.")
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if total > 2**53:
        raise click.UsageError(f"'{text}' is too long.")
    return max(1, round(total))


def moment_ms(text: str) -> int:
    """An ISO date and time (without a zone: local) or ms since 1970; UsageError for anything else."""
    if text.isascii() and text.isdigit() and len(text) < 17:
        return int(text)
    try:
        moment = datetime.datetime.fromisoformat(text)
        return max(1, int(moment.astimezone().timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        text = f"'{text}' is no moment: write 2026-11-30T12:00:00Z, or milliseconds since 1970."
        raise click.UsageError(text) from None


def said(at_ms: int) -> str:
    """A moment for people."""
    try:
        moment = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms after 1970"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@click.command()
@click.argument("scope", shell_complete=complete_scope)
@click.argument("key", shell_complete=complete_key)
@click.argument("duration", required=False)
@click.option("--at", metavar="TIME", help="End at this moment: ISO date and time, or ms since 1970.")
@click.option("--clear", is_flag=True, help="Let the key stay.")
@reach_options
def expire(scope: str, key: str, duration: str | None, at: str | None, clear: bool, reach: Reach) -> None:
    """Have a key end after DURATION (90s, 15m, 2d) or at a moment; without either, tell when it ends."""
    if sum((duration is not None, at is not None, clear)) > 1:
        raise click.UsageError("Name one of DURATION, --at and --clear.")
    payload: dict[str, Any] = {"scope": scope, "key": key}
    if duration is not None:
        payload["ttl_ms"] = duration_ms(duration)
    elif at is not None:
        payload["at_ms"] = moment_ms(at)
    elif clear:
        payload["ttl_ms"] = None

    async def work(opened: Backend) -> None:
        await need(opened, EXPIRE, "expire")
        answer = msgspec.json.decode(await opened.call(EXPIRE, encode(**payload)) or b"{}")
        if not answer.get("found"):
            raise missing(scope, key)
        at_ms = answer.get("expires_at_ms")
        if reach.as_json:
            put(line(scope=scope, key=key, expires_at_ms=at_ms))
        else:
            put("never" if at_ms is None else said(at_ms))

    run(reach, work, only_calls=True)
