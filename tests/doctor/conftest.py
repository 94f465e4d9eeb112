"""The place of a test: released at its end, whatever was started there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from doctor.place import Place

from iii_skill.doctor import directory, engine


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    # How long a flush or a call takes on a busy machine is no fault of the set-up.
    monkeypatch.setattr(directory, "SLOW_FLUSH_S", 600.0)
    monkeypatch.setattr(engine, "SLOW_S", 600.0)
    async with AsyncExitStack() as stack:
        yield Place(tmp_path, stack)
