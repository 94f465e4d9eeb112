"""Feed: the changes of state as server-sent events, one stream to one page.

It goes on after the cursor that the page got last. What may have been missed is told (`gap`), and so is a
source that is away. A burst is told whole; of changes that come faster than anybody reads for longer, the
newest are told, and how many were left out. A page that does not read holds its own feed back: the log of
changes is what waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
from msgspec import Raw

from iii_skill.console.source import ConsoleSource, encode
from iii_skill.engine.channel import Channel
from iii_skill.errors import InvocationError
from iii_skill.state.functions import CHANGES

logger = logging.getLogger("iii_skill.console")

WAIT_MS = 15_000
"""How long a question waits for a change; a sign of life goes to the page as often."""

GRACE_S = 10.0
"""What an answer may take beyond that."""

AT_ONCE = 500
PACE_S = 0.04
"""Between two messages: changes that come thick travel together."""

BURST = 3_000
"""Rows that may be sent at once: a page keeps no more."""

PER_SECOND = 200
"""Rows that may be sent for long."""

AT_LEAST = 50
"""Rows of a message when changes are left out."""

FLOOD_PACE_S = 0.25
"""Between two messages then."""

AWAY_S = (0.25, 2.0)
"""The first and the longest pause before a source that is away is asked again."""

PREVIEW = 400
"""Characters of a value that a row of the tail shows."""

LOST = frozenset(("CURSOR_TOO_OLD", "INVALID_CURSOR"))


class _Change(msgspec.Struct, frozen=True):
    event_type: str
    scope: str
    key: str
    at_ms: int
    old_value: Raw
    new_value: Raw


class _Answer(msgspec.Struct, frozen=True):
    changes: list[_Change]
    next: str
    left_out: int = 0


class LeftOut(msgspec.Struct, frozen=True):
    """So many changes before the next row are not told of."""

    left: int
    at: int


_decode = msgspec.json.Decoder(_Answer).decode


class ChangeRow(msgspec.Struct, frozen=True):
    """A change as a row of the tail; sizes are bytes."""

    type: str
    scope: str
    key: str
    at: int
    size: int
    value: str
    old: str


class Feed:
    """The writing end of one stream."""

    def __init__(
        self, source: ConsoleSource, channel: Channel, after: str | None, over: Callable[[Feed], None]
    ) -> None:
        """`after` is a cursor, None: from now on. `over` is called when nothing more comes."""
        self._source = source
        self._channel = channel
        self._after = after
        self._allowed = float(BURST)
        self._allowed_at = time.monotonic()
        self._room = asyncio.Event()
        self._room.set()
        channel.attach_writer(self)
        self._task = asyncio.ensure_future(self._run())
        self._task.add_done_callback(self._ended)
        self._over = over

    # What the channel calls.

    def resume(self) -> None:
        """The page has read on."""
        self._room.set()

    def dropped(self) -> None:
        """The page is gone."""
        self._task.cancel()

    close = dropped

    async def _run(self) -> None:
        greeted, away, pause = False, False, AWAY_S[0]
        await self._send(b": the changes of state\n\n")
        while True:
            wait_ms = WAIT_MS if greeted else 0
            payload = encode(after=self._after, limit=AT_ONCE, wait_ms=wait_ms, newest=self._allowance())
            try:
                answer = await self._source.call(CHANGES, payload, timeout=wait_ms / 1000 + GRACE_S)
                found = _decode(answer or b"")
            except InvocationError as error:
                if error.code in LOST:
                    self._after, greeted = None, False
                    await self._tell("gap", encode(message=error.message))
                elif error.code == "function_not_found":
                    await self._tell("unavailable", encode(message=error.message))
                    self._channel.finish()
                    return
                else:
                    greeted = False
                    if not away:
                        away = True
                        await self._tell("away", encode(message=error.message))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, AWAY_S[1])
                continue
            self._after = found.next
            if not greeted:
                greeted, away, pause = True, False, AWAY_S[0]
                await self._tell("ready", encode(), None if found.changes else found.next)
            if found.changes:
                rows: list[ChangeRow | LeftOut] = [_row(change) for change in found.changes]
                self._allowed -= len(rows)
                if found.left_out:
                    rows.insert(0, LeftOut(found.left_out, found.changes[0].at_ms))
                await self._tell("changes", msgspec.json.encode(rows), found.next)
                await asyncio.sleep(PACE_S if self._allowed >= AT_LEAST else FLOOD_PACE_S)
            elif wait_ms:
                await self._send(b": nothing yet\n\n")

    def _allowance(self) -> int:
        """How many rows may be sent now."""
        now = time.monotonic()
        self._allowed = min(BURST, max(0, self._allowed) + PER_SECOND * (now - self._allowed_at))
        self._allowed_at = now
        return max(AT_LEAST, int(self._allowed))

    async def _tell(self, event: str, data: bytes, cursor: str | None = None) -> None:
        name = b"" if cursor is None else b"id: %b\n" % cursor.encode()
        await self._send(b"%bevent: %b\ndata: %b\n\n" % (name, event.encode(), data))

    async def _send(self, message: bytes) -> None:
        """Send when there is room: what is not sent is not asked for."""
        await self._room.wait()
        if not self._channel.send(message):
            self._room.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._over(self)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the changes for a page ended", exc_info=task.exception())
            self._channel.finish(lost=True)


def _row(change: _Change) -> ChangeRow:
    old, new = bytes(change.old_value), bytes(change.new_value)
    return ChangeRow(
        change.event_type.removeprefix("state:"),
        change.scope,
        change.key,
        change.at_ms,
        len(new),
        _preview(new),
        _preview(old),
    )


def _preview(value: bytes) -> str:
    return value[: 4 * PREVIEW].decode("utf-8", "ignore")[:PREVIEW]
