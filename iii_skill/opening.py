"""Opening: the adapter that a configuration names, its settings checked, its store opened."""

from __future__ import annotations

import msgspec

from iii_skill.adapter import StateAdapter
from iii_skill.config import StateConfig, adapter_settings
from iii_skill.errors import IiiSkillError, PluginError, StoreRefused
from iii_skill.plugins import Plugins


def chosen_adapter(plugins: Plugins, config: StateConfig) -> type[StateAdapter]:
    """The class of that name; PluginError says what there is, and where in the file the name stands."""
    try:
        return plugins.adapter(config.adapter_name)
    except PluginError as error:
        if config.name_where is None:
            raise
        raise PluginError(f"{config.name_where}: {error.message}") from None


def checked_settings(adapter: type[StateAdapter], config: StateConfig) -> msgspec.Struct:
    """The settings for it; ConfigurationError says what does not fit."""
    return adapter_settings(
        adapter.config_type, config.adapter_config, where=config.where, from_text=config.from_text
    )


async def open_adapter(adapter: StateAdapter, settings: msgspec.Struct) -> None:
    """Open its store; what an adapter raises that no contract names is StoreRefused, too."""
    try:
        await adapter.open(settings)
    except IiiSkillError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise StoreRefused(f"The adapter '{adapter.name}' cannot be opened: {reason}") from error
