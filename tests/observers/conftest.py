"""What the tests of observers share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.observing import Observing, observing


@pytest.fixture
async def scene() -> AsyncIterator[Observing]:
    """An engine with observers."""
    async with observing() as made:
        yield made
