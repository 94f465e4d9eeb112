"""KEY=VALUE: the settings that a command line gives to an adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

MAX_DEPTH = 8
"""Parts of a name: a setting, a setting of that one, and so on."""


class KeyValue(click.ParamType):  # type: ignore[type-arg]
    """One setting; the part before the first `=` is its name."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The name and the value, as text."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"'{value}' is not KEY=VALUE.", param, ctx)
        return key, text


KEY_VALUE = KeyValue()


def settings_in(pairs: Sequence[tuple[str, str]], option: str) -> dict[str, Any]:
    """The settings of an adapter: a dot in a name leads to a setting of a setting, as `history.keep`.

    Of a name that is given twice the last value counts. `option` is named where the names are wrong.
    """
    settings: dict[str, Any] = {}
    for name, value in pairs:
        parts = name.split(".", MAX_DEPTH)
        if "" in parts or len(parts) > MAX_DEPTH:
            raise click.UsageError(f"{option}: '{name[:200]}' names no setting; write it as history.keep.")
        here = settings
        for number, part in enumerate(parts[:-1], start=1):
            inner = here.setdefault(part, {})
            if not isinstance(inner, dict):
                raise _both(option, ".".join(parts[:number]), name)
            here = inner
        if isinstance(here.get(parts[-1]), dict):
            below = next(iter(here[parts[-1]]))
            raise _both(option, name, f"{name}.{below}")
        here[parts[-1]] = value
    return settings


def on_top(below: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with others on top: of a setting that has settings, those that are given are replaced."""
    merged = dict(below)
    for name, value in given.items():
        former = merged.get(name)
        if isinstance(value, Mapping) and isinstance(former, Mapping):
            value = on_top(former, value)
        merged[name] = value
    return merged


def _both(option: str, whole: str, part: str) -> click.UsageError:
    return click.UsageError(f"{option}: '{whole}' and '{part}' do not go together: leave one of them out.")
