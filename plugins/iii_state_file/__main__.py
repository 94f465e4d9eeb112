"""`python -m iii_state_file backup DIR COPY` and `check DIR`, for a store that a host may have open."""

from __future__ import annotations

from pathlib import Path

import click

from iii_skill.errors import StoreRefused
from iii_state_file.backup import back_up, check

_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.group()
def main() -> None:
    """Look after a store of the adapter `file`; the host may go on using it."""


@main.command("backup")
@click.argument("store", type=_DIRECTORY)
@click.argument("copy", type=_DIRECTORY)
def backup_command(store: Path, copy: Path) -> None:
    """Write the store at one moment into the new directory COPY, and check every row of it."""
    try:
        count = back_up(store, copy)
    except StoreRefused as refused:
        raise click.ClickException(refused.message) from refused
    click.echo(f"{copy}: {count} keys, all of them checked.")


@main.command("check")
@click.argument("store", type=_DIRECTORY)
def check_command(store: Path) -> None:
    """Read every row of the store."""
    try:
        count = check(store)
    except StoreRefused as refused:
        raise click.ClickException(refused.message) from refused
    click.echo(f"{store}: {count} keys, all of them whole.")


if __name__ == "__main__":
    main(prog_name="python -m iii_state_file")
