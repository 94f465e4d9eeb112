"""`iii-skill state`: look at and mend the state of a host, an engine or a store."""

from __future__ import annotations

import click

from iii_skill.cli.reach import EXIT_CODES
from iii_skill.cli.state.edit import edit
from iii_skill.cli.state.read import get, keys, list_, scopes
from iii_skill.cli.state.transfer import copy, export, import_
from iii_skill.cli.state.watch import watch
from iii_skill.cli.state.write import delete, set_, update

_CODES = " · ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())


@click.group(epilog=f"Exit codes: {_CODES}.")
def state() -> None:
    """Look at and mend state: of a host or an engine (--url), or of a store (--data-dir, --redis-url).

    stdout is data, and values are written as they are stored; what is said about it goes to stderr.
    """


for command in (scopes, keys, list_, get, set_, update, delete, watch, edit, export, import_, copy):
    state.add_command(command)
