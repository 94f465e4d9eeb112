"""The requests of a console: its files for everybody of this machine, its answers for who has the token."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import msgspec

from iii_skill.console.api import Api
from iii_skill.console.feed import Feed
from iii_skill.console.files import GUARDED, page_files
from iii_skill.console.source import ConsoleSource
from iii_skill.http.cors import NO_CORS
from iii_skill.http.request import joined
from iii_skill.http.response import JSON_TYPE, Response
from iii_skill.server.guard import Guard
from iii_skill.server.http.exchange import Exchange
from iii_skill.server.plain_port import PlainApp, PlainPort

logger = logging.getLogger("iii_skill.console")

CHANGES = "/api/changes"
API = "/api/"
MAX_BODY = 32 * 1024 * 1024
"""Bytes of a question: a value, and the text that it was, as JSON."""

STREAM = [(b"content-type", b"text/event-stream"), *GUARDED]


class ConsoleApp(PlainApp):
    """Answers the requests of pages."""

    port: PlainPort

    def __init__(self, source: ConsoleSource, token: str) -> None:
        self._source = source
        self._guard = Guard(token=token)
        self._api = Api(source)
        self._files = page_files()
        self._answering: set[asyncio.Task[None]] = set()
        self._feeds: set[Feed] = set()

    def serve(self, exchange: Exchange) -> None:
        path, method = exchange.path, exchange.method
        host, origin = joined(exchange.pairs, b"host"), joined(exchange.pairs, b"origin")
        refusal = self._guard.refusal(host, origin, exchange.headers)
        if refusal is not None:
            _refuse(exchange, 403, "FORBIDDEN", refusal)
        elif path in self._files:
            if method in ("GET", "HEAD"):
                exchange.answer(self._files[path], NO_CORS)
            else:
                _refuse(exchange, 405, "METHOD", "Files are read, nothing else.", allow=b"GET, HEAD")
        elif not path.startswith(API):
            _refuse(exchange, 404, "NOT_FOUND", "There is no such file.")
        elif not self._guard.has_token(exchange.headers):
            text = "The token is missing or of another start: open the address that the console printed."
            _refuse(exchange, 401, "TOKEN", text)
        elif path == CHANGES:
            self._stream(exchange)
        elif path[len(API) :] not in self._api.questions:
            _refuse(exchange, 404, "NOT_FOUND", "There is no such question.")
        elif method != "POST":
            _refuse(exchange, 405, "METHOD", "Questions are posted.", allow=b"POST")
        elif exchange.body is None:
            self._begin(exchange, b"")
        else:
            exchange.cors = NO_CORS
            exchange.body.collect(MAX_BODY, partial(self._collected, exchange))

    def close(self) -> None:
        """Nobody is answered any more."""
        for task in self._answering:
            task.cancel()
        for feed in list(self._feeds):
            feed.close()
        self._api.close()

    def _stream(self, exchange: Exchange) -> None:
        if exchange.method != "GET":
            _refuse(exchange, 405, "METHOD", "Changes are read.", allow=b"GET")
            return
        if exchange.old:
            _refuse(exchange, 505, "VERSION", "Changes come to clients of HTTP/1.1.")
            return
        exchange.cors = NO_CORS
        exchange.stream_headers = STREAM
        after = exchange.headers.get("last-event-id") or None
        feed = Feed(self._source, exchange.open_response(), after, self._feeds.discard)
        self._feeds.add(feed)

    def _collected(self, exchange: Exchange) -> None:
        body = exchange.body
        if body is None:
            return
        if not body.whole:
            _refuse(exchange, 413, "TOO_LARGE", f"A question has {MAX_BODY} bytes at most.")
            return
        self._begin(exchange, body.take())

    def _begin(self, exchange: Exchange, body: bytes) -> None:
        self.port.hold(len(body))
        task = asyncio.ensure_future(self._answer(exchange, body))
        self._answering.add(task)

        def answered(_task: asyncio.Task[None]) -> None:
            self._answering.discard(task)
            self.port.hold(-len(body))

        task.add_done_callback(answered)

    async def _answer(self, exchange: Exchange, body: bytes) -> None:
        try:
            answer = await self._api.answer(exchange.path[len(API) :], body)
        except Exception:
            logger.exception("a question of a console page could not be answered")
            _refuse(exchange, 500, "INTERNAL", "The console failed; its log says more.")
        else:
            exchange.answer(Response(200, [JSON_TYPE, *GUARDED], answer), NO_CORS)


def _refuse(exchange: Exchange, status: int, code: str, message: str, *, allow: bytes | None = None) -> None:
    headers = [JSON_TYPE, *GUARDED]
    if allow is not None:
        headers.append((b"allow", allow))
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    exchange.answer(Response(status, headers, body), NO_CORS)
