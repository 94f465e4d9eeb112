"""A host for the tests of queues, and a function that keeps what it gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support import redis

from iii_skill import Host, open_host


@pytest.fixture(params=["memory", "file", "redis"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    async with open_host(adapter=request.param, adapter_config=settings(request.param, tmp_path)) as host:
        yield host


def settings(adapter: str, directory: Path) -> dict[str, Any]:
    if adapter == "file":
        return {"data_dir": str(directory / "data")}
    return dict(redis.settings()) if adapter == "redis" else {}
