"""`ask`: the state worker over each bundled adapter; their answers do not differ."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.adapters import BUNDLED, opened
from support.calls import Asking


@pytest.fixture(params=BUNDLED)
async def ask(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Asking]:
    async with opened(request.param, tmp_path) as adapter:
        asking = Asking(adapter)
        await asking.worker.start()
        asking.worker.listen()
        yield asking
        await asking.worker.close()
