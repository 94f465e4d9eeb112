"""Fixtures: the adapter and the server that the template `adapter-plugin` (store=server) renders."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from iii_skill.adapters.shared import SharedAdapter
from iii_skill.cli.main import cli
from iii_skill.testing import Proxy, ServerProcess

OpenAdapter = Callable[..., AbstractAsyncContextManager[SharedAdapter[Any, int]]]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered project."""
    place = tmp_path_factory.mktemp("shared") / "iii-state-acme"
    done = CliRunner().invoke(cli, ["scaffold", "adapter-plugin", str(place), "--data", "store=server"])
    assert done.exit_code == 0, done.output
    return place


@pytest.fixture(scope="session")
def adapter_type(project: Path) -> Iterator[type[SharedAdapter[Any, int]]]:
    """Its adapter."""
    sys.path.insert(0, str(project / "src"))
    yield importlib.import_module("iii_state_acme").AcmeAdapter
    sys.path.remove(str(project / "src"))


@pytest.fixture
def server(project: Path) -> Iterator[ServerProcess]:
    """Its server."""
    program = str(project / "tests" / "server.py")
    with ServerProcess(lambda port, _directory: [sys.executable, program, str(port)]) as server:
        yield server


@pytest.fixture
def proxy(server: ServerProcess) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    with server.proxy(seconds=100) as proxy:
        yield proxy
    # A connection that the proxy had just accepted when it ended is closed by nobody else.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def open_adapter(adapter_type: type[SharedAdapter[Any, int]], proxy: Proxy) -> OpenAdapter:
    """Open an adapter behind the proxy for the length of a block.

    Its time-out is far away: what a test is about ends a call, never a machine that is busy.
    """
    store = uuid.uuid4().hex

    @contextlib.asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[SharedAdapter[Any, int]]:
        adapter = adapter_type()
        try:
            given = {"port": proxy.port, "store": store, "timeout": 60.0, **settings}
            await adapter.open(adapter.config_type(**given))
            yield adapter
        finally:
            await adapter.close()

    return opened
