"""KEY=VALUE: how a command line gives a setting or a field."""

from __future__ import annotations

from typing import Any

import click


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
