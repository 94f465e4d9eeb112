"""The changes that writes hand to an adapter: pure functions from the current bytes to the new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from iii_skill.errors import AdapterError, ValueRefused
from iii_skill.json_slices import SLICE
from iii_skill.readable import MAX_NESTING, SURELY_FLAT, TOO_DEEP, check_nesting, fits, is_json
from iii_skill.state import ops
from iii_skill.state.equality import equal
from iii_skill.state.op_input import AppendOp, MergeOp, Op, SetOp
from iii_skill.state.value_size import LARGEST, SURELY_FEW, check_comparable, check_parts, check_size
from iii_skill.values import KEEP, Keep

_AROUND_OP_VALUE = 3
"""Levels of a call around the value of an op: the payload, its ops, the op."""


class UpdateOps:
    """The change of one `state::update`; `errors` are those of its last run."""

    __slots__ = ("_check_old", "_levels", "_limit", "_ops", "errors")

    def __init__(
        self, request_ops: Sequence[Op], check_old: bool, limit: int | None = None, levels: int = 0
    ) -> None:
        """`limit` is the largest value; `levels` says how deep the call nests when that is known (else 0)."""
        self._ops = request_ops
        self._limit = limit
        self._levels = levels
        self._check_old = check_old
        self.errors: list[ops.OpError] = []

    def __call__(self, old: bytes | None) -> bytes:
        if self._check_old and old is not None and not is_json(old):
            raise unreadable()
        if old is not None and len(old) > SURELY_FEW:
            check_parts(old, "updated in parts")
        applied = ops.apply(self._ops, old)
        new = applied.new
        if len(new) <= SURELY_FLAT:
            pass
        elif len(new) <= SLICE:
            check_nesting(new)
        elif any(map(self._deepens, self._ops)):
            raise ValueRefused(TOO_DEEP)
        if self._limit is not None or len(new) > LARGEST:
            check_size(new, self._limit, old=old)
        self.errors = applied.errors
        return new

    def _deepens(self, op: Op) -> bool:
        """True when what the op brings may nest too deep where it goes; what is stored already does not."""
        if not isinstance(op, SetOp | AppendOp | MergeOp):
            return False
        path = op.path
        around = 1 + (1 if isinstance(path, str) else len(path or ()))
        value = bytes(op.value)
        if len(value) <= SLICE or not self._levels:
            opening = value.count(b"[") + value.count(b"{")
            return opening + around > MAX_NESTING and not fits(value, MAX_NESTING - around)
        return self._levels - _AROUND_OP_VALUE + around > MAX_NESTING


class CompareAndSet:
    """The change of one compare-and-set; `expected` None means that nothing, or null, must be there."""

    __slots__ = ("_check_old", "_expected", "_value")

    def __init__(self, expected: bytes | None, value: bytes, check_old: bool) -> None:
        self._expected = expected
        self._value = value
        self._check_old = check_old

    def __call__(self, old: bytes | None) -> bytes | Literal[Keep.KEEP]:
        if self._check_old and old is not None and not is_json(old):
            raise unreadable()
        present = None if old == b"null" else old
        if present is None or self._expected is None:
            return self._value if present is self._expected else KEEP
        if present == self._expected:
            return self._value
        check_comparable(present, self._expected)
        return self._value if equal(present, self._expected) else KEEP


def unreadable() -> AdapterError:
    return AdapterError("the stored text is not JSON; set or delete the key to repair it")
