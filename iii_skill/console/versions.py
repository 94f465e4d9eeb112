"""Versions: what a key held before, how that differs from now, and the way back."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated

import msgspec
from msgspec import Raw

from iii_skill.console import texts
from iii_skill.console.questions import COMPARE_AND_SET, QuestionRefused, Questions, read
from iii_skill.console.source import ConsoleSource, encode
from iii_skill.state.functions import HISTORY

AT_ONCE = 50
"""Versions of a page of them."""

Digits = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,19}\Z")]
"""A revision: as digits, since a store may number beyond what a browser's numbers can tell apart."""

NOTHING = "nothing"
"""The mark of a key that is not there."""


class VersionsQuestion(msgspec.Struct, frozen=True):
    """The versions of a key, the newest first; `before` is `next` of the last page."""

    scope: str
    key: str
    before: Digits | None = None


class CompareRequest(msgspec.Struct, frozen=True):
    """A version and what is stored now; `whole`: also the lines that are the same."""

    scope: str
    key: str
    revision: Digits
    whole: bool = False


class RevertRequest(msgspec.Struct, frozen=True):
    """Store a version again if what is stored is still what has the mark `seen`."""

    scope: str
    key: str
    revision: Digits
    seen: str


class _Version(msgspec.Struct):
    revision: str
    at_ms: int
    deleted: bool
    value: Raw

    @property
    def bytes(self) -> bytes | None:
        return None if self.deleted else bytes(self.value)


class _Page(msgspec.Struct):
    versions: list[_Version]
    next: str | None


class VersionAnswers:
    """The questions about versions."""

    def __init__(self, source: ConsoleSource) -> None:
        self._source = source
        self.questions: Questions = {
            "versions": self._list,
            "compare": self._compare,
            "revert": self._revert,
        }

    async def _list(self, body: bytes) -> bytes:
        asked = read(body, VersionsQuestion)
        page = await self._page(asked.scope, asked.key, asked.before, AT_ONCE)
        rows = [
            {
                "revision": version.revision,
                "at_ms": version.at_ms,
                "deleted": version.deleted,
                "size": len(bytes(version.value)),
            }
            for version in page.versions
        ]
        return encode(versions=rows, next=page.next)

    async def _compare(self, body: bytes) -> bytes:
        asked = read(body, CompareRequest)
        then, now = await asyncio.gather(
            self._version(asked.scope, asked.key, int(asked.revision)), self._now(asked.scope, asked.key)
        )
        difference = await asyncio.to_thread(texts.difference, then, now, whole=asked.whole)
        return encode(
            seen=_mark(now), deleted=then is None, absent=now is None, same=then == now, difference=difference
        )

    async def _revert(self, body: bytes) -> bytes:
        """An ordinary write, by compare-and-set against what the page has shown."""
        asked = read(body, RevertRequest)
        then, now = await asyncio.gather(
            self._version(asked.scope, asked.key, int(asked.revision)), self._now(asked.scope, asked.key)
        )
        if then is None:
            raise QuestionRefused("DELETED", "In this version the key was not there: delete it to go back.")
        if _mark(now) != asked.seen:
            return encode(saved=False)
        payload = {"scope": asked.scope, "key": asked.key, "value": Raw(then)}
        if now is not None:
            payload["expected"] = Raw(now)
        answer = await self._source.call(COMPARE_AND_SET, encode(**payload)) or b"{}"
        return encode(saved=msgspec.json.decode(answer).get("swapped") is True)

    async def _page(self, scope: str, key: str, before: str | None, limit: int) -> _Page:
        payload = encode(scope=scope, key=key, before=before, limit=limit)
        return msgspec.json.decode(await self._source.call(HISTORY, payload) or b"{}", type=_Page)

    async def _version(self, scope: str, key: str, revision: int) -> bytes | None:
        page = await self._page(scope, key, str(revision + 1), 1)
        if not page.versions or int(page.versions[0].revision) != revision:
            raise QuestionRefused("NO_VERSION", f"Revision {revision} of the key is not kept any more.")
        return page.versions[0].bytes

    async def _now(self, scope: str, key: str) -> bytes | None:
        return await self._source.call("state::get", encode(scope=scope, key=key))


def _mark(value: bytes | None) -> str:
    return NOTHING if value is None else hashlib.sha256(value).hexdigest()
