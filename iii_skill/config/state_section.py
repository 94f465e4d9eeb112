"""The section `iii-state`: the engine's adapters become ours, any installed adapter passes through.

`kv` with `in_memory` is our `memory`. `kv` with `file_based` is our `file`, whose files lie in the same
directory (`file_path`, relative to the configuration file) beside the engine's own `*.bin` files, which are
neither read nor changed. `redis` is our `redis`. `bridge` is refused: it needs an engine to forward to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from iii_skill.config.fields import Fields
from iii_skill.config.names import OLD_ADAPTERS
from iii_skill.config.settings import StateConfig
from iii_skill.errors import ConfigurationError

_INTERVAL = {"low": 100, "high": 3_600_000}
_DURABLE = "has no effect here: every write is stored before its answer leaves."


def read_state(fields: Fields, *, base: Path, notes: list[str]) -> StateConfig:
    """The settings of the state worker; sentences about what has no effect go to `notes`."""
    fields.only("adapter", "triggers_enabled", "max_value_bytes", "save_interval_ms")
    if fields.optional_whole("save_interval_ms", **_INTERVAL) is not None:
        notes.append(f"{fields.where}.save_interval_ms {_DURABLE}")
    if fields.data.get("adapter") is None:
        notes.append(
            f"{fields.where}: no adapter is given, so state lives in memory and ends with the host, as in "
            "the engine; `adapter: {name: file}` keeps it."
        )
    name, settings, where = _adapter(fields.inner("adapter"), base=base, notes=notes)
    return StateConfig(
        adapter_name=name,
        adapter_config=settings,
        triggers_enabled=fields.flag("triggers_enabled", default=True),
        max_value_bytes=fields.optional_whole("max_value_bytes", low=1),
        where=where,
    )


def _adapter(fields: Fields, *, base: Path, notes: list[str]) -> tuple[str, dict[str, Any], str]:
    fields.only("name", "class", "config")
    inner = fields.inner("config")
    name = _adapter_name(fields)
    if name == "bridge":
        raise ConfigurationError(
            f"{fields.where}: the adapter 'bridge' keeps no state, it forwards to another engine. Connect "
            "the workers to that engine, or serve `state::*` inside it with `iii-skill attach`."
        )
    if name == "kv":
        return (*_kv(inner, base=base, notes=notes), inner.where)
    settings = dict(inner.data)
    if name == "file" and isinstance(settings.get("data_dir"), str):
        settings["data_dir"] = _absolute(base, settings["data_dir"])
    return name, settings, inner.where


def _adapter_name(fields: Fields) -> str:
    if not fields.data:
        return "kv"
    name, old = fields.optional_text("name"), fields.optional_text("class")
    if name is not None and old is not None:
        raise ConfigurationError(f"{fields.where}: has both 'name' and 'class'; keep 'name'.")
    if old is not None:
        if old not in OLD_ADAPTERS:
            known = ", ".join(OLD_ADAPTERS)
            raise ConfigurationError(f"{fields.where}.class: '{old}' is unknown; known classes: {known}.")
        return OLD_ADAPTERS[old]
    if name is None:
        raise ConfigurationError(f"{fields.where}: has no 'name'.")
    return name


def _kv(fields: Fields, *, base: Path, notes: list[str]) -> tuple[str, dict[str, Any]]:
    fields.only("store_method", "file_path", "save_interval_ms")
    method = fields.one_of("store_method", "in_memory", "in_memory", "file_based")
    file_path = fields.text("file_path", "kv_store_data.db")
    if fields.optional_whole("save_interval_ms", **_INTERVAL) is not None:
        notes.append(f"{fields.where}.save_interval_ms {_DURABLE}")
    if method == "in_memory":
        if fields.data.get("file_path") is not None:
            notes.append(f"{fields.where}.file_path has no effect with store_method in_memory.")
        return "memory", {}
    data_dir = _absolute(base, file_path)
    if any(Path(data_dir).glob("*.bin")):
        notes.append(
            f"{data_dir} holds state of the engine (*.bin files), which this host neither reads nor changes; "
            "`iii-skill migrate` copies it."
        )
    return "file", {"data_dir": data_dir}


def _absolute(base: Path, path: str) -> str:
    return os.path.abspath(base / path)
