"""A bar on stderr for long work, if a person looks at it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

IN_FLIGHT = 256
"""Calls of long work that are under way at once."""


def grow(bar: Any) -> Callable[[int], None]:
    """What makes a bar longer: there is more to do than was known."""

    def more(count: int) -> None:
        bar.length = (bar.length or 0) + count

    return more


def progress(length: int, label: str, *, shown: bool = True) -> Any:
    """A click progress bar: a context manager with `update(n)`; nothing is drawn without a terminal."""
    hidden = not (shown and sys.stderr.isatty())
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=hidden)
