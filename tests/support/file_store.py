"""Short words for tests of the adapter `file`: open one, await what it gives."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from iii_state_file import FileAdapter, FileConfig

from iii_skill.errors import StoreRefused


async def answer(given: Any) -> Any:
    """What a method gave, awaited where it is awaitable."""
    return await given if inspect.isawaitable(given) else given


async def opened(directory: Path, **settings: Any) -> FileAdapter:
    """An open adapter."""
    adapter = FileAdapter()
    try:
        await adapter.open(FileConfig(data_dir=str(directory), **settings))
    except BaseException:
        await adapter.close()
        raise
    return adapter


@asynccontextmanager
async def open_store(directory: Path, **settings: Any) -> AsyncIterator[FileAdapter]:
    """An open adapter that is closed in the end."""
    adapter = await opened(directory, **settings)
    try:
        yield adapter
    finally:
        await adapter.close()


async def refusal(directory: Path, **settings: object) -> str:
    """The sentence with which the store is refused; nothing of it stays open."""
    with pytest.raises(StoreRefused) as refused:
        await opened(directory, **settings)
    message = refused.value.message
    assert str(directory) in message
    assert re.search(r": .+\.$", message), f"'{message}' does not say what to do"
    return message
