"""The functions that read: get, list, list_groups, list_keys and list_entries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from iii_skill.adapter import Page, StateAdapter
from iii_skill.adapter_answers import AdapterAnswers
from iii_skill.calls import Call, Result
from iii_skill.deferred import Deferred
from iii_skill.errors import CallerError
from iii_skill.readable import is_json
from iii_skill.state import requests
from iii_skill.state.changes import unreadable
from iii_skill.state.errors import FunctionErrors, refusal
from iii_skill.state.pages import SNAPSHOT_ROWS, PageReader, Pages, reader_of
from iii_skill.state.requests import MISFIT
from iii_skill.state.scopes import ACCEPTED, EmptiedScopes, check_scope, is_reserved

log = logging.getLogger("iii_skill.state")

_GET = FunctionErrors("GET_ERROR", "Failed to get value: ")
_LIST = FunctionErrors("LIST_ERROR", "Failed to list values: ")
_GROUPS = FunctionErrors("LIST_GROUPS_ERROR", "Failed to list groups: ")
_KEYS = FunctionErrors("LIST_KEYS_ERROR", "LIST_KEYS_ERROR: Failed to list keys: ")
_ENTRIES = FunctionErrors("LIST_ENTRIES_ERROR", "LIST_ENTRIES_ERROR: snapshot capture failed: ")

_encode = msgspec.json.Encoder().encode

_decode_get = requests.GET.decode


class Reads:
    """Values pass as bytes; those of a shared store are checked, since strangers write there too."""

    def __init__(
        self, adapter: StateAdapter, *, answers: AdapterAnswers, pages: Pages, emptied: EmptiedScopes
    ) -> None:
        self._adapter = adapter
        self._unsure = not adapter.checked
        self._answers = answers
        self._pages = pages
        self._emptied = emptied

    def get(self, call: Call) -> None:
        """`state::get`: the value."""
        try:
            try:
                request = _decode_get(call.data)
            except MISFIT:
                request = requests.GET.read(call.data)
            scope, key = request.scope, request.key
            if scope not in ACCEPTED:
                check_scope(scope)
            answer = self._adapter.get(scope, key)
        except Exception as error:
            call.fail(refusal(error, _GET))
            return

        if type(answer) is bytes and not self._unsure:
            # As `succeed` does.
            reply = call.reply
            reply(Result(answer))
        elif type(answer) is Deferred:  # type: ignore[comparison-overlap]
            answer.listen(call, self._got, _GET.fail)
        elif answer is None or isinstance(answer, bytes):
            self._got(call, answer)
        else:
            self._answers.wait(answer, (scope, key), call, self._got, _GET.fail)

    def _got(self, call: Call, value: bytes | None) -> None:
        if value is not None and type(value) is not bytes:
            raise TypeError(f"the adapter answered with {type(value).__name__} where bytes or None belong")
        if self._unsure and value is not None and not is_json(value):
            call.fail(refusal(unreadable(), _GET))
        else:
            call.succeed(value)

    def list(self, call: Call) -> None:
        """`state::list`: all values of a scope."""
        try:
            scope = requests.LIST.read(call.data).scope
            check_scope(scope)
            answer = self._adapter.list(scope)
        except Exception as error:
            call.fail(refusal(error, _LIST))
            return

        def done(call: Call, rows: Sequence[tuple[str, bytes]]) -> None:
            call.succeed(b"[" + b",".join([value for _, value in self._readable_rows(scope, rows)]) + b"]")

        self._now_or_later(call, answer, done, _LIST)

    def list_groups(self, call: Call) -> None:
        """`state::list_groups`: all scopes."""
        try:
            requests.LIST_GROUPS.read(call.data)
            answer = self._adapter.scopes()
        except Exception as error:
            call.fail(refusal(error, _GROUPS))
            return

        def done(call: Call, scopes: Sequence[str]) -> None:
            shown = {*scopes, *self._emptied}
            groups = [scope for scope in sorted(shown) if not is_reserved(scope)]
            call.succeed(b'{"groups":%b}' % _encode(groups))

        self._now_or_later(call, answer, done, _GROUPS)

    def list_keys(self, call: Call) -> None:
        """`state::list_keys`: all keys of a scope."""
        try:
            scope = requests.LIST_KEYS.read(call.data).scope
            check_scope(scope)
            answer = self._adapter.keys(scope)
        except Exception as error:
            call.fail(refusal(error, _KEYS))
            return

        def done(call: Call, keys: Sequence[str]) -> None:
            call.succeed(b'{"keys":%b}' % _encode(list(keys)))

        self._now_or_later(call, answer, done, _KEYS)

    def list_entries(self, call: Call) -> None:
        """`state::list_entries`: a page of keys and values."""
        try:
            request = requests.LIST_ENTRIES.read(call.data)
            check_scope(request.scope)
            reader = reader_of(request, call.caller_id)
            cursor = request.cursor
            if cursor is None:
                self._pages.check_room(reader)
                answer = self._adapter.page(request.scope, None, reader.limit)
            else:
                wanted = self._pages.wanted(reader, cursor)
                if wanted is None:
                    call.succeed(self._pages.next(reader, cursor))
                    return
                answer = self._adapter.page(request.scope, *wanted)
        except Exception as error:
            call.fail(refusal(error, _ENTRIES))
            return

        def done(call: Call, page: Page) -> None:
            readable = self._readable_rows(request.scope, page.pairs)
            if readable is not page.pairs:
                page = Page(readable, page.after, page.total)
            if cursor is not None:
                _give(call, lambda: self._pages.next(reader, cursor, page))
            elif page.after is None:
                _give(call, lambda: self._pages.first(reader, page.pairs))
            elif page.total > SNAPSHOT_ROWS:
                _give(call, lambda: self._pages.first_of_many(reader, page))
            else:
                self._whole_entries(call, reader)

        def failed(call: Call, error: BaseException) -> None:
            if cursor is not None:
                self._pages.failed(cursor)
            _ENTRIES.fail(call, error)

        if isinstance(answer, Page):
            done(call, answer)
        else:
            self._answers.wait(answer, None, call, done, failed)

    def _whole_entries(self, call: Call, reader: PageReader) -> None:
        """A scope of several pages that is small enough to be kept as it is at one moment."""
        answer = self._adapter.list(reader.scope)

        def done(call: Call, rows: Sequence[tuple[str, bytes]]) -> None:
            _give(call, lambda: self._pages.first(reader, self._readable_rows(reader.scope, rows)))

        self._now_or_later(call, answer, done, _ENTRIES)

    def _now_or_later(
        self, call: Call, answer: Any, done: Callable[[Call, Any], None], errors: FunctionErrors
    ) -> None:
        if isinstance(answer, Sequence):
            done(call, answer)
        else:
            self._answers.wait(answer, None, call, done, errors.fail)

    def _readable_rows(self, scope: str, rows: Sequence[tuple[str, bytes]]) -> Sequence[tuple[str, bytes]]:
        if not self._unsure:
            return rows
        good = [row for row in rows if is_json(row[1])]
        if len(good) < len(rows):
            log.warning("%d values of scope %r are left out: they are not JSON", len(rows) - len(good), scope)
        return good


def _give(call: Call, page: Callable[[], bytes]) -> None:
    """Answer with the page, or with why there is none."""
    try:
        found = page()
    except CallerError as error:
        call.fail(error)
    else:
        call.succeed(found)
