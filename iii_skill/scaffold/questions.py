"""Questions: what a template asks, and how the text of an answer becomes a checked value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iii_skill.scaffold import forbidden, names
from iii_skill.scaffold.errors import AnswerError

TYPES = ("name", "scope", "text", "boolean", "choice", "set", "fields", "field")
FIELD_TYPES = ("text", "amount", "integer", "boolean")
NAMESPACES = ("project", "entity", "plural", "adapter")


@dataclass(frozen=True)
class Field:
    """One field of a record: `default` is None when the caller must give it."""

    name: str
    type: str
    default: str | int | float | bool | None = None

    def __str__(self) -> str:
        if self.default is None:
            return f"{self.name}:{self.type}"
        text = json.dumps(self.default) if isinstance(self.default, bool) else str(self.default)
        return f"{self.name}:{self.type}={text}"


@dataclass(frozen=True)
class Question:
    """One question of a template. `default` is text with Jinja expressions, or None: it must be answered."""

    name: str
    type: str
    help: str
    default: str | bool | None = None
    choices: tuple[str, ...] = ()
    implies: Mapping[str, Sequence[str]] | None = None
    when: str | None = None
    pattern: str | None = None
    max_length: int = 50
    field_type: str | None = None
    namespace: str = "project"
    """Among which names the answer of a question of the type `name` will stand."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """The types of a field that can answer it; `number` stands for both kinds."""
        numbers = ("amount", "integer")
        return numbers if self.field_type == "number" else (self.field_type,) if self.field_type else ()

    @property
    def option(self) -> str:
        """The option of the command line that answers it."""
        return f"--{self.name.replace('_', '-')}"

    def fitting(self, fields: Sequence[Field]) -> list[str]:
        """The names of the fields that can answer a question for a field."""
        return [field.name for field in fields if not self.wanted or field.type in self.wanted]

    def parse(self, raw: object, language: str, fields: Sequence[Field] = ()) -> Any:
        """The value that `raw` stands for; AnswerError names the option and the rule."""
        try:
            return _PARSERS[self.type](self, raw, language, fields)
        except ValueError as error:
            raise AnswerError(f"{self.option}: {error}.") from None


def _text_of(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"{raw!r} is not text")
    return raw.strip()


def _name(question: Question, raw: object, language: str, _fields: Sequence[Field]) -> str:
    text = _text_of(raw)
    if not names.KEBAB.fullmatch(text) or len(text) > question.max_length:
        limit = question.max_length
        raise ValueError(f"{text!r} must be lower case words joined by hyphens, at most {limit} characters")
    if reason := forbidden.fault(text, language, question.namespace):
        raise ValueError(f"{reason}; choose another name")
    return text


def _scope(_question: Question, raw: object, _language: str, _fields: Sequence[Field]) -> str:
    text = _text_of(raw)
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,40}", text):
        raise ValueError(f"{text!r} must be 1 to 40 letters, digits or any of _ . : -")
    if forbidden.owned_scope(text):
        raise ValueError(f"{text!r} is kept for the bookkeeping of a store; choose another scope")
    return text


def _free_text(question: Question, raw: object, _language: str, _fields: Sequence[Field]) -> str:
    text = _text_of(raw)
    if not text or len(text) > 200 or not text.isprintable():
        raise ValueError("must be 1 to 200 printable characters")
    if question.pattern and not re.fullmatch(question.pattern, text):
        raise ValueError(f"{text!r} does not match {question.pattern}")
    return text


def _boolean(_question: Question, raw: object, _language: str, _fields: Sequence[Field]) -> bool:
    if isinstance(raw, bool):
        return raw
    text = _text_of(raw).lower()
    if text in {"true", "yes", "y", "on", "1"}:
        return True
    if text in {"false", "no", "n", "off", "0"}:
        return False
    raise ValueError(f"{raw!r} must be true or false")


def _choice(question: Question, raw: object, _language: str, _fields: Sequence[Field]) -> str:
    text = _text_of(raw)
    if text not in question.choices:
        raise ValueError(f"{text!r} must be one of {', '.join(question.choices)}")
    return text


def _set(question: Question, raw: object, _language: str, _fields: Sequence[Field]) -> tuple[str, ...]:
    """The chosen words and what they imply, in the order of `choices`."""
    parts = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(parts, list | tuple):
        raise ValueError(f"{raw!r} must be words separated by commas")
    chosen = {_choice(question, part, "", ()) for part in parts if str(part).strip()}
    for word in tuple(chosen):
        chosen.update((question.implies or {}).get(word, ()))
    return tuple(word for word in question.choices if word in chosen)


def _fields(_question: Question, raw: object, language: str, _known: Sequence[Field]) -> tuple[Field, ...]:
    parts = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(parts, list | tuple):
        raise ValueError("must be NAME:TYPE or NAME:TYPE=DEFAULT, separated by commas")
    fields = tuple(_one_field(str(part).strip(), language) for part in parts if str(part).strip())
    if not 1 <= len(fields) <= 20:
        raise ValueError("must name 1 to 20 fields")
    seen = [field.name for field in fields]
    if twice := sorted({name for name in seen if seen.count(name) > 1}):
        raise ValueError(f"names {twice[0]!r} twice")
    return fields


def _one_field(text: str, language: str) -> Field:
    match = re.fullmatch(r"([^:=]*):([a-z]+)(?:=(.*))?", text)
    if match is None:
        raise ValueError(f"{text!r} must be NAME:TYPE or NAME:TYPE=DEFAULT")
    name, kind, default = match.groups()
    if not names.SNAKE.fullmatch(name) or len(name) > 20:
        raise ValueError(
            f"field {name!r} must be lower case words joined by underscores, at most 20 characters"
        )
    if reason := forbidden.fault(name, language, "field"):
        raise ValueError(f"field {reason}")
    if kind not in FIELD_TYPES:
        raise ValueError(f"field {name!r} has type {kind!r}; the types are {', '.join(FIELD_TYPES)}")
    return Field(name, kind, None if default is None else _default_of(name, kind, default.strip()))


_DEFAULTS = {
    "text": (r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,39}", "1 to 40 letters, digits, blanks, '_', '.' and '-'"),
    "amount": (r"(0|[1-9]\d{0,8})(\.\d{1,2})?", "a number from 0 to 999999999.99 with at most 2 decimals"),
    "integer": (r"0|-?[1-9]\d{0,8}", "a whole number of at most 9 digits"),
    "boolean": (r"true|false", "true or false"),
}
"""Of each type the form of a default, and what it is in words."""


def _default_of(name: str, kind: str, text: str) -> str | int | float | bool:
    form, words = _DEFAULTS[kind]
    if not re.fullmatch(form, text):
        raise ValueError(f"the default {text!r} of field {name!r} does not fit its type {kind}: {words}")
    if kind == "text":
        return text
    if kind == "amount" and float(text).is_integer():
        return int(float(text))  # formatters differ about the zeros of 2.00
    value: int | float | bool = json.loads(text)
    return value


def _field(question: Question, raw: object, _language: str, fields: Sequence[Field]) -> str:
    text = _text_of(raw)
    fitting = question.fitting(fields)
    if text not in fitting:
        kind = " or ".join(question.wanted) + " field" if question.wanted else "field"
        raise ValueError(f"{text!r} is no {kind} of --fields; take {' or '.join(fitting)}")
    return text


_PARSERS = {
    "name": _name,
    "scope": _scope,
    "text": _free_text,
    "boolean": _boolean,
    "choice": _choice,
    "set": _set,
    "fields": _fields,
    "field": _field,
}
