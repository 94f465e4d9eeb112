"""Shared: what all connections of a port have in common."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

from iii_skill.few_warnings import FewWarnings
from iii_skill.server.http.exchange import Application
from iii_skill.server.http.limits import Budget, HttpLimits

logger = logging.getLogger(__name__)


class ClientConnection(Protocol):
    """What a port asks of each."""

    def end_when_idle(self) -> None:
        """The port stops: close, at once or after the answer that is being made."""

    def abort(self) -> None:
        """Close without another word."""

    def check_time(self, seconds: float) -> None:
        """So much time has passed: end a client that owes something for too long."""


class Shared:
    """What all connections of a port share."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.max_connections = limits.max_connections
        self.warnings = FewWarnings(logger, "HTTP clients")
        self.connections: set[ClientConnection] = set()
        self.bodies = Budget(limits.max_bodies_bytes)
        self.unread = Budget(limits.max_unread_bytes)
        self.stopping = False
        self.app: Application
        self.left: Callable[[], None]
        self._second = 0
        self._date = b""

    def date(self) -> bytes:
        """The `date` line of an answer."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = b"date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._date
