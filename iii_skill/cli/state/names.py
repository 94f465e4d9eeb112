"""What a shell offers for SCOPE and KEY: those of the place that the options on the line name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

import click
import msgspec
from click.shell_completion import CompletionItem

from iii_skill.cli.reach import STORE_OPTIONS, Backend, Stopped, encode, reach_of, run_calls
from iii_skill.errors import IiiSkillError

SECONDS = 2.0
MOST = 500


def complete_scope(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The scopes that begin so."""
    return _offered(context, "state::list_groups", {}, "groups", incomplete)


def complete_key(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The keys of the scope before it that begin so."""
    scope = context.params.get("scope")
    return _offered(context, "state::list_keys", {"scope": scope}, "keys", incomplete) if scope else []


def _offered(
    context: click.Context, function_id: str, payload: dict[str, str], field: str, incomplete: str
) -> list[CompletionItem]:
    """Nothing where nothing answers in time: a key stroke tells no errors."""
    given = context.params
    store: dict[str, Any] = {name: given.get(name) for name in STORE_OPTIONS}
    names: Sequence[str] = []
    # A directory that is not there would be made.
    if store["data_dir"] is None or os.path.isdir(store["data_dir"]):
        reach = reach_of(url=given.get("url"), token=given.get("token"), quiet=True, **store)

        async def ask(opened: Backend) -> Sequence[str]:
            answer = await opened.call(function_id, encode(**payload), timeout=SECONDS)
            found: Sequence[str] = msgspec.json.decode(answer or b"{}").get(field, [])
            return found

        import logging

        logging.disable()
        with contextlib.suppress(Stopped, IiiSkillError, OSError, UnicodeError, click.ClickException):
            names = run_calls(reach, ask, within_s=SECONDS)
    # A line break would be two offers.
    fitting = (name for name in names if name.startswith(incomplete) and name.isprintable())
    return [CompletionItem(name) for name, _ in zip(fitting, range(MOST), strict=False)]
