"""The click group `iii-skill`: commands are imported when they run, so that help stays quick."""

from __future__ import annotations

import gc
import importlib
from collections.abc import MutableMapping

import click

from iii_skill import __version__

COMMANDS = {
    "serve": "Run the host: workers connect over WebSocket, clients over HTTP.",
    "scaffold": "Write a complete state worker (or an adapter plugin) from a template.",
    "adapters": "List the installed state adapters and the plugins that failed to load.",
    "adapter": "Test a state adapter against the conformance kit.",
    "attach": "Serve state::* inside a running iii engine, out of any adapter.",
    "migrate": "Move state between the real engine's stores and our adapters.",
}
"""Command name to its one-line help; the command `x` is `iii_skill.cli.x.x`."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    _extended = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command in the order of the table, then those of plugins."""
        return [*COMMANDS, *sorted(self._plugin_commands())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of the command; plugins are only asked for names that are not ours."""
        if cmd_name not in COMMANDS:
            return self._plugin_commands().get(cmd_name)
        gc.disable()  # Imports leave no garbage, and looking for it takes a good part of their time.
        try:
            module = importlib.import_module(f"iii_skill.cli.{cmd_name}")
        finally:
            gc.enable()
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Take a plugin's command; a name that is taken is refused."""
        wanted = name or cmd.name
        if wanted in COMMANDS or wanted in self.commands:
            raise ValueError(f"the command '{wanted}' is already there")
        super().add_command(cmd, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table above, then plugin commands, without importing a command."""
        rows = list(COMMANDS.items())
        for name, command in sorted(self._plugin_commands().items()):
            rows.append((name, command.get_short_help_str()))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _plugin_commands(self) -> MutableMapping[str, click.Command]:
        if not self._extended:
            self._extended = True
            extensions = importlib.import_module("iii_skill.cli.extensions")
            extensions.add_plugin_commands(self)
        return self.commands


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="iii-skill")
def cli() -> None:
    """Durable, pluggable state for iii workers: a host, a scaffolder and an agent skill."""


def main() -> None:
    """Entry point of the console script. Options are read from the environment too: III_SKILL_SERVE_PORT."""
    cli(prog_name="iii-skill", auto_envvar_prefix="III_SKILL")


if __name__ == "__main__":
    main()
