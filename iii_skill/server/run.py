"""Servers: the worker port and the HTTP port of one host; `run` serves until a signal."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from iii_skill.errors import ConfigurationError
from iii_skill.host import Host
from iii_skill.server.guard import Guard, is_loopback
from iii_skill.server.http import HttpServer
from iii_skill.server.websocket import Listening, WorkerServer

logger = logging.getLogger(__name__)

GRACE_S = 2.0
"""Seconds that calls in flight get at the end."""

RESTART = 1012
"""The close code after which every SDK reconnects."""


class Servers:
    """The listening ports of one host; None leaves a setting as the configuration has it."""

    def __init__(
        self,
        host: Host,
        *,
        port: int | None = None,
        http_port: int | None = None,
        address: str | None = None,
        token: str | None = None,
        no_auth: bool = False,
    ) -> None:
        self._host = host
        worker, http = host.config.worker, host.config.http
        self._address = address or worker.host
        self._http_address = address or (http.host if http is not None else "")
        for where in filter(None, (self._address, self._http_address)):
            _check_exposure(where, token=token, no_auth=no_auth)
        cors = http.cors if http is not None else None
        origins = tuple(cors.allowed_origins or ("*",)) if cors is not None else ()
        allowed = tuple(filter(None, {self._address, self._http_address}))
        listening = Listening(
            host=self._address,
            port=worker.port if port is None else port,
            token=token,
            grace_s=worker.grace_ms / 1000,
            handshake_timeout_s=worker.handshake_timeout_ms / 1000,
        )
        # CORS says which pages may call HTTP routes; `*` there lets no page become a worker.
        named = tuple(origin for origin in origins if origin != "*")
        self._workers = WorkerServer(host.engine, listening, Guard(allowed, named))
        self._http: HttpServer | None = None
        self._http_port = 0
        if http is not None:
            self._http = HttpServer(host.engine, host.http_triggers, http, guard=Guard(allowed, origins))
            self._http_port = http.port if http_port is None else http_port

    async def start(self) -> None:
        """Listen on both ports; raises PortTaken, and then neither is open."""
        await self._workers.start()
        if self._http is None:
            return
        try:
            await self._http.start(self._http_address, self._http_port)
        except BaseException:
            await self._workers.stop(RESTART, "the host could not start")
            raise

    @property
    def ws_url(self) -> str:
        """Where workers connect."""
        return f"ws://{_shown(self._address)}:{self._workers.port}"

    @property
    def http_url(self) -> str | None:
        """Where HTTP clients connect; None without an HTTP port."""
        return None if self._http is None else f"http://{_shown(self._http_address)}:{self._http.port}"

    async def drain(self, grace_s: float) -> None:
        """Accept nothing new, and give HTTP requests in flight up to `grace_s` seconds."""
        self._workers.stop_accepting()
        if self._http is not None:
            await self._http.stop(grace_s)

    async def stop(self) -> None:
        """Close every worker's connection with the code that makes SDKs reconnect."""
        await self._workers.stop(RESTART, "the host is restarting")


async def run(host: Host, servers: Servers, ready: Callable[[], None]) -> int:
    """Serve until SIGTERM, SIGINT or a failed store; the exit code. `ready` is called once."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[None] = loop.create_future()

    def stop() -> None:
        if not stopped.done():
            stopped.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    ready()
    await asyncio.wait((stopped, host.failed), return_when=asyncio.FIRST_COMPLETED)
    if host.failed.done():
        logger.error("the store failed, stopping: %s", host.failed.result().message)
        await host.close(grace_s=0.0)
        return 1
    await host.close(grace_s=GRACE_S)
    return 0


def _check_exposure(address: str, *, token: str | None, no_auth: bool) -> None:
    if is_loopback(address) or token or no_auth:
        return
    raise ConfigurationError(
        f"Listening on {address} lets other machines in: add --token SECRET (workers present it), "
        "or --dangerously-no-auth if every machine that can reach it may do everything."
    )


def _shown(address: str) -> str:
    if address in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{address}]" if ":" in address else address
