"""The adapter `memory` keeps the adapter contract; `file` and `redis` are tested in their own folders."""

from __future__ import annotations

from iii_state_memory import MemoryAdapter

from iii_skill.testing import AdapterContract


class TestMemoryAdapter(AdapterContract):
    """The adapter `memory`."""

    adapter = MemoryAdapter
