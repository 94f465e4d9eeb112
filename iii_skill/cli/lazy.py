"""Verbs: a group whose commands are imported when they run, so that each starts quickly."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from iii_skill.cli import collector

HELP = ("-h", "--help")


class LazyVerb(NamedTuple):
    """Where a command is, and what the list of its group says of it."""

    module: str
    attribute: str
    help: str
    examples: tuple[str, ...] = ()
    """What follows the name of the group on a command line that does something sensible."""


class Verbs(click.Group):
    """Knows the names and help of its commands without importing them."""

    def __init__(self, *args: Any, verbs: Mapping[str, LazyVerb], **more: Any) -> None:
        super().__init__(*args, **more)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of the command."""
        verb = self.verbs.get(cmd_name)
        if verb is None:
            return None
        with collector.paused():
            command = getattr(importlib.import_module(verb.module), verb.attribute)
        assert isinstance(command, click.Command)
        lines = [f"  {ctx.command_path} {example}" for example in verb.examples]
        command.epilog = "\n".join(["\b", "Examples:", *lines])
        return with_plain_help(command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The table, without importing a command."""
        found = [CompletionItem(name, help=verb.help) for name, verb in self.verbs.items()]
        return [item for item in found if item.value.startswith(incomplete)] + options_of(
            self, ctx, incomplete
        )

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing a command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in self.verbs.items()])


def options_of(group: click.Group, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The options of a group, once a dash was typed."""
    return click.Command.shell_complete(group, ctx, incomplete)


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
