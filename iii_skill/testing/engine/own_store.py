"""A store that one engine of a test has for itself, made out of settings that many engines share."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from iii_skill.config import Config

UNIQUE = "{unique}"
"""Stands in the settings of an adapter for a text that no other engine has."""


def with_own_store(config: Config, directory: Callable[[], Path]) -> tuple[Config, bool]:
    """The configuration for one engine; True: its store was named with `{unique}` and is removed at its end.

    The adapter `file` without `data_dir` keeps its data in `directory()`.
    """
    state = config.state
    if state is None:
        return config, False
    settings = _filled(state.adapter_config, f"test-{uuid.uuid4().hex}")
    own = settings != state.adapter_config
    if state.adapter_name == "file" and "data_dir" not in settings:
        settings["data_dir"] = str(directory())
    return msgspec.structs.replace(config, state=msgspec.structs.replace(state, adapter_config=settings)), own


def _filled(settings: Any, unique: str) -> Any:
    if isinstance(settings, str):
        return settings.replace(UNIQUE, unique)
    if isinstance(settings, dict):
        return {name: _filled(value, unique) for name, value in settings.items()}
    if isinstance(settings, list):
        return [_filled(value, unique) for value in settings]
    return settings
