"""Template: a directory with a `template.toml` and files that end in `.j2`, loaded and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iii_skill.scaffold.errors import TemplateError
from iii_skill.scaffold.questions import NAMESPACES, TYPES, Question

SUFFIX = ".j2"


@dataclass(frozen=True)
class NameCheck:
    """A rule over several answers: `test` is a Jinja expression, `option` the one to change."""

    test: str
    option: str
    message: str


@dataclass(frozen=True)
class File:
    """A template file: `target` may hold Jinja expressions, `when` decides whether it is written."""

    name: str
    source: Path
    target: str
    when: str | None = None


@dataclass(frozen=True)
class NextStep:
    """A command to run after the project is written; a `background` one goes on running."""

    run: str
    note: str = ""
    background: bool = False


@dataclass(frozen=True)
class Template:
    """What `template.toml` says, together with the files; `package` is the distribution it came with."""

    name: str
    title: str
    description: str
    language: str
    version: str
    package: str
    questions: Mapping[str, Question]
    values: Mapping[str, str]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    checks: tuple[NameCheck, ...]
    files: tuple[File, ...]
    steps: tuple[NextStep, ...] = ()
    hidden: bool = field(default=False)


def load_template(directory: Path, package: str = "iii-skill") -> Template:
    """Read a template directory; TemplateError says what is wrong with it. No code of the template runs."""
    try:
        data = tomllib.loads((directory / "template.toml").read_text(encoding="utf-8-sig"))
        base = None
        if "extends" in data:
            base = load_template(_sibling(directory, data["extends"]), package)
        return _template(directory, data, package, base)
    except (OSError, ValueError, RecursionError) as error:
        raise TemplateError(f"Template {directory.name}: template.toml cannot be read: {error}.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise TemplateError(f"Template {directory.name}: template.toml is not valid: {error!r}.") from error


def _sibling(directory: Path, name: str) -> Path:
    if "/" in name or "\\" in name or name.startswith("."):
        raise TemplateError(f"Template {directory.name}: `extends` must name a directory beside it.")
    return directory.parent / name


def _template(directory: Path, data: dict[str, Any], package: str, base: Template | None) -> Template:
    known = {
        "name", "title", "description", "language", "version", "extends", "hidden",
        "questions", "values", "tables", "checks", "files", "steps",
    }  # fmt: skip
    if unknown := sorted(set(data) - known):
        raise TemplateError(f"Template {directory.name}: template.toml has an unknown key '{unknown[0]}'.")
    if data["name"] != directory.name:
        raise TemplateError(f"Template {directory.name}: `name` must be the name of the directory.")
    questions = dict(base.questions) if base else {}
    for name, entry in data.get("questions", {}).items():
        questions[name] = _question(directory, name, entry)
    checks = tuple(NameCheck(**entry) for entry in data.get("checks", ()))
    files = {file.name: file for file in (base.files if base else ())}
    files.update((file.name, file) for file in _files(directory, data.get("files", {})))
    return Template(
        name=data["name"],
        title=data["title"],
        description=data["description"],
        language=data["language"],
        version=str(data["version"]),
        package=package,
        questions=questions,
        values={**(base.values if base else {}), **data.get("values", {})},
        tables={**(base.tables if base else {}), **_tables(directory, data.get("tables", {}))},
        checks=(base.checks if base else ()) + checks,
        files=tuple(files[name] for name in sorted(files)),
        steps=tuple(NextStep(**entry) for entry in data.get("steps", ())),
        hidden=data.get("hidden", False),
    )


def _question(directory: Path, name: str, entry: dict[str, Any]) -> Question:
    if entry["type"] not in TYPES:
        raise TemplateError(
            f"Template {directory.name}: question '{name}' has type '{entry['type']}'; "
            f"the types are {', '.join(TYPES)}."
        )
    if entry.get("namespace", NAMESPACES[0]) not in NAMESPACES:
        raise TemplateError(
            f"Template {directory.name}: question '{name}' has namespace '{entry['namespace']}'; "
            f"there are {', '.join(NAMESPACES)}."
        )
    choices = tuple(entry.pop("choices", ()))
    return Question(name=name, choices=choices, **entry)


def _tables(directory: Path, tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    for name, rows in tables.items():
        keys = [row["key"] for row in rows]
        if len(keys) != len(set(keys)):
            raise TemplateError(f"Template {directory.name}: a key stands twice in the table '{name}'.")
    return tables


def _files(directory: Path, settings: dict[str, Any]) -> list[File]:
    """Every `.j2` below the directory; `dot-x.j2` becomes `.x`, because installers drop hidden files."""
    root = directory.resolve()
    files = []
    for source in sorted(directory.rglob("*")):
        if source.is_dir() or source.name == "template.toml":
            continue
        if source.suffix != SUFFIX:
            raise TemplateError(f"Template {directory.name}: {source.name} does not end in {SUFFIX}.")
        if not source.resolve().is_relative_to(root):
            raise TemplateError(
                f"Template {directory.name}: {source.name} is a link that leaves the template."
            )
        relative = source.relative_to(directory)
        setting = settings.get(relative.as_posix(), {})
        name = relative.name.removesuffix(SUFFIX)
        plain = relative.with_name("." + name.removeprefix("dot-") if name.startswith("dot-") else name)
        files.append(
            File(relative.as_posix(), source, setting.get("target", plain.as_posix()), setting.get("when"))
        )
    return files
