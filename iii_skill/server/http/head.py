"""Heads: whether one of a request can be served, and the bytes of an answer with its head."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from iii_skill.http.cors import ALLOW_ORIGIN, CorsHeaders
from iii_skill.http.response import JSON_TYPE, USUAL, HeaderList, Response
from iii_skill.server.http.body import CHUNK

BODYLESS = (204, 304)
SCHEMES = (b"http://", b"https://")
_FRAGMENT = ord("#")

_USUAL_LINES = b"%b: %b\r\n" % JSON_TYPE


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode())


STATUS_LINES = {status: _status_line(status) for status in range(100, 1000)}


def refusal(version: str, method: bytes, target: bytes, coding: str | None, length: str) -> int:
    """The status of a head that could be read in two ways, or asks for what is not served; else 0."""
    if version not in ("1.1", "1.0"):
        return 505
    if method == b"CONNECT":
        return 405
    # By number: looking for bytes in bytes costs Python an exception inside.
    if _FRAGMENT in target or not target.isascii():
        return 400
    if not target.startswith(b"/") and target != b"*" and not target.lower().startswith(SCHEMES):
        return 400
    if coding is not None:
        if version == "1.0" or length != "0":
            return 400
        if coding.lower() != "chunked":
            return 501
    return 0


def absolute(target: bytes) -> tuple[str, bytes]:
    """Authority and the rest of `http://authority/path?query`."""
    rest = target.split(b"://", 1)[1]
    cut = min(at for at in (rest.find(b"/"), rest.find(b"?"), len(rest)) if at >= 0)
    path = rest[cut:]
    return rest[:cut].decode("ascii"), path if path.startswith(b"/") else b"/" + path


def closes(headers: HeaderList) -> bool:
    """True when an answer says that the connection ends with it."""
    if headers == USUAL:
        return False
    return True in [name == b"connection" and value.lower().find(b"close") >= 0 for name, value in headers]


def answer_head(
    status: int, date: bytes, headers: HeaderList, cors: CorsHeaders, *, keep_alive: bool, old: bool
) -> bytes:
    """The lines of a head up to those of its framing; `old` for a client of HTTP/1.0."""
    parts = [STATUS_LINES[status], date]
    if headers == USUAL:
        parts.append(_USUAL_LINES)
    else:
        for name, value in headers:
            # What a function says of its connection was heard; what is true of it is said below.
            if name != b"connection" and not (name == ALLOW_ORIGIN and cors.sets_origin):
                parts.append(b"%b: %b\r\n" % (name, value))
    parts.append(cors.lines)
    if not keep_alive:
        parts.append(b"connection: close\r\n")
    elif old:
        parts.append(b"connection: keep-alive\r\n")
    return b"".join(parts)


def write_answer(transport: asyncio.Transport, head: bytes, response: Response, *, head_only: bool) -> None:
    """Write a complete answer behind the lines of its head; without a body for a HEAD request."""
    body = response.body
    if response.status in BODYLESS:
        transport.write(head + b"\r\n")
    elif head_only:
        transport.write(b"%bcontent-length: %d\r\n\r\n" % (head, len(body)))
    elif len(body) <= CHUNK:
        transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
    else:
        # A copy of a long body costs more than a second write.
        transport.write(b"%bcontent-length: %d\r\n\r\n" % (head, len(body)))
        transport.write(body)
