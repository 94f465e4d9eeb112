"""Render: a template and checked answers give the files of a project, as text in memory; pure.

Jinja2's sandbox with StrictUndefined does the rendering: a template cannot reach Python objects, import,
read files or run code, and a name that it misspells is an error instead of an empty string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from jinja2 import FunctionLoader, StrictUndefined
from jinja2 import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from iii_skill import __version__
from iii_skill.scaffold import names
from iii_skill.scaffold.errors import TemplateError, UnsafePath
from iii_skill.scaffold.questions import Field
from iii_skill.scaffold.template import Template


class Renderer:
    """Evaluates the expressions of one template and renders its files."""

    def __init__(self, template: Template, around: Mapping[str, bool] | None = None) -> None:
        """`around` is what `surroundings` found where the project will lie."""
        self.template = template
        self._around = {"cargo_member": False, **(around or {})}
        self._sources = {file.name: file.source for file in template.files}
        self._environment = _environment(FunctionLoader(self._load))
        self._compiled: dict[str, Callable[..., Any]] = {}

    def render(self, answers: Mapping[str, Any]) -> dict[str, str]:
        """Relative path to text of every file of the project."""
        context = self.context(answers)
        files: dict[str, str] = {}
        for file in self.template.files:
            if file.when is not None and not self.evaluate(file.when, context):
                continue
            target = safe_path(self.fill(file.target, context))
            if target in files:
                raise TemplateError(f"Template {self.template.name}: two files want to be {target!r}.")
            with self._naming(file.name):
                files[target] = self._environment.get_template(file.name).render(context)
        return files

    def context(self, answers: Mapping[str, Any]) -> dict[str, Any]:
        """The answers, and the tables and values that the template derives from them."""
        context = {**answers, **self._around, "iii_skill_version": __version__}
        context.update({name: self._rows(rows, context) for name, rows in self.template.tables.items()})
        for name, expression in self.template.values.items():
            context[name] = self.evaluate(expression, context)
        return context

    def _rows(self, rows: Sequence[Mapping[str, Any]], context: Mapping[str, Any]) -> dict[str, Any]:
        """The rows of a table whose `when` holds, each by its `key` and with its expressions replaced."""
        found: dict[str, Any] = {}
        for row in rows:
            if "when" not in row or self.evaluate(row["when"], context):
                found[row["key"]] = {
                    name: self.fill(value, context) if isinstance(value, str) else value
                    for name, value in row.items()
                    if name != "when"
                }
        return found

    def fill(self, text: str, context: Mapping[str, Any]) -> str:
        """`text` of `template.toml` with its expressions replaced."""
        if "{" not in text:
            return text
        with self._naming(repr(text)):
            return self._environment.from_string(text).render(context)

    def evaluate(self, expression: str, context: Mapping[str, Any]) -> Any:
        """The value of an expression of `template.toml`."""
        with self._naming(repr(expression)):
            compiled = self._compiled.get(expression)
            if compiled is None:
                compiled = self._environment.compile_expression(expression, undefined_to_none=False)
                self._compiled[expression] = compiled
            return compiled(**context)

    def _load(self, name: str) -> str | None:
        """An included file: only files of the template itself can be read."""
        source = self._sources.get(name)
        return None if source is None else source.read_text(encoding="utf-8-sig")

    @contextmanager
    def _naming(self, where: str) -> Iterator[None]:
        try:
            yield
        except (JinjaError, TypeError, ValueError, OverflowError, ArithmeticError, LookupError) as error:
            line = getattr(error, "lineno", None)
            place = f"{where}, line {line}" if line else where
            reason = str(error) or type(error).__name__
            raise TemplateError(f"Template {self.template.name}: {place}: {reason}.") from error


def safe_path(path: str) -> str:
    """`path` when it stays inside the project, on every file system; UnsafePath otherwise."""
    pure = PurePosixPath(path)
    parts = path.split("/")
    outside = pure.is_absolute() or any(part in ("", ".", "..") for part in parts)
    if outside or parts[0] == ".git" or any(bad in path for bad in '\\:\0<>"|?*') or not path.isprintable():
        raise UnsafePath(
            f"The template wants to write {path!r}, which is not a plain path inside the destination."
        )
    return path


def _environment(loader: FunctionLoader) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.globals.clear()
    environment.filters.update(
        snake=names.snake,
        kebab=names.kebab,
        constant=names.constant,
        words=names.words,
        pascal=names.pascal,
        camel=names.camel,
        plural=names.plural,
        json=_json,
        py=python_literal,
        js=javascript_literal,
        example=example,
        probe=probe,
        default_update_field=default_update_field,
        default_counter_field=default_counter_field,
        default_total_field=default_total_field,
    )
    return environment


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def python_literal(value: Any) -> str:
    """A Python literal with double quotes."""
    return _json(value) if isinstance(value, str) else repr(value)


def javascript_literal(value: Any) -> str:
    """A JavaScript literal with single quotes."""
    return "'" + _json(value)[1:-1].replace("'", "\\'") + "'" if isinstance(value, str) else _json(value)


def example(fields: tuple[Field, ...]) -> str:
    """A body with a value for each field, as JSON."""
    values = {"text": "sample", "amount": 9.5, "integer": 10, "boolean": True}
    return _json({field.name: values[field.type] for field in fields})


def probe(path: str, value: str = "%20") -> str:
    """A route with a value in place of each of its parameters; a blank is one that every worker refuses."""
    return re.sub(r":\w+", value, path)


def default_update_field(fields: tuple[Field, ...]) -> str:
    """The first amount, else the first field that is no whole number, else the first field."""
    for wanted in (("amount",), ("text", "boolean")):
        for field in fields:
            if field.type in wanted:
                return field.name
    return fields[0].name


def default_counter_field(fields: tuple[Field, ...]) -> str:
    """The first whole number, or nothing."""
    return next((field.name for field in fields if field.type == "integer"), "")


def default_total_field(fields: tuple[Field, ...]) -> str:
    """The first amount or whole number, or nothing."""
    return next((field.name for field in fields if field.type in ("amount", "integer")), "")
