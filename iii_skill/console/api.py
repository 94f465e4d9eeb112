"""What the page asks for: each question is a method of a name that takes and gives encoded JSON."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
from msgspec import Raw

from iii_skill.console import texts
from iii_skill.console.questions import COMPARE_AND_SET, KeyQuestion, QuestionRefused, Questions, read
from iii_skill.console.scope_keys import MOST_OPENED, ScopeKeys
from iii_skill.console.source import CALL_S, ConsoleSource, encode
from iii_skill.console.texts import Invalid
from iii_skill.console.versions import VersionAnswers
from iii_skill.errors import InvocationError

MOST_ROWS = 1_000
PAGE_CHARACTERS = 2_000_000
PREVIEW = 2_000
"""Characters that are shown of a value that is too large to be edited."""

DELETED_AT_ONCE = 500
CALLS_AT_ONCE = 50
LONGEST_S = 600.0
"""The longest time that a call of a function may be given."""

LONGEST_ANSWER = 8 * 1024 * 1024
"""Bytes of an answer of a function that go to the page."""


class TreeRequest(msgspec.Struct, frozen=True):
    """Rows of the keys of a scope."""

    scope: str
    opened: list[str] = []
    text: str = ""
    offset: int = 0
    limit: int = 200
    fresh: bool = False


class CountsRequest(msgspec.Struct, frozen=True):
    """How many keys these scopes have."""

    scopes: list[str]


class TextRequest(msgspec.Struct, frozen=True):
    """A text that somebody types."""

    text: str


class SaveRequest(msgspec.Struct, frozen=True):
    """Store a text if the value is still `base` (None: if there is none)."""

    scope: str
    key: str
    text: str
    base: str | None = None
    laid_out: bool = True


class DeleteRequest(msgspec.Struct, frozen=True):
    """Delete keys with a prefix, those after `after`; the answer says where to go on."""

    scope: str
    prefix: str
    after: str | None = None


class CallRequest(msgspec.Struct, frozen=True):
    """Call a function with a text as its payload; `layout`: indent the answer."""

    function_id: str
    text: str = "{}"
    namespace: str | None = None
    timeout_ms: int | None = None
    layout: bool = False


class Api:
    """All questions of a page to one source."""

    def __init__(self, source: ConsoleSource) -> None:
        self._source = source
        self._keys = ScopeKeys(source)
        self.questions: Questions = VersionAnswers(source).questions | {
            "about": self._about,
            "scopes": self._scopes,
            "counts": self._counts,
            "tree": self._tree,
            "value": self._value,
            "check": self._check,
            "layout": self._layout,
            "save": self._save,
            "delete": self._delete,
            "delete-under": self._delete_under,
            "call": self._call,
        }

    async def answer(self, name: str, body: bytes) -> bytes:
        """The answer to a question; what goes wrong is one with the member `error`."""
        try:
            return await self.questions[name](body)
        except QuestionRefused as error:
            return _error(**error.fields)
        except Invalid as error:
            place = {"line": error.line, "column": error.column, "offset": error.offset}
            return _error(code="INVALID_JSON", message=error.message, **place)
        except InvocationError as error:
            return _error(code=error.code, message=error.message, stacktrace=error.stacktrace)
        except msgspec.DecodeError as error:
            return _error(code="BAD_REQUEST", message=f"The page asked for what cannot be read: {error}")

    def close(self) -> None:
        """Nobody waits any more."""
        self._keys.close()

    async def _about(self, _body: bytes) -> bytes:
        """What this is, and the ids of the functions that there are."""
        answer = await self._source.call("engine::functions::list", encode(include_internal=True))
        rows = msgspec.json.decode(answer or b"{}").get("functions", [])
        offers = sorted({str(row.get("function_id")) for row in rows})
        return encode(label=self._source.label, offers=offers)

    async def _scopes(self, _body: bytes) -> bytes:
        return await self._source.call("state::list_groups", b"{}") or b'{"groups":[]}'

    async def _counts(self, body: bytes) -> bytes:
        asked = read(body, CountsRequest).scopes[:CALLS_AT_ONCE]
        counts: dict[str, int | None] = {}
        for scope in asked:
            try:
                counts[scope] = await self._keys.count(scope)
            except InvocationError as error:
                if error.code in ("function_not_found", "not_connected"):
                    raise
                counts[scope] = None
            # Others have their turn.
            await asyncio.sleep(0)
        return encode(counts=counts)

    async def _tree(self, body: bytes) -> bytes:
        asked = read(body, TreeRequest)
        if len(asked.opened) > MOST_OPENED:
            raise QuestionRefused("TOO_MANY_OPEN", f"At most {MOST_OPENED} branches can be open at once.")
        cached = await self._keys.get(asked.scope, fresh=asked.fresh)
        rows = await cached.rows(frozenset(asked.opened), asked.text)
        limit = max(1, min(asked.limit, MOST_ROWS))
        return encode(
            rows=rows.page(max(0, asked.offset), limit, PAGE_CHARACTERS),
            total=len(rows),
            keys=len(cached.tree.keys),
            reading=str(cached.number),
            took_ms=round(cached.took_s * 1000),
        )

    async def _value(self, body: bytes) -> bytes:
        asked = read(body, KeyQuestion)
        value = await self._source.call("state::get", encode(scope=asked.scope, key=asked.key))
        return msgspec.json.encode(_seen(value))

    async def _check(self, body: bytes) -> bytes:
        texts.checked(read(body, TextRequest).text)
        return b"{}"

    async def _layout(self, body: bytes) -> bytes:
        return encode(text=texts.laid_out(read(body, TextRequest).text))

    async def _save(self, body: bytes) -> bytes:
        asked = read(body, SaveRequest)
        if len(asked.key) == 0:
            raise QuestionRefused("NO_KEY", "A key has a name.")
        value = texts.stored(asked.text, laid_out=asked.laid_out)
        payload = {"scope": asked.scope, "key": asked.key, "value": Raw(value)}
        base = None if asked.base is None else asked.base.encode()
        if base is not None:
            payload["expected"] = Raw(base)
        answer = await self._source.call(COMPARE_AND_SET, encode(**payload)) or b"{}"
        told = msgspec.json.decode(answer, type=dict[str, Raw])
        if bytes(told.get("swapped", Raw(b"false"))) == b"true":
            return encode(saved=True, now=_seen(value))
        current = await self._source.call("state::get", encode(scope=asked.scope, key=asked.key))
        merge = None
        if current is None or len(current) <= texts.LARGEST:
            merge = await asyncio.to_thread(texts.merge, base, current, value)
        return encode(saved=False, now=_seen(current), mine=texts.shown(value).text, merge=merge)

    async def _delete(self, body: bytes) -> bytes:
        """Delete one key; the answer holds what was deleted."""
        asked = read(body, KeyQuestion)
        value = await self._source.call("state::delete", encode(scope=asked.scope, key=asked.key))
        return encode(deleted=_seen(value))

    async def _delete_under(self, body: bytes) -> bytes:
        asked = read(body, DeleteRequest)
        # The first question reads the keys; the later ones go on with those, so new ones are left alone.
        cached = await self._keys.get(asked.scope, fresh=asked.after is None)
        keys = cached.tree.keys
        start, end = cached.tree.span(asked.prefix)
        if asked.after is not None:
            start = max(start, cached.tree.after(asked.after))
        chosen = keys[start : min(end, start + DELETED_AT_ONCE)]
        for at in range(0, len(chosen), CALLS_AT_ONCE):
            await asyncio.gather(
                *(
                    self._source.call("state::delete", encode(scope=asked.scope, key=key))
                    for key in chosen[at : at + CALLS_AT_ONCE]
                )
            )
        left = end - start - len(chosen)
        return encode(deleted=len(chosen), left=left, after=chosen[-1] if left else None)

    async def _call(self, body: bytes) -> bytes:
        asked = read(body, CallRequest)
        payload = texts.checked(asked.text)
        timeout = CALL_S if asked.timeout_ms is None else asked.timeout_ms / 1000
        start = time.perf_counter()
        result = await self._source.call(
            asked.function_id,
            payload,
            namespace=asked.namespace,
            timeout=max(0.001, min(timeout, LONGEST_S)),
        )
        duration = round((time.perf_counter() - start) * 1000, 3)
        if result is None:
            return encode(text=None, size=0, duration_ms=duration, cut=False)
        cut = len(result) > LONGEST_ANSWER
        if cut:
            text = result[:LONGEST_ANSWER].decode("utf-8", "ignore")
        else:
            text = texts.indented(result) if asked.layout else result.decode("utf-8", "replace")
        return encode(text=text, size=len(result), duration_ms=duration, cut=cut)


class Seen(msgspec.Struct, frozen=True):
    """A value as the page gets it. `base` is the text to save against; None: too large, or not there."""

    exists: bool
    size: int
    base: str | None = None
    text: str = ""
    laid_out: bool = True
    too_large: bool = False


def _seen(value: bytes | None) -> Seen:
    if value is None:
        return Seen(False, 0)
    if len(value) > texts.LARGEST:
        head = value[: 4 * PREVIEW].decode("utf-8", "ignore")[:PREVIEW]
        return Seen(True, len(value), None, head, False, True)
    look = texts.shown(value)
    return Seen(True, len(value), value.decode("utf-8", "replace"), look.text, look.laid_out)


def _error(**fields: Any) -> bytes:
    return encode(error={name: value for name, value in fields.items() if value is not None})
