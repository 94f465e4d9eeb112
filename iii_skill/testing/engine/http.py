"""Http: requests to the routes of workers, and what must come back."""

from __future__ import annotations

import json as encoding
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any, Final
from urllib.parse import urlsplit

REQUEST_SECONDS = 30.0
_SHOWN = 2000

NOTHING: Final[Any] = object()
"""No body."""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    request: str
    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes

    def json(self) -> Any:
        """The decoded body."""
        return encoding.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def expect(self, status: int, *, json: Any = NOTHING) -> Reply:
        """This reply, when it is as expected; else AssertionError with all of it."""
        __tracebackhide__ = True
        if self.status != status:
            said = self.text[:_SHOWN]
            raise AssertionError(f"{self.request} answered {self.status}, expected {status}: {said}")
        if json is not NOTHING and self.json() != json:
            raise AssertionError(f"{self.request} answered {self.text[:_SHOWN]}, expected {json!r}")
        return self


class Http:
    """Each request has a connection of its own."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = NOTHING,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        within: float = REQUEST_SECONDS,
    ) -> Reply:
        """Send a request with a JSON body, with bytes, or with none; any status is an answer."""
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        if json is not NOTHING:
            body = encoding.dumps(json).encode()
            sent.setdefault("content-type", "application/json")
        parts = urlsplit(self._url())
        connection = HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=within)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(f"{method} {path}", answer.status, found, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Reply:
        """GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, json: Any = NOTHING, **options: Any) -> Reply:
        """POST."""
        return self.request("POST", path, json=json, **options)

    def put(self, path: str, json: Any = NOTHING, **options: Any) -> Reply:
        """PUT."""
        return self.request("PUT", path, json=json, **options)

    def patch(self, path: str, json: Any = NOTHING, **options: Any) -> Reply:
        """PATCH."""
        return self.request("PATCH", path, json=json, **options)

    def delete(self, path: str, **options: Any) -> Reply:
        """DELETE."""
        return self.request("DELETE", path, **options)
