"""The click group `iii-skill`: commands are imported when they run, so that help stays quick."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import MutableMapping

import click

from iii_skill import __version__
from iii_skill.cli import collector
from iii_skill.cli.secrets import hide_secrets

COMMANDS = {
    "serve": "Run the host: workers connect over WebSocket, clients over HTTP.",
    "state": "Look at and mend state: of a host, an engine or a store.",
    "trigger": "Call a function of a host or an engine.",
    "scaffold": "Write a complete state worker (or an adapter plugin) from a template.",
    "adapters": "List the installed state adapters and the plugins that failed to load.",
    "adapter": "Test a state adapter against the conformance kit.",
    "attach": "Serve state::* inside a running iii engine, out of any adapter.",
    "migrate": "Move state between the real engine's stores and our adapters.",
    "doctor": "Look at this set-up: what is wrong, and how to mend it.",
}
"""Command name to its one-line help; the command `x` is `iii_skill.cli.x.x`."""
HELP = ("-h", "--help")
OUTPUT_FAILED = 74
"""Exit code when stdout takes no more: EX_IOERR of sysexits.h."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    _extended = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(self._plugin_commands())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of the command; plugins are only asked for names that are not ours."""
        if cmd_name not in COMMANDS:
            command = self._plugin_commands().get(cmd_name)
            return None if command is None else with_plain_help(command)
        with collector.paused():
            module = importlib.import_module(f"iii_skill.cli.{cmd_name}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return with_plain_help(command)

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


def with_plain_help(command: click.Command) -> click.Command:
    """The command and its sub-commands, with a help option that no environment variable switches on."""
    if command.add_help_option:
        command.add_help_option = False
        taken = {name for parameter in command.params for name in parameter.opts}
        if names := [name for name in HELP if name not in taken]:
            click.help_option(*names, allow_from_autoenv=False)(command)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            with_plain_help(inner)
    return command


@click.group(cls=LazyGroup, add_help_option=False)
@click.version_option(__version__, prog_name="iii-skill", allow_from_autoenv=False)
@click.help_option(*HELP, allow_from_autoenv=False)
def cli() -> None:
    """Durable, pluggable state for iii workers: a host, a scaffolder and an agent skill."""


def main() -> None:
    """Entry point of the console script. Options are read from the environment too: III_SKILL_SERVE_PORT."""
    for stream in (sys.stdout, sys.stderr):  # a terminal of 8 bits shows what it cannot spell as an escape
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    _open_standard_files()
    hide_secrets()
    code: str | int | None = None
    try:
        cli(prog_name="iii-skill", auto_envvar_prefix="III_SKILL")
    except SystemExit as end:
        code = end.code
    except OSError as error:
        code = _output_failed(error)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # What cannot be written stays in the buffer, and Python would speak of it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = code or _output_failed(error)
    sys.exit(code)


def _open_standard_files() -> None:
    """Started with one of the first three files closed, the next file opened would take its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


def _output_failed(error: OSError) -> int:
    click.echo(f"Error: stdout takes no more ({error.strerror or error}).", err=True)
    return OUTPUT_FAILED


if __name__ == "__main__":
    main()
