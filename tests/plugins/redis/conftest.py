"""Fixtures: a server of each kind, and adapters over it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from iii_state_redis import RedisAdapter, RedisConfig
from support.redis import RedisServer, redis_server, valkey_binary

OpenAdapter = Callable[..., AbstractAsyncContextManager[RedisAdapter]]


@pytest.fixture(scope="module", params=["redis", "valkey"])
def running(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server that the tests of a module share; they may break it, `server` mends it."""
    program = valkey_binary() if request.param == "valkey" else None
    allow = ("--enable-debug-command", "yes")
    with redis_server(*allow, program=program) as server:
        yield server


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    """An empty, healthy server."""
    if running.process is None or running.process.poll() is not None:
        running.start()
    running.signal(signal.SIGCONT)
    running.cli("REPLICAOF", "NO", "ONE")
    running.cli("CONFIG", "SET", "maxmemory", "0")
    running.cli("CLIENT", "UNPAUSE")
    running.flush()
    return running


@pytest.fixture
def open_adapter(server: RedisServer) -> OpenAdapter:
    """Open an adapter with the given settings for the length of a block.

    Its time-out is far away: what a test is about ends a call, never a machine that is busy.
    """

    @contextlib.asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[RedisAdapter]:
        adapter = RedisAdapter()
        try:
            given = {"redis_url": server.url, "timeout": 60.0, "connect_timeout": 60.0, **settings}
            await adapter.open(RedisConfig(**given))
            yield adapter
        finally:
            await adapter.close()

    return opened


@pytest.fixture
async def adapter(open_adapter: OpenAdapter) -> AsyncIterator[RedisAdapter]:
    """An adapter over the server."""
    async with open_adapter() as adapter:
        yield adapter
