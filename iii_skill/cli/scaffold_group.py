"""The words `scaffold` and `scaffold update`, and how their failures end the program."""

from __future__ import annotations

import sys
from typing import Any

import click

from iii_skill.scaffold.errors import ScaffoldError

EXIT_CODES = """\b
Exit codes: 0 done, 2 usage or an answer that is missing or wrong, 3 files in the way or conflicts,
4 unsafe path, 5 template unknown or broken, 6 the disk refused, 130 interrupted."""


class ScaffoldFailed(click.ClickException):
    """A ScaffoldError as one sentence and its exit code."""

    def __init__(self, error: ScaffoldError) -> None:
        super().__init__(error.message)
        self.exit_code = error.exit_code  # type: ignore[misc]


class ScaffoldGroup(click.Group):
    """`scaffold TEMPLATE DEST` is `scaffold new TEMPLATE DEST`; `update` is the only other word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the usual command in front."""
        if not args or args[0] not in self.commands:
            args = ["new", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """SIGINT before or after the files are written ends with 130 too."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            sys.exit(130)
