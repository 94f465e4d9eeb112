"""What the user gave to `iii-skill scaffold`: options, data, answers, and a person at the terminal."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iii_skill.scaffold.errors import AnswerError, UnsafePath

if TYPE_CHECKING:
    from iii_skill.scaffold.questions import Question


_TEXTS = {
    "name": "Name of the project.  [default: the last part of DEST]",
    "entity": "What the worker keeps, in the singular.  [default: product]",
    "plural": "Its plural: prefix of functions and routes.",
    "scope": "The state scope of the records.  [default: the plural]",
    "fields": "NAME:TYPE or NAME:TYPE=DEFAULT, ... Types: text, amount, integer, boolean.",
    "operations": "Of create, get, list, update, delete, counter, flag, session, cache, claim, hold, total, "
    "skeleton.",
    "update-field": "The field that `update` sets.",
    "counter-field": "The whole number that `counter` adds to and takes from.",
    "total-field": "The number that `total` adds up.  [default: the first one]",
    "api": "How routes and reactions are registered: triggers or observers (Python, Rust).",
    "adapter": "Where the host keeps the state: memory, file or redis.",
    "store": "What an adapter plugin keeps data in: file (of one host) or server (shared by hosts).",
    "config": "Form of iii-config.yaml: workers (engine 0.11 and later) or modules (0.10).",
}
_SWITCHES = {
    "http": "Answer over HTTP too, or only direct calls.",
    "trigger": "React to changes with a state trigger, or not.",
    "docker": "Add a Dockerfile, or not.",
}


def template_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that answer questions; those of other templates are answered with --data."""
    options = [click.option(f"--{name}", help=text) for name, text in _TEXTS.items()]
    joined = "Of queue, pubsub, cron, stream: companions that the records are joined to; repeatable."
    options.append(click.option("--with", multiple=True, callback=_joined, metavar="NAMES", help=joined))
    options += [
        click.option(f"--{name}/--no-{name}", default=None, help=text) for name, text in _SWITCHES.items()
    ]
    data = "An answer to any question, or a TOML or JSON file of answers."
    options.append(click.option("-d", "--data", multiple=True, metavar="FILE|K=V", help=data))
    answers = "Take template and answers of a .iii-skill.toml."
    options.append(click.option("--answers", type=click.Path(path_type=Path), metavar="FILE", help=answers))
    for option in reversed(options):
        command = option(command)
    return command


def _joined(_context: click.Context, _parameter: click.Parameter, words: tuple[str, ...]) -> str | None:
    return ",".join(words) if words else None


def given_answers(
    options: Mapping[str, object], data: Sequence[str], answers: Path | None
) -> tuple[dict[str, object], str | None]:
    """The answers of the user, the strongest last: answers file, --data, options; and the file's template."""
    from iii_skill.scaffold.project import read_answers

    given: dict[str, object] = {}
    template = None
    if answers is not None:
        origin = read_answers(answers)
        template = origin.template
        given.update({name: value for name, value in origin.answers.items() if name != "name"})
    for item in data:
        name, equals, value = item.partition("=")
        given.update({name.strip().replace("-", "_"): value} if equals else _data_file(Path(item)))
    given.update({name: value for name, value in options.items() if value is not None})
    return given, template


def _data_file(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise AnswerError(f"--data: {path} is no file of answers and no NAME=VALUE: {error}.") from None
    if not isinstance(data, dict):
        raise AnswerError(f"--data: {path} must hold names and values.")
    inner = data.get("answers", data)
    return dict(inner)


def template_and_destination(arguments: Sequence[str], default: str | None) -> tuple[str, Path]:
    """The two arguments; `default` stands in for a missing TEMPLATE."""
    from iii_skill.scaffold.catalog import bundled

    if len(arguments) == 2:
        return arguments[0], _destination(arguments[1])
    if len(arguments) == 1 and default is not None:
        return default, _destination(arguments[0])
    if len(arguments) == 1:
        word = arguments[0]
        example = f"{word} my-worker" if bundled(word) else f"TEMPLATE {word}"
        raise AnswerError(
            f"TEMPLATE or DEST is missing: write `iii-skill scaffold {example}`; --list shows the templates."
        )
    raise AnswerError(
        "Give TEMPLATE and DEST, such as `iii-skill scaffold python my-worker`; --list shows the templates."
    )


def _destination(text: str) -> Path:
    if not text or "\0" in text:
        raise UnsafePath("DEST must be the path of a directory.")
    return Path(text)


class Terminal:
    """The person at the terminal."""

    def ask(self, question: Question, default: str | bool | None) -> object:
        """Show the question and read the answer."""
        hint = f" ({', '.join(question.choices)})" if question.choices else ""
        if question.type == "boolean":
            return click.confirm(question.help.rstrip("."), default=bool(default))
        return click.prompt(f"{question.help}{hint}\n{question.name}", default=default, type=str)

    def object_to(self, message: str) -> None:
        """Say what is wrong."""
        click.echo(message, err=True)
