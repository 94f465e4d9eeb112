"""The adapters that mistakes are seeded into are right: they pass the whole kit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from support.hub_adapter import HubAdapter
from support.journal_adapter import JournalAdapter

from iii_skill.testing import AdapterContract


class TestJournalAdapter(AdapterContract):
    """A disk adapter."""

    adapter = JournalAdapter

    def config(self, tmp_path: Path) -> Mapping[str, object]:
        return {"data_dir": tmp_path / "data"}


class TestHubAdapter(AdapterContract):
    """A shared adapter."""

    adapter = HubAdapter

    def config(self, tmp_path: Path) -> Mapping[str, object]:
        return {"hub": str(tmp_path)}
