"""Cluster: a store whose buckets are spread over the nodes of a Redis Cluster.

Each bucket has a link to the node that holds it. The map comes from CLUSTER SLOTS, and from the server itself
whenever it answers MOVED or ASK; the exchange is sent again to the right node, because such an answer says
that it was not carried out. While a node that we need is away, the others are asked who has taken over. A
server that is no cluster holds all buckets.
"""

from __future__ import annotations

import asyncio
import binascii
import logging
from collections.abc import Sequence
from typing import Any

from iii_skill.errors import AdapterError

from .config import RedisConfig
from .exchanges import Ask, Ignored, Routed
from .faults import ServerFault
from .handshake import Address, Mode
from .layout import Bucket
from .link import Link, cancelled
from .store import MOST_REDIRECTS, Store

log = logging.getLogger(__name__)

LOOK_AGAIN = 0.5
"""Seconds between two questions for the map while a node is away."""
SLOTS = 16384


class Cluster(Store):
    """One cluster, as the adapter and its exchanges see it."""

    def __init__(self, config: RedisConfig) -> None:
        self._routes: list[Link] = []
        super().__init__(config)
        self._routes += [self.link] * len(self.layout.buckets)
        self._links: dict[tuple[str, int], Link] = {}
        self._slots = [binascii.crc_hqx(b"%d" % b.number, 0) % SLOTS for b in self.layout.buckets]
        self._watcher: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect to the node of redis_url, and through it to the others."""
        await self.link.open()
        if self.link.mode is Mode.CLUSTER:
            await self._map(self.link)
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Wait for what is on its way, then disconnect from all nodes."""
        if self._watcher is not None:
            await cancelled(self._watcher)
        await asyncio.gather(*(link.close() for link in (self.link, *self._links.values())))

    def send(self, exchange: Routed) -> None:
        """Send it to the node of its bucket."""
        self._routes[exchange.bucket.number].send(exchange)

    def target_of(self, bucket: Bucket) -> Address:
        """The node that holds the bucket."""
        return self._routes[bucket.number].target if self._routes else self.target

    def redirect(self, exchange: Routed, fault: ServerFault) -> bool:
        """Follow MOVED and ASK."""
        words = str(fault).split(" ")
        if words[0] not in ("MOVED", "ASK") or len(words) != 3:
            return super().redirect(exchange, fault)
        link = self._link_to(words[2])
        if words[0] == "MOVED":
            self._routes[exchange.bucket.number] = link
        if exchange.redirects >= MOST_REDIRECTS:
            return False
        exchange.redirects += 1
        if words[0] == "ASK":
            link.send(Ignored(self, exchange.bucket, self.pack(("ASKING",))))
        link.send(exchange)
        return True

    def _link_to(self, where: str) -> Link:
        host, _, port = where.rpartition(":")
        return self._node(host, int(port))

    def _node(self, host: str, port: int) -> Link:
        """The link to a node; a new one takes calls while it connects."""
        host = host or str(self.target.arguments.get("host", "localhost"))
        link = self._links.get((host, port))
        if link is None:
            config = self.config
            link = Link(
                self.target.at(host, port), timeout=config.timeout, connect_timeout=config.connect_timeout
            )
            self._links[host, port] = link
            link.on_pipe = self.welcome
            link.begin()
        return link

    async def _map(self, link: Link) -> None:
        """Ask a node for the map."""
        question = Ask(self, self.layout.buckets[0], self.pack(("CLUSTER", "SLOTS")))
        question.redirects = MOST_REDIRECTS
        link.send(question)
        try:
            ranges: Sequence[Any] = await question.future
        except AdapterError as error:
            log.warning("The map of the cluster cannot be read from %s: %s", link.target.label, error)
            return
        for first, last, master, *_ in ranges:
            for number, slot in enumerate(self._slots):
                if first <= slot <= last:
                    self._routes[number] = self._node(master[0].decode(), master[1])

    async def _watch(self) -> None:
        """While a node that we need is away, ask those that are there who holds its slots now."""
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            if all(link.up for link in self._routes):
                continue
            there = [link for link in (self.link, *self._links.values()) if link.up]
            if there and there[0].mode is Mode.CLUSTER:
                await self._map(there[0])
