"""Servers: the worker port and the HTTP port of one host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from iii_skill.config import Config
from iii_skill.engine.engine import Engine
from iii_skill.errors import ConfigurationError, PortTaken
from iii_skill.figures import Family
from iii_skill.http.provider import HttpTriggers
from iii_skill.server.companion_port import CompanionServer
from iii_skill.server.guard import Guard, check_token, is_host_name, is_loopback
from iii_skill.server.http.port import HttpServer
from iii_skill.server.telemetry import Forwarder
from iii_skill.server.worker_port import Listening, WorkerServer
from iii_skill.websockets import WebSocketPort

if TYPE_CHECKING:
    from iii_skill.metrics.readings import Readings
    from iii_skill.server.metrics_port import MetricsServer

logger = logging.getLogger(__name__)

RESTART = 1012
"""The close code after which every SDK reconnects."""


FORWARD_S = 2.0
"""Seconds that telemetry of workers gets to reach its collector at the end."""


class Servers:
    """The listening ports of one host; None leaves a setting as the configuration has it."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        http_triggers: HttpTriggers,
        *,
        port: int | None = None,
        http_port: int | None = None,
        address: str | None = None,
        allowed_hosts: Sequence[str] = (),
        token: str | None = None,
        no_auth: bool = False,
        beside: Sequence[WebSocketPort] = (),
        readings: Readings | None = None,
        metrics_port: int | None = None,
        forwarder: Forwarder | None = None,
    ) -> None:
        """`beside` are the ports of companions; `readings` are told on `metrics_port`;
        `forwarder` takes the telemetry of workers.
        """
        worker, http = config.worker, config.http
        self._address = address or worker.host
        self._http_address = address or (http.host if http is not None else "")
        if token is not None:
            check_token(token)
        for where in filter(None, (self._address, self._http_address)):
            _check_exposure(where, token=token, no_auth=no_auth)
        cors = http.cors if http is not None else None
        origins = tuple(cors.allowed_origins or ("*",)) if cors is not None else ()
        names = (*allowed_hosts, *worker.allowed_hosts, *(http.allowed_hosts if http is not None else ()))
        for name in names:
            _check_name(name)
        allowed = (*filter(None, (self._address, self._http_address)), *names)
        listening = Listening(
            host=self._address,
            port=worker.port if port is None else port,
            grace_s=worker.grace_ms / 1000,
            handshake_timeout_s=worker.handshake_timeout_ms / 1000,
        )
        # CORS says which pages may call HTTP routes; `*` there lets no page become a worker.
        named = tuple(origin for origin in origins if origin != "*")
        self._workers = WorkerServer(
            engine, listening, Guard(allowed, named, token=token), forwarder=forwarder
        )
        self._forwarder = forwarder
        self._engine = engine
        self._beside = [
            # Whoever lets the worker port be any wants no fixed one beside it.
            CompanionServer(
                wanted,
                Guard((*allowed, wanted.host) if wanted.host else allowed, named, token=token),
                address=self._address,
                port=0 if port == 0 and not wanted.chosen else wanted.port,
            )
            for wanted in beside
        ]
        for wanted in beside:
            if wanted.host is not None:
                _check_exposure(wanted.host, token=token, no_auth=no_auth)
        self._metrics: MetricsServer | None = None
        self._metrics_port = metrics_port or 0
        if readings is not None:
            # Late: a host that nobody watches needs none of it.
            from iii_skill.server.metrics_port import MetricsServer

            readings.more.append(self._buffered)
            if forwarder is not None:
                readings.more.append(forwarder.families)
            self._metrics = MetricsServer(readings)
        self._chosen = [wanted.chosen for wanted in beside]
        self._http: HttpServer | None = None
        self._http_port = 0
        if http is not None:
            self._http = HttpServer(engine, http_triggers, http, guard=Guard(allowed, origins, token=token))
            self._http_port = http.port if http_port is None else http_port

    async def start(self) -> None:
        """Listen on all ports; raises PortTaken, and then none is open."""
        await self._workers.start()
        try:
            if self._http is not None:
                await self._http.start(self._http_address, self._http_port)
            for server, chosen in zip(self._beside, self._chosen, strict=True):
                await _start(server, chosen=chosen)
            if self._metrics is not None:
                await self._metrics.start(self._metrics_port)
        except BaseException:
            await self._workers.stop(RESTART, "the host could not start")
            if self._http is not None:
                await self._http.stop(0.0)
            for server in self._beside:
                server.stop(RESTART, "the host could not start")
            if self._metrics is not None:
                self._metrics.stop()
            raise

    @property
    def ws_url(self) -> str:
        """Where workers connect."""
        return self._workers.url

    @property
    def http_url(self) -> str | None:
        """Where HTTP clients connect; None without an HTTP port."""
        return None if self._http is None else self._http.url

    @property
    def metrics_url(self) -> str | None:
        """Where those who watch the host ask; None when nobody does."""
        return None if self._metrics is None else self._metrics.url

    def _buffered(self) -> list[Family]:
        """What the ports hold for those who do not read, or have not sent all."""
        held = [({"of": "workers"}, self._workers.sockets.unread)]
        if self._http is not None:
            held.append(({"of": "http_requests"}, self._http.held_bodies))
            held.append(({"of": "http_answers"}, self._http.unread))
        return [
            Family("iii_buffered_bytes", "gauge", "Bytes that wait for clients, or come from them.", held)
        ]

    async def drain(self, grace_s: float) -> None:
        """Accept nothing new, and give HTTP requests in flight up to `grace_s` seconds."""
        self._workers.stop_accepting()
        if self._http is not None:
            await self._http.stop(grace_s)

    async def stop(self) -> None:
        """Close every worker's connection with the code that makes SDKs reconnect."""
        for server in self._beside:
            server.stop(RESTART, "the host is restarting")
        await self._workers.stop(RESTART, "the host is restarting")
        if self._forwarder is not None:
            if self._engine.tracer is not None:
                self._engine.tracer.flush()
            await asyncio.to_thread(self._forwarder.close, FORWARD_S)
        if self._metrics is not None:
            self._metrics.stop()


async def _start(server: CompanionServer, *, chosen: bool) -> None:
    """Open the port of a companion; one that nobody chose may be taken, then it is left out."""
    try:
        await server.start()
    except PortTaken as error:
        if chosen:
            raise
        logger.warning("%s The host goes on without it.", error.message)


def _check_exposure(address: str, *, token: str | None, no_auth: bool) -> None:
    if is_loopback(address) or token or no_auth:
        return
    raise ConfigurationError(
        f"Listening on {address} lets other machines in: add --token SECRET (workers present it), "
        "or --dangerously-no-auth if every machine that can reach it may do everything. --host 127.0.0.1 "
        "listens on this machine alone."
    )


def _check_name(name: str) -> None:
    if not is_host_name(name):
        raise ConfigurationError(
            f"'{name}' is no host name: --allowed-host and `allowed_hosts` take a name or an address "
            "without scheme and port (`iii.default.svc`), or `.svc` for all names below it."
        )
