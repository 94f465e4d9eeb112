"""What the engine stored for its workers: `config/<id>.yaml`, whose `value` wins over the block in the file.

The first boot of an engine moves each worker's `config:` block there, and from then on only reads it there.
The form is `id`, `name`, `description` and `value`; placeholders in the value stand as they were written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from iii_skill.config.names import both_names
from iii_skill.config.text import load_yaml, read_text
from iii_skill.errors import ConfigurationError
from iii_skill.placeholders import MAX_FILLED, VARIABLE, fill_value

_MOVED = re.compile(r"^[ \t]*# '([a-z0-9_-]{1,64})': value now lives in the configuration worker", re.M)


class Stored(msgspec.Struct, frozen=True):
    """The value that was stored for a worker; `shadowed` is a file of its other name that is not read."""

    path: Path
    value: Any
    shadowed: Path | None = None


def moved(text: str) -> set[str]:
    """The workers whose block an engine replaced by a comment that says where the value lives now."""
    return set(_MOVED.findall(text))


def store_directory(config: Any) -> str | None:
    """The directory out of the settings of the worker `configuration`; None when they name none."""
    adapter = config.get("adapter") if isinstance(config, Mapping) else None
    if not isinstance(adapter, Mapping) or adapter.get("name") not in (None, "fs"):
        return None
    settings = adapter.get("config")
    directory = settings.get("directory") if isinstance(settings, Mapping) else None
    return directory if isinstance(directory, str) and directory else None


def stored_value(directory: Path, worker: str, *, env: Mapping[str, str]) -> Stored | None:
    """The stored value of the worker, looked for under both of its names, its own first."""
    found = [path for name in both_names(worker) if (path := directory / f"{name}.yaml").is_file()]
    values = [(path, value) for path in found if (value := _value(path, env)) is not None]
    if not values:
        return None
    (path, value), *others = values
    return Stored(path, value, others[0][0] if others else None)


def _value(path: Path, env: Mapping[str, str]) -> Any:
    shown = f"{path.parent.name}/{path.name}"
    document = load_yaml(read_text(path, shown), file=shown)
    if document is None:
        raise ConfigurationError(f"{shown}: is empty; restore it, or remove it to use the block of the file.")
    if not isinstance(document, Mapping):
        raise ConfigurationError(f"{shown}: expected a mapping with 'id' and 'value'; restore or remove it.")
    given = document.get("id")
    if given is not None and given != path.stem:
        raise ConfigurationError(f"{shown}: 'id' says '{str(given)[:80]}', which is another worker.")
    left = MAX_FILLED

    def filled(name: str, default: str | None, _place: int) -> str:
        nonlocal left
        found = env.get(name, default)
        if found is None:
            raise ConfigurationError(
                f"{shown}: the environment variable '{name}' is not set and has no default; set it."
            )
        left -= len(found)
        if left < 0:
            raise ConfigurationError(f"{shown}: is too large with its placeholders filled in.")
        return found

    return fill_value(document.get("value"), VARIABLE, filled)
