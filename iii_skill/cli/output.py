"""JSON of commands."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec


def print_json(data: Any) -> None:
    """One JSON object on stdout, in ASCII: a terminal of 8 bits shows it, and it stays JSON."""
    click.echo(json.dumps(msgspec.to_builtins(data), indent=2))
