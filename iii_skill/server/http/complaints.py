"""Complaints: what an HTTP function does wrong is logged once, and how often it fails now and then."""

from __future__ import annotations

import asyncio
import logging

from iii_skill.calls import Failure
from iii_skill.few_warnings import FewWarnings, one_line
from iii_skill.http import response
from iii_skill.http.routes import Route
from iii_skill.server.http.exchange import Exchange

logger = logging.getLogger(__name__)

SILENT_S = 1.0
"""After this long a request whose function answered null without opening `response` is worth a warning."""


PAUSE_S = 60.0
MAX_FAILING = 1000
"""Functions and error codes whose failures are counted."""


class Failures:
    """Failed requests: the first of each function and code is logged, then one in each pause with a count."""

    def __init__(self) -> None:
        # By function and code: when the last line was written, and how many came since.
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    def add(self, route: Route, outcome: Failure, traceparent: str | None) -> None:
        """Log it, or count it; `traceparent` is that of the call that failed."""
        function_id, code = one_line(route.subscriber.function_id), one_line(outcome.code)
        now = asyncio.get_running_loop().time()
        last, missed = self._last.get((function_id, code), (-PAUSE_S, 0))
        if now - last < PAUSE_S:
            self._last[function_id, code] = last, missed + 1
            return
        if len(self._last) >= MAX_FAILING:
            self._last.clear()
        self._last[function_id, code] = now, 0
        logger.warning(
            "%s: function %s: %s: %s%s",
            one_line(route.label),
            function_id,
            code,
            one_line(outcome.message),
            f" (and {missed} more since the last such line)" if missed else "",
            extra={"traceparent": traceparent},
        )


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
