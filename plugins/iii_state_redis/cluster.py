"""ClusterStore: a store whose buckets are spread over the nodes of a Redis Cluster.

Each bucket has a connection to the node that holds it. The map comes from CLUSTER SLOTS, and from the server
itself whenever it answers MOVED or ASK; the command is sent again to the right node, because such an answer
says that it was not carried out. While a node that we need is away, the others are asked who has taken over.
A server that is no cluster holds all buckets.
"""

from __future__ import annotations

import asyncio
import binascii
import logging
from collections.abc import Sequence
from typing import Any

from iii_skill.adapters.shared import end_tasks
from iii_skill.errors import AdapterError

from .commands import CommandRules, FireAndForget, RawCommand
from .config import RedisConfig
from .connect import Address, Mode
from .connection import ServerConnection
from .layout import Bucket
from .server_errors import ServerFault
from .store import MOST_RESENDS, RedisStore

log = logging.getLogger(__name__)

LOOK_AGAIN = 0.5
"""Seconds between two questions for the map while a node is away."""
SLOTS = 16384


class ClusterStore(RedisStore):
    """One cluster; it is the Backend of the commands."""

    def __init__(self, config: RedisConfig) -> None:
        self._routes: list[ServerConnection] = []
        super().__init__(config)
        self._routes += [self.connection] * len(self.layout.buckets)
        self._connections: dict[tuple[str, int], ServerConnection] = {}
        self._slots = [binascii.crc_hqx(b"%d" % b.number, 0) % SLOTS for b in self.layout.buckets]
        self._watcher: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect to the node of redis_url, and through it to the others."""
        await self.connection.open()
        if self.connection.mode is Mode.CLUSTER:
            await self._map(self.connection)
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Wait for what is on its way, then disconnect from all nodes."""
        if self._watcher is not None:
            await end_tasks(self._watcher)
        await asyncio.gather(*(connection.close() for connection in self._all()))

    def send(self, command: CommandRules) -> None:
        """Send it to the node of its bucket."""
        self._routes[command.bucket.number].send(command)

    def target_of(self, bucket: Bucket) -> Address:
        """The node that holds the bucket."""
        return self._routes[bucket.number].target if self._routes else self.target

    def together_with(self, bucket: Bucket) -> Sequence[Bucket]:
        """The buckets on the same node, once for each of their streams."""
        route = self._routes[bucket.number]
        return [other for other in super().together_with(bucket) if self._routes[other.number] is route]

    def resend(self, command: CommandRules, fault: ServerFault) -> bool:
        """Follow MOVED and ASK."""
        words = str(fault).split(" ")
        if words[0] not in ("MOVED", "ASK") or len(words) != 3:
            return super().resend(command, fault)
        host, _, port = words[2].rpartition(":")
        connection = self._node(host, int(port))
        if words[0] == "MOVED":
            # From now on all of the bucket goes there, also when this command has been sent around enough.
            self._routes[command.bucket.number] = connection
        if command.resent >= MOST_RESENDS:
            return False
        command.resent += 1
        if words[0] == "ASK":
            # For this command only: the slot is on its way there, and most of it may still be here.
            connection.send(FireAndForget(self, command.bucket, self.pack(("ASKING",))))
        connection.send(command)
        return True

    def _all(self) -> Sequence[ServerConnection]:
        return (self.connection, *self._connections.values())

    def _node(self, host: str, port: int) -> ServerConnection:
        """The connection to a node; a new one takes calls while it connects."""
        host = host or str(self.target.arguments.get("host", "localhost"))
        connection = self._connections.get((host, port))
        if connection is None:
            config = self.config
            connection = ServerConnection(
                self.target.at(host, port), timeout=config.timeout, connect_timeout=config.connect_timeout
            )
            self._connections[host, port] = connection
            connection.on_connected = self.connected
            connection.on_server = self.look_at
            connection.begin()
        return connection

    async def _map(self, connection: ServerConnection) -> None:
        """Ask a node for the map."""
        question = RawCommand(self, self.layout.buckets[0], self.pack(("CLUSTER", "SLOTS")))
        question.resent = MOST_RESENDS
        connection.send(question)
        try:
            ranges: Sequence[Any] = await question.future
        except AdapterError as error:
            log.warning("The map of the cluster cannot be read from %s: %s", connection.target.label, error)
            return
        for first, last, master, *_ in ranges:
            for number, slot in enumerate(self._slots):
                if first <= slot <= last:
                    self._routes[number] = self._node(master[0].decode(), master[1])

    async def _watch(self) -> None:
        """While a node that we need is away, ask those that are there who holds its slots now."""
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            # Nodes answer MOVED as long as they live; only a dead one has to be asked about.
            if all(connection.up for connection in self._routes):
                continue
            there = [connection for connection in self._all() if connection.up]
            if there and there[0].mode is Mode.CLUSTER:
                await self._map(there[0])
