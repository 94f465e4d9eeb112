"""The adapter `file` keeps the adapter contract, also when almost nothing fits into its cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iii_state_file import FileAdapter

from iii_skill.testing import AdapterContract


class TestFileAdapter(AdapterContract):
    """The adapter `file` with its default cache."""

    adapter = FileAdapter

    def config(self, tmp_path: Path) -> Mapping[str, Any]:
        """A directory of its own."""
        return {"data_dir": str(tmp_path / "data")}


class TestFileAdapterWithoutCache(AdapterContract):
    """The adapter `file` that reads every key that is not being written from the disk."""

    adapter = FileAdapter

    def config(self, tmp_path: Path) -> Mapping[str, Any]:
        """A directory of its own and no cache."""
        return {"data_dir": str(tmp_path / "data"), "cache_bytes": 0}
