"""`backup`: a copy of a file store at one moment, also while a host has it open."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from iii_skill.cli.exit_codes import USAGE
from iii_skill.cli.host_note import data_dir_here
from iii_skill.cli.reach import Reach, Stopped, own_options, tell
from iii_skill.cli.state.values import counted, line, put
from iii_skill.errors import StoreRefused

DEFAULT = Path(".iii", "state")


@click.command()
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The store's directory.  [default: that of the host that runs here, or .iii/state]",
)
@own_options
def backup(target: Path, data_dir: Path | None, reach: Reach) -> None:
    """Copy a store of the adapter `file` into the new directory TARGET; a host may go on writing to it.

    It reads the store's directory, on this machine. The copy is opened as a host would open it, and every row
    of it is checked.
    """
    source = data_dir or data_dir_here() or DEFAULT
    if not reach.quiet:
        click.echo(f"[file {source.absolute()}]", err=True)
    copying = importlib.import_module("iii_state_file.backup")
    try:
        if not source.is_dir():
            fix = "Name it with --data-dir; for another store or machine there is `state export`."
            raise Stopped(USAGE, f"There is no store in {source}.", fix=fix)
        copying.back_up(source, target)
        count = copying.check(target)
    except (StoreRefused, Stopped) as error:
        raise SystemExit(tell(reach, error)) from None
    if reach.as_json:
        put(line(target=str(target.absolute()), keys=count))
    click.echo(f"{target}: {counted(count, 'key')}, all of them checked", err=True)
