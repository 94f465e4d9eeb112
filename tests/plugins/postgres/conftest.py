"""Fixtures: a server that tests may break, a proxy in front of it, and adapters over it."""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from iii_state_postgres import PostgresAdapter, PostgresConfig
from support.postgres import PostgresServer, postgres_server

from iii_skill.adapter import Clock
from iii_skill.testing import Proxy

OpenAdapter = Callable[..., AbstractAsyncContextManager[PostgresAdapter]]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def running() -> Iterator[PostgresServer]:
    """A server that the tests of a module share; they may break it, `server` mends it."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def server(running: PostgresServer) -> PostgresServer:
    """A healthy server."""
    if running.process is None or running.process.poll() is not None:
        running.start()
    running.signal(signal.SIGCONT)
    running.wait()
    return running


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    with Proxy("127.0.0.1", server.port, seconds=100) as proxy:
        yield proxy


@pytest.fixture
def schema() -> str:
    """The schema of a test."""
    return f"f{next(_numbers)}"


@pytest.fixture
def open_adapter(server: PostgresServer, schema: str) -> OpenAdapter:
    """Open an adapter with the given settings for the length of a block.

    Its time-out is far away: what a test is about ends a call, never a machine that is busy.
    """

    @contextlib.asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[PostgresAdapter]:
        adapter = PostgresAdapter()
        adapter.clock = Clock()
        try:
            given = {"database_url": server.url, "schema": schema, "timeout": 60.0, **settings}
            await adapter.open(PostgresConfig(**given))
            yield adapter
        finally:
            await adapter.close()

    return opened


@pytest.fixture
async def adapter(open_adapter: OpenAdapter) -> AsyncIterator[PostgresAdapter]:
    """An adapter over the server."""
    async with open_adapter() as adapter:
        yield adapter
