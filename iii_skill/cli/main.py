"""The click group `iii-skill`: commands are imported when they run, so that help stays quick."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import MutableMapping

import click
from click.shell_completion import CompletionItem

from iii_skill import __version__
from iii_skill.cli import collector
from iii_skill.cli.exit_codes import FAILED, INTERRUPTED
from iii_skill.cli.lazy import HELP, options_of, with_plain_help
from iii_skill.cli.secrets import hide_secrets

COMMANDS = {
    "serve": "Run the host: workers connect over WebSocket, clients over HTTP.",
    "state": "Look at and mend state: of a host, an engine or a store.",
    "trigger": "Call a function of a host or an engine.",
    "console": "Open the console of a host or an engine in the browser.",
    "scaffold": "Write a complete state worker (or an adapter plugin) from a template.",
    "adapters": "List the installed state adapters and the plugins that failed to load.",
    "adapter": "Test a state adapter against the conformance kit.",
    "attach": "Serve state::* inside a running iii engine, out of any adapter.",
    "migrate": "Move state between the real engine's stores and our adapters.",
    "completion": "Print the script that makes a shell complete commands, scopes and keys.",
    "mcp": "Serve state to an agent over the Model Context Protocol.",
    "doctor": "Look at this set-up: what is wrong, and how to mend it.",
}
"""Command name to its one-line help; the command `x` is `iii_skill.cli.x.x`."""
OUTPUT_FAILED = 74
"""Exit code when stdout takes no more: EX_IOERR of sysexits.h."""
_JSON_ERRORS, _JSON_LOG = "iii_skill.cli.json_errors", "iii_skill.cli.json_log"


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    _extended = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(self._plugin_commands())]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note whether errors are to be JSON: the command that knows may not get as far as its options."""
        ctx.meta[_JSON_ERRORS] = args[:1] in (["state"], ["trigger"]) and "--json" in args
        ctx.meta[_JSON_LOG] = args[:1] in (["serve"], ["attach"], ["console"]) and _json_log(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an interrupt ends with its own exit code, whatever the command was doing."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None
        except click.ClickException as error:
            if ctx.meta[_JSON_LOG]:
                _log_as_json(error.format_message())
            elif ctx.meta[_JSON_ERRORS]:
                _tell_as_json(error)
            else:
                raise
            raise SystemExit(error.exit_code) from None
        except Exception as error:
            if not ctx.meta[_JSON_LOG]:
                raise
            _log_as_json(f"{type(error).__name__}: {error}", traceback_too=True)
            raise SystemExit(FAILED) from None

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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The table above and plugin commands, without importing one of ours."""
        words = {**COMMANDS, **dict.fromkeys(self._plugin_commands(), "")}
        found = [CompletionItem(name, help=text) for name, text in words.items()]
        return [item for item in found if item.value.startswith(incomplete)] + options_of(
            self, ctx, incomplete
        )

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


@click.group(cls=LazyGroup, add_help_option=False)
@click.version_option(__version__, prog_name="iii-skill", allow_from_autoenv=False)
@click.help_option(*HELP, allow_from_autoenv=False)
def cli() -> None:
    """Durable, pluggable state for iii workers: a host, a scaffolder and an agent skill."""


def main() -> None:
    """Entry point of the console script. Options are read from the environment too: III_SKILL_SERVE_PORT."""
    gc.disable()  # until the command is imported
    _open_standard_files()
    for stream in (sys.stdout, sys.stderr):  # a terminal of 8 bits shows what it cannot spell as an escape
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    hide_secrets()
    code: str | int | None = None
    if "_III_SKILL_COMPLETE" in os.environ:
        importlib.import_module("iii_skill.cli.completion")  # Our way to answer bash.
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
    gc.freeze()  # what is left ends with the process: looking for circles in it takes a tenth of a short one
    sys.exit(code)


def _open_standard_files() -> None:
    """Started with one of the first three files closed, the next file opened would take its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:  # what Python leaves of a file that was closed
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))


def _json_log(args: list[str]) -> bool:
    """Whether a command that logs is asked for JSON: known before its options are, which may be wrong."""
    asked = os.environ.get(f"III_SKILL_{args[0].upper()}_LOG_FORMAT")
    for option, following in zip(args, [*args[1:], ""], strict=True):
        if option == "--log-format":
            asked = following
        elif option.startswith("--log-format="):
            asked = option.partition("=")[2]
    return asked == "json"


def _log_as_json(text: str, *, traceback_too: bool = False) -> None:
    """The end of a command as the last line of its log."""
    import logging  # late: every command imports this module

    from iii_skill.cli.log import FORMATS

    exception = sys.exc_info() if traceback_too else None
    record = logging.LogRecord("iii_skill", logging.ERROR, "", 0, "%s", (text,), exception)
    click.echo(FORMATS["json"].of(record), err=True)


def _tell_as_json(error: click.ClickException) -> None:
    import json  # late: every command imports this module

    fields = {"code": "failed", "message": error.format_message()}
    if isinstance(error, click.UsageError):
        fields["code"] = "usage"
        if error.ctx is not None:
            fields["fix"] = f"`{error.ctx.command_path} --help` tells how it is used."
    click.echo(json.dumps({"error": fields}), err=True)


def _output_failed(error: OSError) -> int:
    if error.filename is not None:
        click.echo(f"Error: {error.filename}: {error.strerror}.", err=True)
        return FAILED
    click.echo(f"Error: stdout takes no more ({error.strerror or error}).", err=True)
    return OUTPUT_FAILED


if __name__ == "__main__":
    main()
