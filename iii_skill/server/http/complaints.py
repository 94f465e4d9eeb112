"""Complaints: what an HTTP function does wrong is logged, once for each function."""

from __future__ import annotations

import asyncio
import logging

from iii_skill.http import response
from iii_skill.http.routes import Route
from iii_skill.server.http.exchange import Exchange

logger = logging.getLogger(__name__)

SILENT_S = 1.0
"""After this long a request whose function answered null without opening `response` is worth a warning."""

MAX_FUNCTIONS = 1000
MAX_NAME = 200
"""How many functions are complained of, and how much of their names is remembered."""


class Complaints:
    """Which functions were complained of; `timeout_s` is the budget of a request."""

    def __init__(self, timeout_s: float) -> None:
        self._silent_s = min(SILENT_S, timeout_s / 2)
        self._heard: set[str] = set()

    def add(self, route: Route, complaint: str) -> None:
        """Warn, unless the function was complained of before."""
        function_id = route.trigger.function_id[:MAX_NAME]
        if function_id not in self._heard and len(self._heard) < MAX_FUNCTIONS:
            self._heard.add(function_id)
            logger.warning("%s: function %s: %s", route.label[:MAX_NAME], function_id, complaint)

    def if_silent(self, exchange: Exchange) -> asyncio.TimerHandle:
        """A null answer is fine when the function opens `response`, and else a request that hangs."""
        return asyncio.get_running_loop().call_later(self._silent_s, self._look, exchange)

    def _look(self, exchange: Exchange) -> None:
        if exchange.response is None:
            self.add(
                exchange.route,
                "it answered null and has not opened the `response` channel: the request waits for it "
                f"until default_timeout and then ends in 504, as on the engine; {response.EXAMPLE}",
            )
