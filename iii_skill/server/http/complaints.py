"""Complaints: what an HTTP function does wrong is logged, once for each function."""

from __future__ import annotations

import asyncio
import logging

from iii_skill.few_warnings import FewWarnings
from iii_skill.http import response
from iii_skill.http.routes import Route
from iii_skill.server.http.exchange import Exchange

logger = logging.getLogger(__name__)

SILENT_S = 1.0
"""After this long a request whose function answered null without opening `response` is worth a warning."""


class Complaints:
    """Which functions were complained of; `timeout_s` is the budget of a request."""

    def __init__(self, timeout_s: float) -> None:
        self._silent_s = min(SILENT_S, timeout_s / 2)
        self._warnings = FewWarnings(logger, "what HTTP functions answer", limit=1000)

    def add(self, route: Route, function_id: str, complaint: str) -> None:
        """Warn, unless the function was complained of before."""
        text = "%s: function %s: " + complaint.replace("%", "%%")
        self._warnings.warn(function_id, text, route.label, function_id)

    def if_silent(self, exchange: Exchange) -> asyncio.TimerHandle:
        """A null answer is fine when the function opens `response`, and else a request that hangs."""
        return asyncio.get_running_loop().call_later(self._silent_s, self._look, exchange)

    def _look(self, exchange: Exchange) -> None:
        if exchange.response is None:
            self.add(
                exchange.route,
                exchange.route.subscriber.function_id,
                "it answered null and has not opened the `response` channel: the request waits for it "
                f"until default_timeout and then ends in 504, as on the engine; {response.EXAMPLE}",
            )
