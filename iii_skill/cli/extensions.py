"""Commands that plugins add: loaded only when help or an unknown command asks for them."""

from __future__ import annotations

from importlib import metadata

import click

from iii_skill.entry_points import name_and_version, read_entry_points

_BUNDLED = "iii-skill"


def add_plugin_commands(cli: click.Group) -> None:
    """Ask the plugins of other distributions for commands; what fails is named on stderr.

    The bundled plugins add none, so without other plugins this costs one look at the entry points.
    """
    found, unreadable = read_entry_points()
    for dist in unreadable:
        click.echo(f"Package {dist.package} {dist.version} is left out: {dist.reason}", err=True)
    points = [point for point in found if not _bundled(point)]
    if not points:
        return
    from iii_skill.plugins import load_plugins

    plugins = load_plugins(points)
    plugins.add_commands(cli)
    for broken in plugins.broken:
        click.echo(f"Plugin {broken.source} is left out: {broken.reason}", err=True)


def _bundled(point: metadata.EntryPoint) -> bool:
    return point.dist is not None and name_and_version(point.dist)[0] == _BUNDLED
