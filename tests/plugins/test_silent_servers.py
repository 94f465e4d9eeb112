"""A host whose database has fallen silent still ends when it is asked to."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.client import raw_client
from support.host import running_host
from support.postgres import PostgresServer, postgres_server
from support.redis import RedisServer, redis_server


@contextlib.contextmanager
def database(kind: str) -> Iterator[tuple[RedisServer | PostgresServer, tuple[str, ...]]]:
    """A server of this kind and the options that name it; the time-out is far away."""
    far = "--adapter-config=timeout=600"
    if kind == "redis":
        with redis_server() as server:
            yield server, ("--adapter=redis", f"--adapter-config=redis_url={server.url}", far)
    else:
        with postgres_server() as other:
            yield other, ("--adapter=postgres", f"--adapter-config=database_url={other.url}", far)


@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_sigterm_ends_the_host_while_calls_hang(kind: str, tmp_path: Path) -> None:
    with database(kind) as (server, options), running_host(tmp_path, *options) as host:
        async with raw_client(host.ws) as client:
            await client.result("state::set", {"scope": "s", "key": "k", "value": 1})
            server.signal(signal.SIGSTOP)
            for value in range(3):
                frame = {"type": "invokefunction", "function_id": "state::set"}
                invocation_id = f"00000000-0000-4000-8000-00000000000{value}"
                data = {"scope": "s", "key": f"k{value}", "value": value}
                await client.send({**frame, "invocation_id": invocation_id, "data": data})
            # What is answered comes behind them: the host has those calls when it is asked to end.
            await client.result("engine::functions::list", {})
            assert await asyncio.to_thread(host.stop, timeout=60) == 0
        assert "before the adapter closed" in host.stderr
        server.signal(signal.SIGCONT)
