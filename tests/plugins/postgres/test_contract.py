"""The adapter `postgres` keeps the contract, over a real server that flushes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iii_state_postgres import PostgresAdapter
from support import postgres

from iii_skill.testing import AdapterContract


class TestPostgresAdapter(AdapterContract):
    """Every check of the kit that applies to what the adapter declares."""

    adapter = PostgresAdapter

    def config(self, tmp_path: Path) -> Mapping[str, Any]:
        """A schema of its own for each test."""
        return postgres.settings()
