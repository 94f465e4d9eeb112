"""StateWorker: the `state::*` functions over one adapter.

Invariants: no task per call; a reply leaves before the event of its write; events of one key are in the
order of its revisions; values are spliced as bytes, never decoded and encoded again. Events of an adapter
that other hosts write to as well come from its `changes()`, never from own writes: each write fires once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from iii_skill.adapter import StateAdapter
from iii_skill.errors import CallerError, ValueTooLarge
from iii_skill.state import door, requests
from iii_skill.state.calls import Handler, StateCall
from iii_skill.state.changefeed import ChangeFeed
from iii_skill.state.changes import Swap, UpdateRun, is_json, unreadable
from iii_skill.state.events import StateEvent, event_of
from iii_skill.state.failures import ReservedScope, Trouble, refusal
from iii_skill.state.functions import FUNCTIONS, FunctionInfo
from iii_skill.state.lanes import Lane, Lanes
from iii_skill.state.opinput import DecrementOp, IncrementOp, RemoveOp
from iii_skill.state.pages import Pages, reader_of
from iii_skill.state.requests import ABSENT
from iii_skill.state.settings import LiveSettings
from iii_skill.values import Change

log = logging.getLogger("iii_skill.state")

RESERVED_SCOPES = frozenset({"state_barrier", "__state_private_namespaces"})
_VALUELESS = frozenset({IncrementOp, DecrementOp, RemoveOp})
"""Ops that bring nothing to store."""
MAX_REMEMBERED_SCOPES = 10_000

_encode = msgspec.json.Encoder().encode


Publish = Callable[[StateEvent], None]


class StateWorker:
    """Answers `state::*` calls and publishes what the writes did."""

    def __init__(self, adapter: StateAdapter, *, settings: LiveSettings, publish: Publish) -> None:
        self._adapter = adapter
        self._settings = settings
        self._publish = publish
        self._shared = adapter.shared
        self._lanes = Lanes()
        self._pages = Pages()
        self._emptied: dict[str, None] = {}
        self._feed = ChangeFeed(adapter.changes, self._fire) if adapter.shared else None
        self.functions: dict[str, Handler] = {
            "state::set": self._set,
            "state::get": self._get,
            "state::delete": self._delete,
            "state::update": self._update,
            "state::list": self._list,
            "state::list_groups": self._list_groups,
            "state::compare-and-set": self._compare_and_set,
            "state::list_keys": self._list_keys,
            "state::list_entries": self._list_entries,
        }

    @property
    def descriptions(self) -> Sequence[FunctionInfo]:
        """Description and schemas of each function, for introspection."""
        return FUNCTIONS

    async def start(self) -> None:
        """Begin to follow the changes of a shared adapter."""
        if self._feed is not None:
            self._feed.start()

    async def close(self) -> None:
        """Stop following changes and wait for the answers that are under way."""
        if self._feed is not None:
            await self._feed.close()
        await self._lanes.close()

    def _set(self, call: StateCall) -> None:
        try:
            request = requests.read_set(call.data)
            scope, key, value = request.scope, request.key, bytes(request.value)
            _check_scope(scope)
            door.check_value(value)
            self._check_size(value)
            answer = self._adapter.set(scope, key, value)
        except Exception as error:
            call.fail(refusal(error, _SET))
            return

        def done(change: Change) -> None:
            old = self._readable(change.old)
            call.succeed(b'{"new_value":%b,"old_value":%b}' % (value, b"null" if old is None else old))
            self._written(change)

        if type(answer) is Change:
            done(answer)
        else:
            self._later(call, answer, (scope, key), done, _SET)

    def _get(self, call: StateCall) -> None:
        try:
            request = requests.read_get(call.data)
            scope, key = request.scope, request.key
            _check_scope(scope)
            answer = self._adapter.get(scope, key)
        except Exception as error:
            call.fail(refusal(error, _GET))
            return

        def done(value: bytes | None) -> None:
            if value is not None and self._readable(value) is None:
                call.fail(refusal(unreadable(), _GET))
            else:
                call.succeed(value)

        if answer is None or type(answer) is bytes:
            done(answer)
        else:
            self._later(call, answer, (scope, key), done, _GET)

    def _delete(self, call: StateCall) -> None:
        try:
            request = requests.read_delete(call.data)
            scope, key = request.scope, request.key
            _check_scope(scope)
            answer = self._adapter.delete(scope, key)
        except Exception as error:
            call.fail(refusal(error, _DELETE))
            return

        def done(change: Change) -> None:
            if change.old is not None:
                self._remember(scope)
            call.succeed(self._readable(change.old))
            self._written(change)

        if type(answer) is Change:
            done(answer)
        else:
            self._later(call, answer, (scope, key), done, _DELETE)

    def _update(self, call: StateCall) -> None:
        try:
            request = requests.read_update(call.data)
            scope, key = request.scope, request.key
            _check_scope(scope)
            if not _VALUELESS.issuperset(map(type, request.ops)):
                door.check_readable(call.data)
            run = UpdateRun(request.ops, self._shared)
            answer = self._adapter.update(scope, key, run)
        except Exception as error:
            call.fail(refusal(error, _UPDATE))
            return

        def done(change: Change) -> None:
            old = b"null" if change.old is None else change.old
            new = b"null" if change.new is None else change.new
            if run.errors:
                reply = b'{"errors":%b,"new_value":%b,"old_value":%b}' % (_encode(run.errors), new, old)
            else:
                reply = b'{"new_value":%b,"old_value":%b}' % (new, old)
            call.succeed(reply)
            self._written(change)

        if type(answer) is Change:
            done(answer)
        else:
            self._later(call, answer, (scope, key), done, _UPDATE)

    def _compare_and_set(self, call: StateCall) -> None:
        try:
            request = requests.read_compare_and_set(call.data)
            scope, key, value = request.scope, request.key, bytes(request.value)
            expected = None if request.expected is ABSENT else bytes(request.expected)
            _check_scope(scope)
            door.check_readable(call.data)
            door.check_nesting(value)
            self._check_size(value)
            swap = Swap(None if expected == b"null" else expected, value, self._shared)
            answer = self._adapter.update(scope, key, swap)
        except Exception as error:
            call.fail(refusal(error, _COMPARE))
            return

        def done(change: Change) -> None:
            if change.kept:
                current = b"null" if change.old is None else change.old
                call.succeed(b'{"swapped":false,"current":%b}' % current)
            else:
                call.succeed(b'{"swapped":true}')
                self._written(change)

        if type(answer) is Change:
            done(answer)
        else:
            self._later(call, answer, (scope, key), done, _COMPARE)

    def _list(self, call: StateCall) -> None:
        try:
            scope = requests.read_list(call.data).scope
            _check_scope(scope)
            answer = self._adapter.list(scope)
        except Exception as error:
            call.fail(refusal(error, _LIST))
            return

        def done(rows: Sequence[tuple[str, bytes]]) -> None:
            call.succeed(b"[" + b",".join([value for _, value in self._readable_rows(scope, rows)]) + b"]")

        self._now_or_later(call, answer, done, _LIST)

    def _list_groups(self, call: StateCall) -> None:
        try:
            requests.read_list_groups(call.data)
            answer = self._adapter.scopes()
        except Exception as error:
            call.fail(refusal(error, _GROUPS))
            return

        def done(scopes: Sequence[str]) -> None:
            shown = {*scopes, *self._emptied} - RESERVED_SCOPES
            call.succeed(b'{"groups":%b}' % _encode(sorted(shown)))

        self._now_or_later(call, answer, done, _GROUPS)

    def _list_keys(self, call: StateCall) -> None:
        try:
            scope = requests.read_list_keys(call.data).scope
            _check_scope(scope)
            answer = self._adapter.keys(scope)
        except Exception as error:
            call.fail(refusal(error, _KEYS))
            return

        def done(keys: Sequence[str]) -> None:
            call.succeed(b'{"keys":%b}' % _encode(list(keys)))

        self._now_or_later(call, answer, done, _KEYS)

    def _list_entries(self, call: StateCall) -> None:
        try:
            request = requests.read_list_entries(call.data)
            _check_scope(request.scope)
            reader = reader_of(request, call.caller_id)
            if request.cursor is not None:
                call.succeed(self._pages.next(reader, request.cursor))
                return
            self._pages.check_room()
            answer = self._adapter.list(request.scope)
        except Exception as error:
            call.fail(refusal(error, _ENTRIES))
            return

        def done(rows: Sequence[tuple[str, bytes]]) -> None:
            try:
                page = self._pages.first(reader, self._readable_rows(request.scope, rows))
            except CallerError as error:
                call.fail(error)
            else:
                call.succeed(page)

        self._now_or_later(call, answer, done, _ENTRIES)

    def _now_or_later(
        self, call: StateCall, answer: Any, done: Callable[[Any], None], trouble: Trouble
    ) -> None:
        if isinstance(answer, Sequence):
            done(answer)
        else:
            self._later(call, answer, None, done, trouble)

    def _later(
        self, call: StateCall, answer: Any, lane: Lane | None, done: Callable[[Any], None], trouble: Trouble
    ) -> None:
        self._lanes.wait(answer, lane, done, lambda error: call.fail(refusal(error, trouble)))

    def _written(self, change: Change) -> None:
        """Publish an own write, unless the adapter's `changes` will tell of it."""
        if not self._shared:
            self._fire(change)

    def _fire(self, change: Change) -> None:
        if not self._settings.current.triggers_enabled or change.kept:
            return
        event = event_of(change)
        if self._shared:
            event = msgspec.structs.replace(
                event, old=self._readable(change.old), new=self._readable(change.new)
            )
        self._publish(event)

    def _check_size(self, value: bytes) -> None:
        limit = self._settings.current.max_value_bytes
        if limit is None:
            return
        size = len(_encode(msgspec.json.decode(value)))
        if size > limit:
            raise ValueTooLarge(
                f"value of {size} bytes exceeds the configured max_value_bytes limit of {limit}"
            )

    def _remember(self, scope: str) -> None:
        """Keep an emptied scope in `list_groups` while the process lives; the oldest make room."""
        self._emptied[scope] = None
        if len(self._emptied) > MAX_REMEMBERED_SCOPES:
            del self._emptied[next(iter(self._emptied))]

    def _readable(self, value: bytes | None) -> bytes | None:
        """The value, or None when a stranger wrote something into a shared store that is no JSON."""
        return value if value is None or not self._shared or is_json(value) else None

    def _readable_rows(self, scope: str, rows: Sequence[tuple[str, bytes]]) -> Sequence[tuple[str, bytes]]:
        if not self._shared:
            return rows
        good = [row for row in rows if is_json(row[1])]
        if len(good) < len(rows):
            log.warning("%d values of scope %r are left out: they are not JSON", len(rows) - len(good), scope)
        return good


def _check_scope(scope: str) -> None:
    if scope in RESERVED_SCOPES:
        raise ReservedScope(scope)


_SET = Trouble("SET_ERROR", "Failed to set value: ", writes=True)
_GET = Trouble("GET_ERROR", "Failed to get value: ")
_DELETE = Trouble("DELETE_ERROR", "Failed to delete value: ", writes=True)
_UPDATE = Trouble("UPDATE_ERROR", "Failed to update value: ", writes=True)
_LIST = Trouble("LIST_ERROR", "Failed to list values: ")
_GROUPS = Trouble("LIST_GROUPS_ERROR", "Failed to list groups: ")
_COMPARE = Trouble("CAS_ERROR", "CAS_ERROR: ", writes=True)
_KEYS = Trouble("LIST_KEYS_ERROR", "LIST_KEYS_ERROR: Failed to list keys: ")
_ENTRIES = Trouble("LIST_ENTRIES_ERROR", "LIST_ENTRIES_ERROR: snapshot capture failed: ")
