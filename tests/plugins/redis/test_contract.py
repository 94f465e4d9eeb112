"""The adapter `redis` keeps the adapter contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iii_state_redis import RedisAdapter
from support.redis import settings

from iii_skill.testing import AdapterContract


class TestRedisAdapter(AdapterContract):
    """The layout of the real engine."""

    adapter = RedisAdapter

    def config(self, tmp_path: Path) -> Mapping[str, Any]:
        """An empty corner of the server."""
        return settings()


class _ClusterLayout(RedisAdapter):
    """It keeps no history there, and says so when it is opened with the setting."""

    historical = False


class TestClusterLayout(AdapterContract):
    """The layout for clusters, on a single server."""

    adapter = _ClusterLayout

    def config(self, tmp_path: Path) -> Mapping[str, Any]:
        """An empty corner of the server."""
        return {**settings(), "layout": "cluster"}
