"""The functions that write: set, delete, update and compare-and-set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from iii_skill.adapter_answers import AdapterAnswers, Done, Failed
from iii_skill.calls import Call, Result
from iii_skill.deferred import Deferred
from iii_skill.outline import Short
from iii_skill.readable import check_nesting, check_readable, check_value
from iii_skill.state import requests
from iii_skill.state.changes import CompareAndSet, UpdateOps
from iii_skill.state.errors import FunctionErrors, refusal
from iii_skill.state.op_input import AppendOp, MergeOp, Op, SetOp
from iii_skill.state.publisher import Publisher
from iii_skill.state.requests import ABSENT, MISFIT
from iii_skill.state.scopes import ACCEPTED, EmptiedScopes, check_scope
from iii_skill.state.settings import LiveSettings
from iii_skill.state.value_size import SURELY_FEW, check_size
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

_decode_set, _decode_update = requests.SET.decode, requests.UPDATE.decode

_MAY_BE_TOO_LARGE = 256 * 1024
"""An answer of fewer bytes fits into a message to every SDK."""

_BRIEFLY = (
    b'"values_left_out":"The write was made. Its answer is larger than one message to this worker may be, so '
    b'the values are left out; read the key with state::get."}'
)
_SET_BRIEFLY = b'{"new_value":null,"old_value":null,' + _BRIEFLY
_DELETED_BRIEFLY = b"{" + _BRIEFLY


def _whole(op: Op, short: Short) -> Op:
    """The op with the bytes of its value that were left out of the short text."""
    if not isinstance(op, _WITH_VALUE):
        return op
    value = bytes(op.value)
    restored = short.restore(value)
    return op if restored is value else msgspec.structs.replace(op, value=msgspec.Raw(restored))


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
            try:
                request = _decode_set(call.data)
                if request.data is not ABSENT:
                    request = requests.SET.read(call.data)
            except MISFIT:
                request = requests.SET.read(call.data)
            scope, key, value = request.scope, request.key, bytes(request.value)
            if call.outline is not None:
                value = call.outline.restore(value)
                call.let_go()
            if scope not in ACCEPTED:
                check_scope(scope)
            if not call.levels:
                check_value(value)
            limit = self._settings.current.max_value_bytes
            if limit is not None or len(value) > SURELY_FEW:
                check_size(value, limit)
            answer = self._adapter.set(scope, key, value)
        except Exception as error:
            call.fail(refusal(error, _SET))
            return

        done: Done = self._was_set
        failed: Failed = _SET.fail
        if call.chain or call.traceparent is not None:
            done, failed = self._publisher.awaits(scope, key, done, failed)
        if type(answer) is Deferred:  # type: ignore[comparison-overlap]
            answer.listen(call, done, failed)
        elif isinstance(answer, Change):
            done(call, answer)
        else:
            self._answers.wait(answer, (scope, key), call, done, failed)

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

        done: Done = self._was_deleted
        failed: Failed = _DELETE.fail
        if call.chain or call.traceparent is not None:
            done, failed = self._publisher.awaits(scope, key, done, failed)
        if isinstance(answer, Change):
            done(call, answer)
        else:
            self._answers.wait(answer, (scope, key), call, done, failed)

    def update(self, call: Call) -> None:
        """`state::update`: apply ops in one atomic step."""
        try:
            try:
                request = _decode_update(call.data)
            except MISFIT:
                request = requests.UPDATE.read(call.data)
            scope, key, ops = request.scope, request.key, request.ops
            if call.outline is not None:
                ops = [_whole(op, call.outline) for op in ops]
                call.let_go()
            if scope not in ACCEPTED:
                check_scope(scope)
            if not call.levels:
                for op in ops:
                    if type(op) in _WITH_VALUE:
                        check_readable(bytes(op.value))  # type: ignore[union-attr]
            limit = self._settings.current.max_value_bytes
            run = UpdateOps(ops, self._unsure, limit, call.levels)
            answer = self._adapter.update(scope, key, run)
        except Exception as error:
            call.fail(refusal(error, _UPDATE))
            return

        done: Done = self._was_updated
        failed: Failed = self._failed_update
        if call.chain or call.traceparent is not None:
            done, failed = self._publisher.awaits(scope, key, done, failed)
        if type(answer) is Deferred:  # type: ignore[comparison-overlap]
            answer.listen((run, call), done, failed)
        elif isinstance(answer, Change):
            done((run, call), answer)
        else:
            self._answers.wait(answer, (scope, key), (run, call), done, failed)

    def compare_and_set(self, call: Call) -> None:
        """`state::compare-and-set`: replace the value if it is the expected one."""
        try:
            request = requests.COMPARE_AND_SET.read(call.data)
            scope, key, value = request.scope, request.key, bytes(request.value)
            expected = bytes(request.expected)
            if call.outline is not None:
                value, expected = call.outline.restore(value), call.outline.restore(expected)
                call.let_go()
            check_scope(scope)
            if not call.levels:
                check_readable(call.data)
                check_nesting(value)
            limit = self._settings.current.max_value_bytes
            if limit is not None or len(value) > SURELY_FEW:
                check_size(value, limit)
            absent = request.expected is ABSENT or expected == b"null"
            swap = CompareAndSet(None if absent else expected, value, self._unsure)
            answer = self._adapter.update(scope, key, swap)
        except Exception as error:
            call.fail(refusal(error, _COMPARE))
            return

        done: Done = self._was_compared
        failed: Failed = _COMPARE.fail
        if call.chain or call.traceparent is not None:
            done, failed = self._publisher.awaits(scope, key, done, failed)
        if isinstance(answer, Change):
            done(call, answer)
        else:
            self._answers.wait(answer, (scope, key), call, done, failed)

    def _was_set(self, call: Call, change: Change) -> None:
        trace = call.traceparent
        old = (self._publisher.readable(change.old) if self._unsure else change.old) or b"null"
        reply = b'{"new_value":%b,"old_value":%b}' % (change.new or b"null", old)
        if len(reply) <= _MAY_BE_TOO_LARGE:
            call.succeed(reply)
        else:
            call.reply(Result(reply, _SET_BRIEFLY))
        self._publisher.written(change, call.chain, trace)

    def _was_deleted(self, call: Call, change: Change) -> None:
        trace = call.traceparent
        if change.old is not None:
            self._emptied.add(change.scope)
        old = self._publisher.readable(change.old)
        if old is None or len(old) <= _MAY_BE_TOO_LARGE:
            call.succeed(old)
        else:
            call.reply(Result(old, _DELETED_BRIEFLY))
        self._publisher.written(change, call.chain, trace)

    def _was_updated(self, subject: tuple[UpdateOps, Call], change: Change) -> None:
        run, call = subject
        trace = call.traceparent
        old, new = change.old or b"null", change.new or b"null"
        if run.errors:
            reply = b'{"errors":%b,"new_value":%b,"old_value":%b}' % (_encode(run.errors), new, old)
        else:
            reply = b'{"new_value":%b,"old_value":%b}' % (new, old)
        if len(reply) <= _MAY_BE_TOO_LARGE:
            call.succeed(reply)
        else:
            call.reply(Result(reply, _SET_BRIEFLY))
        self._publisher.written(change, call.chain, trace)

    def _was_compared(self, call: Call, change: Change) -> None:
        trace = call.traceparent
        if change.kept:
            call.succeed(b'{"swapped":false,"current":%b}' % (change.old or b"null"))
        else:
            call.succeed(b'{"swapped":true}')
            self._publisher.written(change, call.chain, trace)

    def _failed_update(self, subject: tuple[UpdateOps, Call], error: BaseException) -> None:
        _UPDATE.fail(subject[1], error)
