"""Every bundled adapter, opened on an empty store of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from support import redis

from iii_skill.adapter import StateAdapter
from iii_skill.plugins import load_plugins

BUNDLED = ("memory", "file", "redis")


def settings(name: str, directory: Path) -> dict[str, Any]:
    """The settings of a bundled adapter for an empty store; a file lies in `directory`."""
    match name:
        case "file":
            return {"data_dir": str(directory / "state")}
        case "redis":
            return redis.settings()
    return {}


@contextlib.asynccontextmanager
async def opened(name: str, directory: Path) -> AsyncIterator[StateAdapter]:
    """An open adapter."""
    adapter = load_plugins().adapter(name)()
    await adapter.open(msgspec.convert(settings(name, directory), adapter.config_type))
    try:
        yield adapter
    finally:
        await adapter.close()
