"""Tokens and passwords: from a file or the environment, and off the command line that every user can read.

A process cannot take a word out of its command line, but it can start itself again without it: what was
given as `--token SECRET` is handed on in the environment, which only its own user and root can read. Until
then, a few milliseconds, the secret stands in the list of processes; a file or the environment has no such
moment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from iii_skill.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

F = TypeVar("F", bound=Callable[..., Any])

TOKEN_VARIABLES = {
    "serve": "III_SKILL_TOKEN",
    "attach": "III_TOKEN",
    "console": "III_TOKEN",
    "state": "III_TOKEN",
    "trigger": "III_TOKEN",
    "mcp": "III_TOKEN",
    "doctor": "III_SKILL_DOCTOR_TOKEN",
}
COMMANDS = ("serve", "attach", "console", "migrate", "state", "trigger", "mcp", "doctor")
_SETTINGS = ("--adapter-config", "--from-config")
"""Options that may be repeated: their variable holds several, with blanks between."""
_SECRET_WORDS = ("password", "secret", "token", "dsn", "key")
_MAX_FILE_BYTES = 65_536


def token_options(command: str, text: str) -> Callable[[F], F]:
    """Add `--token` and `--token-file` to the command; `token_of` makes one of the two."""
    from pathlib import Path  # late: every command imports this module

    variable = TOKEN_VARIABLES[command]
    advice = f"Better in {variable} or a file: other users can see a command line."

    def add(function: F) -> F:
        function = click.option(
            "--token-file",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar=f"{variable}_FILE",
            show_envvar=True,
            help="A file that holds the token.",
        )(function)
        return click.option(
            "--token", metavar="SECRET", envvar=variable, show_envvar=True, help=f"{text} {advice}"
        )(function)

    return add


def token_of(token: str | None, token_file: Path | None) -> str | None:
    """The token, checked; a line break at the end of the file does not belong to it.

    What stands on the command line wins over the environment.
    """
    if token is not None and token_file is not None:
        sources = [click.get_current_context().get_parameter_source(name) for name in ("token", "token_file")]
        if sources[0] == sources[1]:
            raise click.UsageError("The token is given twice: leave out --token or --token-file.")
        if sources[0] == ParameterSource.COMMANDLINE:
            token_file = None
    if token_file is None:
        return None if token is None else _checked(token, "The token")
    try:
        with token_file.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES).decode("utf-8")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise click.ClickException(f"The token file '{token_file}' cannot be read: {reason}.") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"The token file '{token_file}' holds no text in UTF-8.") from None
    return _checked(text.removesuffix("\n").removesuffix("\r"), f"The token in '{token_file}'")


def _checked(token: str, what: str) -> str:
    from iii_skill.server.guard import check_token  # late: every command imports this module

    try:
        check_token(token, what)
    except ConfigurationError as error:
        raise click.ClickException(error.message) from None
    return token


def hide_secrets() -> None:
    """Start this program again without the secrets on its command line; returns when there are none."""
    command, *arguments = sys.argv[1:] or [""]
    if command not in COMMANDS or any(one.startswith("--token-file") for one in arguments):
        return
    # The options of `state get` are read from III_SKILL_STATE_GET_…
    inner = arguments[0] if command == "state" and arguments else None
    rest, secrets = without_secrets(command, arguments, inner=inner)
    original = sys.orig_argv
    if not secrets or original[len(original) - len(arguments) - 1 :] != [command, *arguments]:
        return
    os.environ.update(secrets)
    ahead = original[1 : len(original) - len(arguments)]
    try:
        os.execv(sys.executable, [sys.executable, *ahead, *rest])
    except OSError:
        return  # It still works, only not hidden.


def without_secrets(
    command: str, arguments: Sequence[str], *, inner: str | None = None
) -> tuple[list[str], dict[str, str]]:
    """The arguments without secrets, and the environment variables that say the same."""
    name = command if inner is None else f"{command}_{inner}"
    variables = {
        option: f"III_SKILL_{name}{option.removeprefix('-')}".replace("-", "_").upper()
        for option in ("--redis-url", "--database-url", *_SETTINGS)
    }
    if command in TOKEN_VARIABLES:
        variables["--token"] = TOKEN_VARIABLES[command]
    rest: list[str] = []
    given: dict[str, list[str]] = {}
    waiting = list(arguments)
    while waiting:
        one = waiting.pop(0)
        option, equals, value = one.partition("=")
        if option not in variables or (not equals and not waiting):
            rest.append(one)
            continue
        given.setdefault(option, []).append(value if equals else waiting.pop(0))
    secrets: dict[str, str] = {}
    for option, values in given.items():
        several = option in _SETTINGS
        if _is_secret(option, values) and not (several and _has_blanks(values)):
            secrets[variables[option]] = " ".join(values) if several else values[-1]
        else:
            rest += [part for value in values for part in (option, value)]
    return rest, secrets


def _is_secret(option: str, values: Sequence[str]) -> bool:
    """An empty value cannot be handed on in the environment, where it counts as not given."""
    if option == "--token":
        return values[-1] != ""
    return any(
        "@" in value
        or "password=" in value.lower()
        or any(word in value.partition("=")[0].lower() for word in _SECRET_WORDS)
        for value in values
    )


def _has_blanks(values: Sequence[str]) -> bool:
    """A variable that holds several settings is split at blanks."""
    return any(value.split() != [value] for value in values)
