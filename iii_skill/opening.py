"""Opening: the adapter that a configuration names, its settings checked, its store opened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from iii_skill.adapter import StateAdapter
from iii_skill.clock import Clock
from iii_skill.config import StateConfig, adapter_settings
from iii_skill.errors import IiiSkillError, PluginError, StorageFailed, StoreRefused
from iii_skill.plugins import Plugins
from iii_skill.state.closing import close_state

logger = logging.getLogger(__name__)

GRACE_S = 2.0
"""Seconds that the `close` of an adapter gets whose `open` did not end well."""


def chosen_adapter(plugins: Plugins, config: StateConfig) -> type[StateAdapter]:
    """The class of that name; PluginError says what there is, and where in the file the name stands."""
    try:
        return plugins.adapter(config.adapter_name)
    except PluginError as error:
        if config.name_where is None:
            raise
        raise PluginError(f"{config.name_where}: {error.message}") from None


async def open_configured(
    kind: type[StateAdapter],
    config: StateConfig,
    *,
    on_failure: Callable[[StorageFailed], None],
    clock: Clock | None = None,
) -> StateAdapter:
    """An adapter of that class, open with the configured settings.

    ConfigurationError says which setting does not fit, StoreRefused why the store cannot be opened.
    """
    adapter = kind()
    settings = adapter_settings(
        adapter.config_type, config.adapter_config, where=config.where, from_text=config.from_text
    )
    adapter.on_failure = on_failure
    if clock is not None:
        adapter.clock = clock
    await open_adapter(adapter, settings)
    return adapter


async def open_adapter(adapter: StateAdapter, settings: msgspec.Struct) -> None:
    """Open its store, or close it; what an adapter raises that no contract names is StoreRefused, too."""
    try:
        await adapter.open(settings)
    except BaseException as error:
        await _close_unopened(adapter)
        if isinstance(error, IiiSkillError) or not isinstance(error, Exception):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise StoreRefused(f"The adapter '{adapter.name}' cannot be opened: {reason}") from error


async def _close_unopened(adapter: StateAdapter) -> None:
    """Let it free what it has taken. What goes wrong here is logged: why it did not open is what counts."""
    loop = asyncio.get_running_loop()
    try:
        left = await close_state(None, adapter, deadline=loop.time() + GRACE_S)
    except Exception:
        logger.exception("the adapter '%s' was not opened, and its `close` failed", adapter.name)
        return
    if left:
        logger.error("ended without waiting any longer for %s", left[0])
