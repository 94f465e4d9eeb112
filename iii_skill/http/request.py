"""The payload of an http call: the nine keys that a function receives, encoded once."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

import msgspec
import orjson

from iii_skill.http.routes import Parameters, Route
from iii_skill.readable import fits
from iii_skill.readable import is_json as is_json_text

JSON_TYPE = "application/json"
BODY_FIRST = b'{"body":'
"""How a payload begins; the body stands behind it as it came."""
MAX_DEPTH = 124
"""The deepest nesting of a body that every SDK reads inside its payload; a deeper one arrives as null."""


class RequestParts(msgspec.Struct):
    """What an HTTP request says, in the shapes of section `data`; `body` is encoded JSON."""

    headers: dict[str, str]
    path_params: Parameters
    query: bytes = b""
    body: bytes = b"null"

    def query_params(self) -> bytes:
        """The decoded query as encoded JSON: of a repeated name the last value."""
        if not self.query:
            return b"{}"
        text = self.query.decode("utf-8", "replace")
        return orjson.dumps(dict(parse_qsl(text, keep_blank_values=True, errors="replace")))


def header_map(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name: of a repeated one the last; a value that is not ASCII arrives empty."""
    try:
        return {name.decode("ascii"): value.decode("ascii") for name, value in pairs}
    except UnicodeDecodeError:
        return {
            name.decode("latin-1"): value.decode("ascii") if value.isascii() else "" for name, value in pairs
        }


def joined(pairs: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """All values of a header in one text, so that a second one is never overlooked; None: there is none."""
    values = [value.decode("latin-1") for key, value in pairs if key == name]
    return ", ".join(values) if values else None


def is_json(headers: dict[str, str]) -> bool:
    """True when the body is parsed: the content type contains lower-case `application/json`."""
    return JSON_TYPE in headers.get("content-type", "")


def deliverable(raw: bytes) -> bool:
    """True when the body is spliced into the payload as it is; what is no JSON arrives as null."""
    return is_json_text(raw) and (raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH or fits(raw, MAX_DEPTH))


def payload(route: Route, parts: RequestParts, references: bytes) -> bytes:
    """The `data` of the call; `references` are the encoded keys of the two channels."""
    return b"".join((*_opening(route, parts), references, route.trigger_json))


def condition_payload(route: Route, parts: RequestParts) -> bytes:
    """The payload of a condition function: the same without the channels."""
    return b"".join((*_opening(route, parts), route.trigger_json))


def middleware_payload(route: Route, parts: RequestParts) -> bytes:
    """The payload of a middleware function."""
    return (
        b'{"phase":"preHandler","request":{"path_params":%b,"query_params":%b,"headers":%b,"method":%b},'
        b'"context":{}}'
        % (
            orjson.dumps(parts.path_params),
            parts.query_params(),
            orjson.dumps(parts.headers),
            orjson.dumps(route.method),
        )
    )


def _opening(route: Route, parts: RequestParts) -> tuple[bytes, ...]:
    return (
        BODY_FIRST,
        parts.body,
        b',"headers":',
        orjson.dumps(parts.headers),
        route.place_json,
        orjson.dumps(parts.path_params) if parts.path_params else b"{}",
        b',"query_params":',
        parts.query_params(),
    )
