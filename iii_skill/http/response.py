"""From what a function answers to what the client gets: only `status_code`, `headers` and `body` count."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import msgspec

from iii_skill.calls import Failure

HeaderList: TypeAlias = list[tuple[bytes, bytes]]

CONTENT_TYPE = b"content-type"
JSON_TYPE = (CONTENT_TYPE, b"application/json")
USUAL: HeaderList = [JSON_TYPE]
"""The headers of nearly every answer; nobody changes the list."""
FRAMING = frozenset((b"content-length", b"transfer-encoding"))
"""Headers of an answer that are dropped: passed on they would break the response."""

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
WHOLE = re.compile(rb"\d{1,20}")
COMPACTED = 1024 * 1024
MAX_HEADERS = 64 * 1024
"""Bytes of the headers of an answer, as JSON."""

STATUSES = {b"%d" % status: status for status in range(100, 1000)}

EXAMPLE = 'return {"status_code": 200, "body": ...}'
TEXTS = 'write {"name": "text"}, or ["name: text", ...] for a name that comes more than once'


class Response(msgspec.Struct):
    """A complete response; the CORS headers are still to come."""

    status: int
    headers: HeaderList
    body: bytes = b""


class FunctionResponse(msgspec.Struct):
    """What a function answered, as a response. `complaint` says what of it the engine ignores."""

    response: Response
    complaint: str | None = None


class _Envelope(msgspec.Struct):
    status_code: msgspec.Raw = msgspec.Raw(b"")
    headers: msgspec.Raw = msgspec.Raw(b"")
    body: msgspec.Raw = msgspec.Raw(b"")
    status_alias: msgspec.Raw = msgspec.field(name="statusCode", default=msgspec.Raw(b""))
    status: msgspec.Raw = msgspec.Raw(b"")


_envelope = msgspec.json.Decoder(_Envelope)


def answer(value: bytes, whole: Callable[[bytes], bytes] = bytes) -> FunctionResponse:
    """The response to a non-null answer; `whole` gives the bytes of a part of one that came in short."""
    if not value.startswith(b"{") and not value.lstrip().startswith(b"{"):
        return FunctionResponse(
            _json(200, b"{}"), f"the answer is no object, so the client gets 200 {{}}; {EXAMPLE}"
        )
    try:
        envelope = _envelope.decode(value)
    except msgspec.MsgspecError as error:
        return FunctionResponse(failure("invalid_response", f"the answer is not valid JSON: {error}"))
    headers: HeaderList = []
    lost = None
    raw_headers = bytes(envelope.headers)
    if raw_headers:
        raw_headers = whole(raw_headers)
        if len(raw_headers) > MAX_HEADERS:
            text = f"the headers of the answer have {len(raw_headers)} bytes, more than {MAX_HEADERS}"
            return FunctionResponse(failure("invalid_response", text), f"{text}, so the client gets 500")
        headers, lost = _headers(raw_headers)
    raw_status = bytes(envelope.status_code)
    known = STATUSES.get(raw_status)
    status = known or _status(raw_status)
    if 100 <= status < 200:
        return FunctionResponse(
            Response(500, []), f"status {status} is no final one, so the client gets 500; {EXAMPLE}"
        )
    if status in (204, 304):
        return FunctionResponse(Response(status, headers if _typed(headers) else [JSON_TYPE, *headers]), lost)
    if known is None:
        lost = _complaint(envelope, raw_status) or lost
    return FunctionResponse(_body(status, headers, whole(bytes(envelope.body))), lost)


def failure(code: str, message: str) -> Response:
    """500 with the envelope of an error."""
    error = {"code": code, "error_id": secrets.token_hex(6), "message": message}
    return _json(500, msgspec.json.encode({"error": error}))


def failed(outcome: Failure) -> Response:
    """500 for an error answer: code and message; the stack trace stays here."""
    return failure(outcome.code, outcome.message)


def problem(status: int, code: str, message: str) -> Response:
    """An answer of the server itself, without `error_id`."""
    return _json(status, msgspec.json.encode({"error": {"code": code, "message": message}}))


def middleware_response(value: bytes) -> FunctionResponse | None:
    """The response when a middleware answered `respond`; None: go on. The body is always JSON."""
    try:
        verdict = _verdict.decode(value)
    except msgspec.MsgspecError:
        return None
    if verdict.action != "respond":
        return None
    complaint = None
    try:
        pairs = msgspec.json.decode(bytes(verdict.response.headers) or b"{}", type=dict[str, str])
    except msgspec.MsgspecError:
        pairs = {}
        complaint = f"`headers` of a middleware are an object of texts, so all are dropped; {TEXTS}"
    headers = _kept(pairs.items())
    if not _typed(headers):
        headers.insert(0, JSON_TYPE)
    status = _status(bytes(verdict.response.status_code))
    return FunctionResponse(
        Response(status, headers, compact(bytes(verdict.response.body) or b"null")), complaint
    )


def stream_headers(pairs: dict[str, Any]) -> tuple[HeaderList, str | None]:
    """The headers that a `set_headers` message sets, and what of it is dropped."""
    return _texts(pairs)


def compact(raw: bytes) -> bytes:
    """The same JSON without blanks, unless it is long; numbers and the order of keys stay as they are."""
    # By number: looking for bytes in bytes costs Python an exception inside.
    if len(raw) > COMPACTED or not (32 in raw or 10 in raw or 9 in raw or 13 in raw):
        return raw
    return msgspec.json.format(raw, indent=-1)


class _Patch(msgspec.Struct):
    status_code: msgspec.Raw = msgspec.Raw(b"")
    headers: msgspec.Raw = msgspec.Raw(b"")
    body: msgspec.Raw = msgspec.Raw(b"")


class _Verdict(msgspec.Struct):
    action: str
    response: _Patch = msgspec.field(default_factory=_Patch)


_verdict = msgspec.json.Decoder(_Verdict)


def _json(status: int, body: bytes) -> Response:
    return Response(status, [JSON_TYPE], body)


def _body(status: int, headers: HeaderList, raw: bytes) -> Response:
    """A string with a content type is sent as text, everything else as JSON."""
    if not headers:
        return Response(status, USUAL, compact(raw) if raw else b"{}")
    if not _typed(headers):
        return Response(status, [JSON_TYPE, *headers], compact(raw) if raw else b"{}")
    if not raw:
        return Response(status, headers, b"{}")
    if raw == b"null":
        return Response(status, headers, b"")
    if raw.startswith(b'"'):
        return Response(status, headers, msgspec.json.decode(raw, type=str).encode())
    return Response(status, headers, compact(raw))


def _status(raw: bytes) -> int:
    """A whole JSON number from 100 to 999 after modulo 65536; anything else is 200."""
    if not WHOLE.fullmatch(raw):
        return 200
    status = int(raw)
    if status >= 1 << 64:
        return 200
    status %= 65536
    return status if 100 <= status <= 999 else 200


def _headers(raw: bytes) -> tuple[HeaderList, str | None]:
    """The headers of an answer, and what is dropped of them."""
    if raw.startswith(b"{"):
        return _texts(msgspec.json.decode(raw, type=dict[str, Any]))
    if raw.startswith(b"["):
        lines = msgspec.json.decode(raw, type=list[Any])
        split = [line.partition(":") for line in lines if isinstance(line, str)]
        pairs = [(name.strip(), value.strip()) for name, colon, value in split if colon]
        lost = None
        if len(pairs) < len(lines):
            lost = f"`headers` holds {len(lines) - len(pairs)} entries that are dropped; {TEXTS}"
        return _kept(pairs), lost
    if raw != b"null":
        return [], f"`headers` is neither an object nor a list, so it is dropped; {TEXTS}"
    return [], None


def _texts(pairs: dict[str, Any]) -> tuple[HeaderList, str | None]:
    """The headers with a text as value; the engine drops the others, and so does this host."""
    dropped = [name[:80] for name, value in pairs.items() if not isinstance(value, str)]
    kept = _kept((name, value) for name, value in pairs.items() if isinstance(value, str))
    if not dropped:
        return kept, None
    return kept, f"the header `{dropped[0]}` has no text as value, so it is dropped; {TEXTS}"


def _kept(pairs: Iterable[tuple[str, str]]) -> HeaderList:
    """Without bad names, line breaks and what would break the framing."""
    kept: HeaderList = []
    for name, value in pairs:
        if not HEADER_NAME.fullmatch(name) or BAD_VALUE.search(value):
            continue
        encoded = name.lower().encode("ascii")
        if encoded not in FRAMING:
            kept.append((encoded, value.strip().encode("utf-8", "replace")))
    return kept


def _typed(headers: HeaderList) -> bool:
    return CONTENT_TYPE in [name for name, _ in headers]


def _complaint(envelope: _Envelope, raw_status: bytes) -> str | None:
    """What a function gets to hear that gave no status as it should be."""
    if raw_status:
        shown = raw_status[:40].decode("utf-8", "replace")
        return f"`status_code` {shown} is no whole number from 100 to 999, so the client gets 200; {EXAMPLE}"
    for name, raw in (("statusCode", envelope.status_alias), ("status", envelope.status)):
        if bytes(raw):
            return (
                f"`{name}` is ignored, so the client gets 200; "
                f"write `status_code` in a plain object: {EXAMPLE}"
            )
    if not bytes(envelope.body) and not bytes(envelope.headers):
        return (
            "the answer has none of `status_code`, `headers`, `body`, so the client gets 200 {} "
            f"and the data is lost; {EXAMPLE}"
        )
    return None
