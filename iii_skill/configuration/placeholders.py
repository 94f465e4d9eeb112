"""`${VAR}` and `${VAR:default}` inside configuration values, filled in when they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from iii_skill.errors import CallerError

_placeholder = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")


class ExpandFailed(CallerError):
    """A variable is not set and has no default."""

    code = "EXPAND_FAILED"


def expanded(value: Any, environment: Mapping[str, str]) -> Any:
    """The value with all placeholders filled in; a string that is one whole placeholder takes its type."""
    if isinstance(value, dict):
        return {name: expanded(inner, environment) for name, inner in value.items()}
    if isinstance(value, list):
        return [expanded(inner, environment) for inner in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    filled = _placeholder.sub(lambda match: _filled(match, environment), value)
    return _typed(filled) if _placeholder.fullmatch(value) else filled


def _filled(match: re.Match[str], environment: Mapping[str, str]) -> str:
    found = environment.get(match[1], match[2])
    if found is None:
        raise ExpandFailed(f"environment variable '{match[1]}' is not set and has no default")
    return found


def _typed(text: str) -> Any:
    import yaml  # Slow to load, and most entries have no placeholder.

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if value is None or isinstance(value, bool | int | float) else text
