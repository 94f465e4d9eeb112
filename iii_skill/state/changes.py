"""The changes that writes hand to an adapter: pure functions from the current bytes to the new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from iii_skill.errors import AdapterError
from iii_skill.readable import check_nesting, is_json
from iii_skill.state import ops
from iii_skill.state.equality import equal
from iii_skill.state.op_input import Op
from iii_skill.values import KEEP, Keep


class UpdateOps:
    """The change of one `state::update`; `errors` are those of its last run."""

    __slots__ = ("_check_old", "_ops", "errors")

    def __init__(self, request_ops: Sequence[Op], check_old: bool) -> None:
        self._ops = request_ops
        self._check_old = check_old
        self.errors: list[ops.OpError] = []

    def __call__(self, old: bytes | None) -> bytes:
        if self._check_old and old is not None and not is_json(old):
            raise unreadable()
        applied = ops.apply(self._ops, old)
        check_nesting(applied.new)
        self.errors = applied.errors
        return applied.new


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
        return self._value if equal(present, self._expected) else KEEP


def unreadable() -> AdapterError:
    return AdapterError("the stored text is not JSON; set or delete the key to repair it")
