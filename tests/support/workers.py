"""A host with open ports in the test's process, and real workers of any language that connect to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from iii_skill import open_host
from iii_skill.host import Host
from iii_skill.testing.engine.processes import ForeignProcess

WAIT_S = 60.0
"""Seconds for what only the load of the machine makes long: it ends a test that would wait for ever."""
QUIET_S = 0.15
"""A worker that sleeps and has registered nothing for so long has registered all of it."""


@dataclass(frozen=True)
class Site:
    """A host and the addresses of its two ports."""

    host: Host
    ws: str
    http: str

    async def call(self, function_id: str, payload: Any, *, namespace: str | None = None) -> Any:
        """The result of a function; InvocationError when it fails."""
        return await self.host.trigger(function_id, payload, namespace=namespace, timeout=WAIT_S)

    async def functions(self, namespace: str = "default") -> set[str]:
        """The ids of all functions of a namespace."""
        rows = (await self.call("engine::functions::list", {}))["functions"]
        return {row["function_id"] for row in rows if row["namespace"] == namespace}

    async def triggers(self) -> int:
        """How many triggers there are."""
        rows = (await self.call("engine::registered-triggers::list", {}))["registered_triggers"]
        return len(rows)

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of one HTTP request."""
        return await asyncio.to_thread(self._request, method, path, body)

    def _request(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.http + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    @property
    def environment(self) -> dict[str, str]:
        """What makes any SDK connect to this host."""
        return os.environ | {"III_URL": self.ws, "III_ENGINE_URL": self.ws, "OTEL_ENABLED": "false"}

    @property
    def environment_of_a_reader(self) -> dict[str, str]:
        """The same for somebody who set nothing but the address: telemetry is as SDK and worker have it."""
        return {name: value for name, value in self.environment.items() if not name.startswith("OTEL_")}


@asynccontextmanager
async def running_site(*, engine_functions_only: bool = False) -> AsyncIterator[Site]:
    """A host on the memory adapter and free ports."""
    async with open_host(adapter="memory", engine_functions_only=engine_functions_only) as host:
        servers = await host.serve(port=0, http_port=0)
        yield Site(host, servers.ws_url, str(servers.http_url))


async def becomes(what: str, condition: Callable[[], Awaitable[bool]], *, seconds: float = WAIT_S) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.02)


def written(file: Path, *words: str) -> Callable[[], Awaitable[bool]]:
    """Whether the file has all of these words by now."""

    async def there() -> bool:
        text = await asyncio.to_thread(file.read_text)
        return all(word in text for word in words)

    return there


def logged(caplog: pytest.LogCaptureFixture, *words: str) -> Callable[[], Awaitable[bool]]:
    """Whether one line of what workers log in the host's log has all of these words by now."""

    async def there() -> bool:
        lines = [one.getMessage() for one in caplog.records if one.name == "iii_skill.workers"]
        return any(all(word in line for word in words) for line in lines)

    return there


@asynccontextmanager
async def running_worker(
    command: Sequence[str],
    cwd: Path,
    site: Site,
    *,
    environment: Mapping[str, str] | None = None,
    namespace: str = "default",
) -> AsyncIterator[set[str]]:
    """A worker, from its last registration (gives the ids) until SIGTERM, which it must take with 0."""
    before = await site.functions(namespace)
    log = cwd / ("worker.log" if namespace == "default" else f"worker-{namespace}.log")
    variables = {**(environment or site.environment), "III_NAMESPACE": namespace}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=cwd, env=variables, stdout=output, stderr=output
        )
    seen: tuple[set[str], int] = set(), 0
    quiet_since = time.monotonic()
    program = ForeignProcess(process.pid)

    async def settled() -> bool:
        """It has registered and sleeps: it waits for work, and for the signal that ends it."""
        nonlocal seen, quiet_since
        assert process.returncode is None, f"the worker ended with {process.returncode}\n{log.read_text()}"
        awake = program.idle is False
        now = await site.functions(namespace) - before, await site.triggers()
        if now != seen or awake:
            seen, quiet_since = now, time.monotonic()
        return bool(seen[0]) and time.monotonic() - quiet_since > QUIET_S

    try:
        try:
            await becomes("the functions of the worker", settled)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{log.read_text()}") from None
        yield seen[0]
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), WAIT_S)
        assert code == 0, f"after SIGTERM the worker ended with {code}\n{log.read_text()}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
