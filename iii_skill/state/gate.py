"""Gate: calls that wait while many keys are written as one, so that nobody sees a part of them."""

from __future__ import annotations

from collections import deque

from iii_skill.calls import Call, Failure, Handler

MOST_HELD = 20_000
MOST_HELD_BYTES = 64 * 1024 * 1024

BUSY = Failure(
    "STATE_BUSY", "An import is written now, and too many calls wait for its end already; try again."
)
ENDED = Failure("invocation_stopped", "The host ended while the call waited for the end of an import.")


class Gate:
    """Holds the calls of guarded functions while it is closed, and makes them in order when it opens."""

    def __init__(self) -> None:
        self.closed = False
        self._ended = False
        self._held: deque[tuple[Handler, Call, int]] = deque()
        self._bytes = 0

    def guard(self, handler: Handler) -> Handler:
        """The same function, which waits while the gate is closed."""

        def handle(call: Call) -> None:
            if self.closed:
                self._hold(handler, call)
            else:
                handler(call)

        return handle

    def open(self) -> None:
        """Make the calls that waited, in their order."""
        if self._ended:
            return
        self.closed = False
        while self._held:
            handler, call, size = self._held.popleft()
            self._bytes -= size
            handler(call)

    def end(self) -> None:
        """The host ends: whoever waits is told, and nobody is let through to a part of an import any more."""
        self._ended = True
        held, self._held = self._held, deque()
        for _, call, _size in held:
            call.reply(ENDED)

    def _hold(self, handler: Handler, call: Call) -> None:
        if self._ended:
            call.reply(ENDED)
            return
        size = len(call.data) if call.outline is None else len(call.outline.outline.text)
        if len(self._held) >= MOST_HELD or self._bytes + size > MOST_HELD_BYTES:
            call.reply(BUSY)
            return
        self._bytes += size
        self._held.append((handler, call, size))
