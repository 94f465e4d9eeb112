"""The sections of the file that this host runs, each as it stands in the file, and what they become."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from iii_skill.config.names import OLD_ADAPTERS, Named, chosen_name
from iii_skill.config.reader import Interval, Positive, Text, read
from iii_skill.config.settings import HttpSettings, StateConfig, WorkerListener, WorkerPort
from iii_skill.errors import ConfigurationError

_DURABLE = "has no effect here: every write is stored before its answer leaves."


class WorkerSection(WorkerPort, frozen=True, kw_only=True):
    """`iii-worker-manager`, with the keys that let in fewer workers: they are refused, not ignored."""

    middleware_function_id: Any = None
    rbac: Any = None


class AdapterSection(Named, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The adapter of `iii-state`."""

    config: dict[str, Any] | None = None


class StateSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`iii-state`."""

    adapter: AdapterSection | None = None
    triggers_enabled: bool = True
    max_value_bytes: Positive | None = None
    save_interval_ms: Interval | None = None


class KvSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the engine's own adapter `kv`."""

    store_method: Literal["in_memory", "file_based"] = "in_memory"
    file_path: Text | None = None
    save_interval_ms: Interval | None = None


def read_worker(data: Any, where: str, *, grace_ms: int) -> WorkerListener:
    """The settings of the worker port."""
    section = read(WorkerSection, data, where=where)
    for key in ("rbac", "middleware_function_id"):
        if getattr(section, key) is not None:
            raise ConfigurationError(
                f"{where}.{key}: this host does not enforce it, and without it every worker would be "
                "let in. Remove it and use `--token`, or run the engine."
            )
    return WorkerListener(
        host=section.host,
        port=section.port,
        handshake_timeout_ms=section.handshake_timeout_ms,
        grace_ms=grace_ms,
    )


def read_http(data: Any, where: str, *, notes: list[str]) -> HttpSettings:
    """The settings of the HTTP port; sentences about what has no effect go to `notes`."""
    settings = read(HttpSettings, data, where=where)
    if settings.concurrency_request_limit is not None:
        notes.append(f"{where}.concurrency_request_limit has no effect, here as in the engine.")
    return settings


def read_state(data: Any, where: str, *, base: Path, notes: list[str]) -> StateConfig:
    """The settings of the state worker: the engine's adapters become ours, any installed one passes through.

    `kv` with `in_memory` is our `memory`. `kv` with `file_based` is our `file`, whose files lie in the same
    directory (`file_path`, relative to `base`) beside the engine's own `*.bin` files, which are neither read
    nor changed. `redis` is our `redis`. `bridge` is refused: it needs an engine to forward to.
    """
    section = read(StateSection, data, where=where)
    if section.save_interval_ms is not None:
        notes.append(f"{where}.save_interval_ms {_DURABLE}")
    if section.adapter is None:
        notes.append(
            f"{where}: no adapter is given, so state lives in memory and ends with the host, as in "
            "the engine; `adapter: {name: file}` keeps it."
        )
    name, settings = _adapter(section.adapter, f"{where}.adapter", base=base, notes=notes)
    return StateConfig(
        adapter_name=name,
        adapter_config=settings,
        triggers_enabled=section.triggers_enabled,
        max_value_bytes=section.max_value_bytes,
        where=f"{where}.adapter.config",
        name_where=f"{where}.adapter.name",
    )


def _adapter(
    section: AdapterSection | None, where: str, *, base: Path, notes: list[str]
) -> tuple[str, dict[str, Any]]:
    if section is None or section == AdapterSection():
        return "memory", {}
    name = chosen_name(section, where, of_class=lambda old: _of_class(old, where))
    if name == "bridge":
        raise ConfigurationError(
            f"{where}: the adapter 'bridge' keeps no state, it forwards to another engine. Connect "
            "the workers to that engine, or serve `state::*` inside it with `iii-skill attach`."
        )
    if name == "kv":
        return _kv(section.config, f"{where}.config", base=base, notes=notes)
    settings = dict(section.config or {})
    if name == "file" and isinstance(settings.get("data_dir"), str):
        settings["data_dir"] = _absolute(base, settings["data_dir"])
    return name, settings


def _of_class(old: str, where: str) -> str:
    if old not in OLD_ADAPTERS:
        known = ", ".join(OLD_ADAPTERS)
        raise ConfigurationError(f"{where}.class: '{old}' is unknown; known classes: {known}.")
    return OLD_ADAPTERS[old]


def _kv(data: Any, where: str, *, base: Path, notes: list[str]) -> tuple[str, dict[str, Any]]:
    section = read(KvSection, data, where=where)
    if section.save_interval_ms is not None:
        notes.append(f"{where}.save_interval_ms {_DURABLE}")
    if section.store_method == "in_memory":
        if section.file_path is not None:
            notes.append(f"{where}.file_path has no effect with store_method in_memory.")
        return "memory", {}
    data_dir = _absolute(base, section.file_path or "kv_store_data.db")
    if any(Path(data_dir).glob("*.bin")):
        notes.append(
            f"{data_dir} holds state of the engine (*.bin files), which this host neither reads nor changes; "
            "`iii-skill migrate` copies it."
        )
    return "file", {"data_dir": data_dir}


def _absolute(base: Path, path: str) -> str:
    return os.path.abspath(base / path)
