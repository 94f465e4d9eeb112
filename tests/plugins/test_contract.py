"""The bundled adapters keep the adapter contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from iii_state_file import FileAdapter
from iii_state_memory import MemoryAdapter
from iii_state_redis import RedisAdapter
from support import redis

from iii_skill.testing import AdapterContract

pytestmark = pytest.mark.timeout(180)


class TestMemoryAdapter(AdapterContract):
    """The adapter `memory`."""

    adapter = MemoryAdapter


class TestFileAdapter(AdapterContract):
    """The adapter `file`."""

    adapter = FileAdapter

    def config(self, tmp_path: Path) -> Mapping[str, object]:
        return {"data_dir": tmp_path / "data"}


class TestFileAdapterWithoutCache(AdapterContract):
    """The adapter `file` where every read goes to the disk."""

    adapter = FileAdapter

    def config(self, tmp_path: Path) -> Mapping[str, object]:
        return {"data_dir": tmp_path / "data", "cache_bytes": 0}


class TestRedisAdapter(AdapterContract):
    """The adapter `redis` on a real server."""

    adapter = RedisAdapter

    def config(self, tmp_path: Path) -> Mapping[str, object]:
        return redis.settings()
