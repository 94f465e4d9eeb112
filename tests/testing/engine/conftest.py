"""An engine for each test of its own parts, without the plugin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from iii_skill.plugins import Plugins, load_plugins
from iii_skill.testing.engine.local import LocalEngine


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """Loaded once."""
    return load_plugins()


@pytest.fixture
def engine(plugins: Plugins) -> Iterator[LocalEngine]:
    """On the memory adapter."""
    with LocalEngine(plugins=plugins) as engine:
        yield engine
