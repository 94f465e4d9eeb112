"""The two sides of a move: which adapter or directory, with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from iii_skill.adapter import StateAdapter
from iii_skill.config.reader import adapter_settings
from iii_skill.errors import ConfigurationError, PluginError, StoreRefused
from iii_skill.opening import open_adapter
from iii_skill.plugins import Plugins
from iii_skill.values import Durability

from .kv import KvDirectory
from .sources import AdapterSource, StateSource

KV = "iii-kv"
REDIS = "iii-redis"
PLACES = ("data_dir", "redis_url", "database_url")
"""Settings that say where an adapter keeps its data; LOCATION fills the one that the adapter has."""


@dataclass(frozen=True)
class Side:
    """One side of the move: an adapter with its settings, or a directory of the engine."""

    kind: str
    adapter: type[StateAdapter] | None = None
    settings: Any = None
    directory: Path | None = None

    @property
    def data_dir(self) -> Path | None:
        """The directory that the settings name, if they do."""
        named = getattr(self.settings, "data_dir", None)
        return None if named is None else Path(named)

    @property
    def exists(self) -> bool:
        """False when opening it would make a new, empty store."""
        return self.data_dir is None or self.data_dir.exists()

    @property
    def label(self) -> str:
        """What it is called in messages, without secrets."""
        place = self.directory or self.data_dir
        return self.kind if place is None else f"{self.kind} ({place})"


def plan(
    plugins: Plugins,
    *,
    source_kind: str,
    location: str | None,
    target_name: str,
    shared: Mapping[str, str | None],
    source_settings: Mapping[str, Any],
    target_settings: Mapping[str, Any],
) -> tuple[Side, Side]:
    """Both sides; ConfigurationError or PluginError says what does not fit.

    `shared` are settings of the command line that go to the target when it has them, else to the source.
    """
    target_type = plugins.adapter("redis" if target_name == REDIS else target_name)
    given = {key: value for key, value in shared.items() if value is not None}
    for_target = {key: value for key, value in given.items() if key in _fields(target_type)}
    rest = {key: value for key, value in given.items() if key not in for_target}
    target = _adapter_side(target_name, target_type, {**for_target, **target_settings}, where="the target")
    source = _source_side(plugins, source_kind, location, {**rest, **source_settings})
    if (source.adapter, source.settings) == (target.adapter, target.settings):
        raise ConfigurationError("Source and target are the same store; name the source's place as LOCATION.")
    if target_type.durability is Durability.NONE:
        raise ConfigurationError(
            f"The adapter '{target_name}' keeps nothing after this command ends: "
            "move the state to one that does."
        )
    return source, target


async def open_source(side: Side) -> StateSource:
    """Open it for reading; StoreRefused when there is nothing."""
    if side.directory is not None:
        return KvDirectory(side.directory)
    if not side.exists:
        raise StoreRefused(f"There is no directory {side.data_dir} to read from.")
    return AdapterSource(await _opened(side), engine=side.kind == REDIS)


async def open_target(side: Side) -> StateAdapter:
    """Open it for writing."""
    return await _opened(side)


async def _opened(side: Side) -> StateAdapter:
    assert side.adapter is not None
    adapter = side.adapter()
    await open_adapter(adapter, side.settings)
    return adapter


def _source_side(plugins: Plugins, source_kind: str, location: str | None, settings: dict[str, Any]) -> Side:
    if source_kind == KV:
        place = location or settings.pop("data_dir", None)
        if place is None:
            raise ConfigurationError(f"--from {KV} needs the engine's directory: --from {KV} DIR.")
        if settings:
            raise ConfigurationError(f"--from {KV} has no setting '{next(iter(settings))}'.")
        return Side(KV, directory=Path(place))
    adapter = _source_adapter(plugins, "redis" if source_kind == REDIS else source_kind)
    if location is not None:
        place_names = [name for name in PLACES if name in _fields(adapter)]
        if not place_names:
            raise ConfigurationError(
                f"The adapter '{source_kind}' takes no LOCATION; use --from-config KEY=VALUE."
            )
        settings = {**settings, place_names[0]: location}
    elif source_kind == REDIS and "redis_url" not in settings:
        raise ConfigurationError(f"--from {REDIS} needs the server: --from {REDIS} URL.")
    return _adapter_side(source_kind, adapter, settings, where="the source")


def _source_adapter(plugins: Plugins, name: str) -> type[StateAdapter]:
    try:
        return plugins.adapter(name)
    except PluginError as error:
        raise PluginError(
            f"{error.message} Besides adapters --from takes {KV} (the engine's directory) and {REDIS} "
            "(what the engine keeps in Redis)."
        ) from None


def _adapter_side(kind: str, adapter: type[StateAdapter], settings: Mapping[str, Any], *, where: str) -> Side:
    checked = adapter_settings(adapter.config_type, settings, where=where, from_text=True)
    return Side(kind, adapter, checked)


def _fields(adapter: type[StateAdapter]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(adapter.config_type)}
