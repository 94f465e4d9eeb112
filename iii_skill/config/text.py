"""From the text of a configuration file to plain data: fill in `${VAR:default}`, then read strict YAML.

Variables are replaced in the whole text before YAML sees it, comments included, as the engine does. The
default runs to the first `}`; a variable that is set but empty wins over its default. YAML is read with the
scalars of YAML 1.2 (`yes` and `1:30` are strings, as in the engine), and a key given twice is an error.
A file is bounded in bytes, in depth, and in what its aliases stand for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from iii_skill.errors import ConfigurationError
from iii_skill.placeholders import MAX_FILLED, SCALARS, fill

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_PARTS = 50_000
"""Values in one document, each alias counted with all that it stands for."""
_LONGEST = 80

_NAME = re.compile(r"[^}:]+")

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_Base):  # type: ignore[misc]
    """The safe loader with the scalars of YAML 1.2; a repeated key is refused."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _fault(f"a key must be text, not {repr(key)[:_LONGEST]}", key_node)
            if key in found:
                raise _fault(f"the key '{key[:_LONGEST]}' is given twice", key_node)
            found[key] = self.construct_object(value_node, deep=True)
        return found


def _fault(problem: str, node: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _construct_map(loader: _StrictLoader, node: Any) -> dict[str, Any]:
    return loader.construct_mapping(node, deep=True)


for _tag, _pattern, _first in SCALARS:
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)
_StrictLoader.add_constructor("tag:yaml.org,2002:map", _construct_map)


def parse(text: str, env: Mapping[str, str], *, file: str) -> Any:
    """What the text says, with its placeholders filled in; ConfigurationError names file and line."""
    return load_yaml(expand(text, env, file=file), file=file)


def read_text(path: Path, shown: str) -> str:
    """The text of the file; ConfigurationError names it as `shown`."""
    try:
        with path.open("rb") as file:
            encoded = file.read(MAX_BYTES + 1)
        if len(encoded) > MAX_BYTES:
            raise ConfigurationError(f"{shown}: is larger than {MAX_BYTES} bytes.")
        return encoded.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise ConfigurationError(f"There is no configuration file '{shown}'.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{shown}: is not text in UTF-8.") from None
    except OSError as error:
        raise ConfigurationError(f"{shown}: cannot be read: {os.strerror(error.errno or 0)}.") from None


def expand(text: str, env: Mapping[str, str], *, file: str) -> str:
    """The text with every placeholder replaced; ConfigurationError for a variable without any value."""
    left = MAX_FILLED

    def filled(name: str, default: str | None, place: int) -> str:
        nonlocal left
        found = None if "\n" in name else env.get(name, default)
        if found is None:
            line = text.count("\n", 0, place) + 1
            if "\n" in name:
                raise ConfigurationError(f"{file}: line {line}: `${{` has no `}}` on its line.")
            name = name[:_LONGEST]
            raise ConfigurationError(
                f"{file}: line {line}: the environment variable '{name}' is not set and has no default; "
                f"set it, or write ${{{name}:default}}."
            )
        left -= len(found)
        if left < 0:
            raise ConfigurationError(f"{file}: is too large with its placeholders filled in.")
        return found

    return fill(text, _NAME, filled)


def load_yaml(text: str, *, file: str) -> Any:
    """The parsed document (None when it is empty); ConfigurationError names the line of what is wrong."""
    try:
        _check_size(text, file)
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f" line {mark.line + 1}, column {mark.column + 1}:"
        raise ConfigurationError(f"{file}:{place} {_problem(error, text)}.") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file}: {' '.join(str(error).split())[:300]}.") from None
    except (RecursionError, ValueError) as error:
        raise ConfigurationError(f"{file}: no usable YAML: {error}.") from None


def _check_size(text: str, file: str) -> None:
    """Refuse what is too deep or has too many parts, before anything is built of it.

    `sizes` holds what stands behind each anchor; an alias counts as much, so that ten lines of aliases to
    aliases count as the millions of values that they are.
    """
    parts = 0
    open_starts: list[tuple[str | None, int]] = []
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, Loader=_StrictLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_starts.pop()
            if anchor is not None:
                sizes[anchor] = parts - before
            continue
        if isinstance(event, yaml.CollectionStartEvent):
            open_starts.append((event.anchor, parts))
        elif isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
            sizes[event.anchor] = 1
        parts += sizes.get(event.anchor or "", 1) if isinstance(event, yaml.AliasEvent) else 1
        if len(open_starts) > MAX_DEPTH or parts > MAX_PARTS:
            line = text.count("\n", 0, event.start_mark.index) + 1 if event.start_mark else 1
            wrong = f"nested deeper than {MAX_DEPTH} levels" if parts <= MAX_PARTS else "too many values"
            raise ConfigurationError(f"{file}: line {line}: {wrong}.")


def _problem(error: yaml.MarkedYAMLError, text: str) -> str:
    """What the parser says, made whole where it says half of it."""
    mark, said = error.problem_mark, str(error.problem)
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return "a tab; YAML is indented with spaces"
    return f"{error.context} {said}" if error.context and said.startswith("but ") else said
