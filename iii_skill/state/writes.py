"""The functions that write: set, delete, update and compare-and-set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from iii_skill.adapter_answers import AdapterAnswers
from iii_skill.calls import Call
from iii_skill.errors import ValueTooLarge
from iii_skill.readable import check_nesting, check_readable, check_value
from iii_skill.state import requests
from iii_skill.state.changes import CompareAndSet, UpdateOps
from iii_skill.state.errors import FunctionErrors, refusal
from iii_skill.state.op_input import AppendOp, MergeOp, SetOp
from iii_skill.state.publisher import Publisher
from iii_skill.state.requests import ABSENT
from iii_skill.state.scopes import EmptiedScopes, check_scope
from iii_skill.state.settings import LiveSettings
from iii_skill.values import Change

if TYPE_CHECKING:
    from iii_skill.adapter import StateAdapter

_WITH_VALUE = (SetOp, AppendOp, MergeOp)
"""Ops that bring something to store."""

_SET = FunctionErrors("SET_ERROR", "Failed to set value: ", writes=True)
_DELETE = FunctionErrors("DELETE_ERROR", "Failed to delete value: ", writes=True)
_UPDATE = FunctionErrors("UPDATE_ERROR", "Failed to update value: ", writes=True)
_COMPARE = FunctionErrors("CAS_ERROR", "CAS_ERROR: ", writes=True)

_encode = msgspec.json.Encoder().encode


class Writes:
    """Each handler answers first and publishes then."""

    def __init__(
        self,
        adapter: StateAdapter,
        *,
        answers: AdapterAnswers,
        publisher: Publisher,
        settings: LiveSettings,
        emptied: EmptiedScopes,
    ) -> None:
        self._adapter = adapter
        self._unsure = not adapter.checked
        self._answers = answers
        self._publisher = publisher
        self._settings = settings
        self._emptied = emptied

    def set(self, call: Call) -> None:
        """`state::set`: replace the value."""
        try:
            request = requests.SET.read(call.data)
            scope, key, value = request.scope, request.key, bytes(request.value)
            check_scope(scope)
            check_value(value)
            self._check_size(value)
            answer = self._adapter.set(scope, key, value)
        except Exception as error:
            call.fail(refusal(error, _SET))
            return

        if isinstance(answer, Change):
            self._was_set(call, answer)
        else:
            self._answers.wait(answer, (scope, key), call, self._was_set, _SET.fail)

    def delete(self, call: Call) -> None:
        """`state::delete`: remove the key in one atomic step."""
        try:
            request = requests.DELETE.read(call.data)
            scope, key = request.scope, request.key
            check_scope(scope)
            answer = self._adapter.delete(scope, key)
        except Exception as error:
            call.fail(refusal(error, _DELETE))
            return

        if isinstance(answer, Change):
            self._was_deleted(call, answer)
        else:
            self._answers.wait(answer, (scope, key), call, self._was_deleted, _DELETE.fail)

    def update(self, call: Call) -> None:
        """`state::update`: apply ops in one atomic step."""
        try:
            request = requests.UPDATE.read(call.data)
            scope, key = request.scope, request.key
            check_scope(scope)
            for op in request.ops:
                if isinstance(op, _WITH_VALUE):
                    check_readable(bytes(op.value))
            run = UpdateOps(request.ops, self._unsure)
            answer = self._adapter.update(scope, key, run)
        except Exception as error:
            call.fail(refusal(error, _UPDATE))
            return

        if isinstance(answer, Change):
            self._was_updated((run, call), answer)
        else:
            self._answers.wait(answer, (scope, key), (run, call), self._was_updated, self._failed_update)

    def compare_and_set(self, call: Call) -> None:
        """`state::compare-and-set`: replace the value if it is the expected one."""
        try:
            request = requests.COMPARE_AND_SET.read(call.data)
            scope, key, value = request.scope, request.key, bytes(request.value)
            expected = None if request.expected is ABSENT else bytes(request.expected)
            check_scope(scope)
            check_readable(call.data)
            check_nesting(value)
            self._check_size(value)
            swap = CompareAndSet(None if expected == b"null" else expected, value, self._unsure)
            answer = self._adapter.update(scope, key, swap)
        except Exception as error:
            call.fail(refusal(error, _COMPARE))
            return

        if isinstance(answer, Change):
            self._was_compared(call, answer)
        else:
            self._answers.wait(answer, (scope, key), call, self._was_compared, _COMPARE.fail)

    def _was_set(self, call: Call, change: Change) -> None:
        old = self._publisher.readable(change.old) or b"null"
        call.succeed(b'{"new_value":%b,"old_value":%b}' % (change.new or b"null", old))
        self._publisher.written(change)

    def _was_deleted(self, call: Call, change: Change) -> None:
        if change.old is not None:
            self._emptied.add(change.scope)
        call.succeed(self._publisher.readable(change.old))
        self._publisher.written(change)

    def _was_updated(self, subject: tuple[UpdateOps, Call], change: Change) -> None:
        run, call = subject
        old, new = change.old or b"null", change.new or b"null"
        if run.errors:
            reply = b'{"errors":%b,"new_value":%b,"old_value":%b}' % (_encode(run.errors), new, old)
        else:
            reply = b'{"new_value":%b,"old_value":%b}' % (new, old)
        call.succeed(reply)
        self._publisher.written(change)

    def _was_compared(self, call: Call, change: Change) -> None:
        if change.kept:
            call.succeed(b'{"swapped":false,"current":%b}' % (change.old or b"null"))
        else:
            call.succeed(b'{"swapped":true}')
            self._publisher.written(change)

    def _failed_update(self, subject: tuple[UpdateOps, Call], error: BaseException) -> None:
        _UPDATE.fail(subject[1], error)

    def _check_size(self, value: bytes) -> None:
        limit = self._settings.current.max_value_bytes
        if limit is None:
            return
        size = len(_encode(msgspec.json.decode(value)))
        if size > limit:
            raise ValueTooLarge(
                f"value of {size} bytes exceeds the configured max_value_bytes limit of {limit}"
            )
