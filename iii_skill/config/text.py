"""From the text of a configuration file to plain data: expand `${VAR:default}`, then parse strict YAML.

Variables are replaced in the whole text before YAML sees it, comments included, as the engine does. The
default runs to the first `}`; a variable that is set but empty wins over its default. YAML is read with the
scalars of YAML 1.2 (`yes` and `1:30` are strings, as in the engine), and a key given twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml

from iii_skill.errors import ConfigurationError

_PLACEHOLDER = re.compile(r"\$\{([^}:]+)(?::([^}]*))?\}")

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_SCALARS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class _StrictLoader(_Base):  # type: ignore[misc]
    """The safe loader with the scalars of YAML 1.2; a repeated key is refused."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _fault(f"a key must be text, not {key!r}", key_node)
            if key in found:
                raise _fault(f"the key '{key}' is given twice", key_node)
            found[key] = self.construct_object(value_node, deep=True)
        return found


def _fault(problem: str, node: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _construct_map(loader: _StrictLoader, node: Any) -> dict[str, Any]:
    return loader.construct_mapping(node, deep=True)


for _tag, _pattern, _first in _SCALARS:
    _StrictLoader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)
_StrictLoader.add_constructor("tag:yaml.org,2002:map", _construct_map)


def expand(text: str, env: Mapping[str, str], *, file: str) -> str:
    """The text with every placeholder replaced; ConfigurationError for a variable without any value."""

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = None if "\n" in name else env.get(name, default)
        if found is None:
            line = text.count("\n", 0, match.start()) + 1
            if "\n" in name:
                raise ConfigurationError(f"{file}: line {line}: `${{` has no `}}` on its line.")
            raise ConfigurationError(
                f"{file}: line {line}: the environment variable '{name}' is not set and has no default; "
                f"set it, or write ${{{name}:default}}."
            )
        return found

    return _PLACEHOLDER.sub(value, text)


def _problem(error: yaml.MarkedYAMLError, text: str) -> str:
    """What the parser says, made whole where it says half of it."""
    mark, said = error.problem_mark, str(error.problem)
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return "a tab; YAML is indented with spaces"
    return f"{error.context} {said}" if error.context and said.startswith("but ") else said


def parse(text: str, *, file: str) -> Any:
    """The parsed document (None when it is empty); ConfigurationError names the line of what is wrong."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f" line {mark.line + 1}, column {mark.column + 1}:"
        raise ConfigurationError(f"{file}:{place} {_problem(error, text)}.") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file}: {' '.join(str(error).split())}.") from None
    except (RecursionError, ValueError) as error:
        raise ConfigurationError(f"{file}: no usable YAML: {error}.") from None
