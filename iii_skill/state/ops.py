"""The six ops of `state::update`, pure: the current bytes and the ops give the new bytes and the errors.

Rules, all the engine's own: ops run in order on a working copy; one that fails is skipped and reported, the
others still apply; the result is stored once. A key that does not exist starts as `{}`, and until an op has
succeeded root ops see that nothing was there. A path of set, increment, decrement and remove is one literal
field name, "" is the root; merge and append also take arrays of literal names. Only the objects along a path
are taken apart: what no op touches keeps its bytes. Many ops cost no more than what they bring: nothing is
copied once for each of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw

from iii_skill.state.numbers import minus, plus
from iii_skill.state.op_input import (
    AppendOp,
    DecrementOp,
    IncrementOp,
    MergeOp,
    Op,
    Path,
    RemoveOp,
    SetOp,
)
from iii_skill.state.op_limits import FORBIDDEN, SURELY_SHORT, OpFailure, check_merge_value, check_path

DOC_URL = "https://iii.dev/docs/workers/iii-state#error-codes"

Fields: TypeAlias = dict[str, Any]
"""An object that was taken apart: field name to a Raw value or to Fields again."""
Encoded: TypeAlias = bytes | memoryview
Arithmetic: TypeAlias = Callable[[bytes, int], bytes | None]

_take_apart: Callable[[Any], Fields] = msgspec.json.Decoder(dict[str, Raw]).decode
_empty_array = re.compile(rb"\[[ \t\r\n]*\]")
_BRACE = ord("{")
_TYPES = {
    ord("n"): "null",
    ord("t"): "boolean",
    ord("f"): "boolean",
    ord('"'): "string",
    ord("["): "array",
    ord("{"): "object",
}


_FEW = 8
"""Ops that may copy what they append to; more of them join it once, at the end."""


class Growing:
    """An array or string that ops append to: its parts, joined when the last op has run."""

    __slots__ = ("_closing", "_parts")

    def __init__(self, target: Encoded, closing: bytes) -> None:
        self._parts: list[Encoded] = [target[:-1]]
        self._closing = closing

    def __getitem__(self, _first: int) -> int:
        """Its first byte, which tells its type."""
        return self._parts[0][0]

    def append(self, part: bytes) -> None:
        """Put the part at its end."""
        self._parts.append(part)

    def joined(self) -> bytes:
        """The encoded value."""
        return b"".join((*self._parts, self._closing))


Node: TypeAlias = Encoded | Fields | Growing


def _join(growing: Any) -> Raw:
    return Raw(growing.joined())


_encode = msgspec.json.Encoder(enc_hook=_join).encode


class OpError(msgspec.Struct, frozen=True, gc=False):
    """One entry of `errors` in the reply."""

    code: str
    doc_url: str
    message: str
    op_index: int


class Applied(msgspec.Struct, frozen=True, gc=False):
    """The outcome: the encoded new document and what was skipped."""

    new: bytes
    errors: list[OpError]


def apply(ops: Sequence[Op], current: bytes | None) -> Applied:
    """Run the ops on the current document; None means that the key does not exist."""
    missing = current is None
    root: Node = {} if current is None else current.strip()
    errors: list[OpError] = []
    many = len(ops) > _FEW
    rules = _RULES_FOR_MANY if many else _RULES
    for index, op in enumerate(ops):
        if many and op.path and not isinstance(root, dict) and root[0] == _BRACE:
            # Once for all of them: an op that fails would leave it as it was.
            root = _take_apart(root)
        try:
            root = rules[type(op)](op, root, missing)
            missing = False
        except OpFailure as failure:
            errors.append(OpError(failure.code, DOC_URL, failure.message, index))
    if current is not None and len(errors) == len(ops):
        return Applied(current.strip(), errors)
    if isinstance(root, dict):
        return Applied(_encode(root), errors)
    return Applied(root.joined() if isinstance(root, Growing) else bytes(root), errors)


def _set(op: SetOp, root: Node, _missing: bool) -> Node:
    if not op.path:
        return bytes(op.value)
    fields = _fields_for(root, "set", op.path)
    fields[op.path] = op.value
    return fields


def _remove(op: RemoveOp, root: Node, _missing: bool) -> Node:
    if not op.path:
        return b"null"
    fields = _fields_for(root, "remove", op.path)
    fields.pop(op.path, None)
    return fields


def _increment(op: IncrementOp, root: Node, missing: bool) -> Node:
    return _count("increment", op.path, plus, op.by, root, missing)


def _decrement(op: DecrementOp, root: Node, missing: bool) -> Node:
    return _count("decrement", op.path, minus, op.by, root, missing)


def _count(name: str, path: str, operation: Arithmetic, amount: int, root: Node, missing: bool) -> Node:
    if not path:
        return _counted(name, "root", operation, amount, None if missing else root)
    fields = _fields_for(root, name, path)
    fields[path] = Raw(_counted(name, path, operation, amount, _field(fields, path)))
    return fields


def _counted(name: str, path: str, operation: Arithmetic, amount: int, node: Node | None) -> bytes:
    """The number counted on; nothing counts as zero."""
    if node is None:
        return b"%d" % (amount if operation is plus else -amount)
    total = None
    if not isinstance(node, (dict, Growing)) and node[0] not in _TYPES:
        total = operation(bytes(node), amount)
    if total is None:
        raise OpFailure(f"{name}.not_number", f"Expected number at path '{path}', got {_type(node)}.")
    return total


def _append_to_many(op: AppendOp, root: Node, missing: bool) -> Node:
    return _append(op, root, missing, grow=True)


def _append(op: AppendOp, root: Node, missing: bool, *, grow: bool = False) -> Node:
    segments = _segments(op.path)
    check_path("append", segments)
    value = bytes(op.value)
    if not segments:
        return _joined("root", b"null" if missing else root, value, grow=grow)
    fields = _opened(root)
    if fields is None:
        message = (
            f"Cannot append at path '[{', '.join(segments)}]': target is {_type(root)}, expected object."
        )
        raise OpFailure("append.target_not_object", message)
    parent = _reach(fields, segments[:-1])
    leaf = segments[-1]
    present = _field(parent, leaf)
    joined: Node
    if present is not None:
        joined = _joined(leaf, present, value, grow=grow)
    elif len(segments) == 1:
        joined = _started(value)
    else:
        joined = b"[%b]" % value
    parent[leaf] = joined if isinstance(joined, Growing) else Raw(joined)
    return fields


def _joined(path: str, target: Node, value: bytes, *, grow: bool) -> bytes | Growing:
    """The value appended to what is at the target."""
    kind = _type(target)
    if kind == "null":
        return _started(value)
    if isinstance(target, dict) or kind not in ("array", "string"):
        expected = "array, string, null, or missing field"
        message = f"Cannot append at path '{path}': target is {kind}, expected {expected}."
        raise OpFailure("append.type_mismatch", message)
    if kind == "array":
        if isinstance(target, Growing):
            target.append(b"," + value)
            return target
        comma = b"" if _empty_array.fullmatch(target) else b","
        if grow:
            growing = Growing(target, b"]")
            growing.append(comma + value)
            return growing
        return b"".join((target[:-1], comma, value, b"]"))
    if _type(value) != "string":
        message = f"Expected string append value at path '{path}', got {_type(value)}."
        raise OpFailure("append.type_mismatch", message)
    if isinstance(target, Growing) or grow:
        growing = target if isinstance(target, Growing) else Growing(target, b'"')
        growing.append(value[1:-1])
        return growing
    return b"".join((target[:-1], value[1:]))


def _started(value: bytes) -> bytes:
    return value if _type(value) == "string" else b"[%b]" % value


def _merge(op: MergeOp, root: Node, _missing: bool) -> Node:
    segments = _segments(op.path)
    check_path("merge", segments)
    value = bytes(op.value)
    if _type(value) != "object":
        raise OpFailure("merge.value.not_an_object", "Merge value must be a JSON object")
    merged = _take_apart(value)
    check_merge_value(value, merged)
    fields = _opened(root)
    if fields is None:
        if not segments:
            return root
        fields = {}
    _reach(fields, segments).update(merged)
    return fields


def _segments(path: Path) -> Sequence[str]:
    if not path:
        return ()
    return (path,) if isinstance(path, str) else path


def _fields_for(root: Node, op: str, path: str) -> Fields:
    """The root's fields, or the failure of an op that needs an object and a field name."""
    if len(path) > SURELY_SHORT or path in FORBIDDEN:
        check_path(op, (path,))
    if isinstance(root, dict):
        return root
    if root[0] == _BRACE:
        return _take_apart(root)
    message = f"Cannot {op} at path '{path}': target is {_type(root)}, expected object."
    raise OpFailure(f"{op}.target_not_object", message)


def _opened(node: Node) -> Fields | None:
    """The fields of an object, None for any other value."""
    if isinstance(node, dict):
        return node
    return _take_apart(node) if node[0] == _BRACE else None


def _field(fields: Fields, name: str) -> Node | None:
    """What is in a field, not copied; None when it is absent."""
    present = fields.get(name)
    return memoryview(present) if type(present) is Raw else present


def _reach(fields: Fields, segments: Sequence[str]) -> Fields:
    """The object at a path; what is missing or no object on the way becomes `{}`."""
    for segment in segments:
        present = _field(fields, segment)
        inner = None if present is None else _opened(present)
        if inner is None:
            inner = {}
        fields[segment] = inner
        fields = inner
    return fields


def _type(node: Node) -> str:
    return "object" if isinstance(node, dict) else _TYPES.get(node[0], "number")


_RULES: dict[type[Any], Callable[[Any, Node, bool], Node]] = {
    SetOp: _set,
    MergeOp: _merge,
    IncrementOp: _increment,
    DecrementOp: _decrement,
    AppendOp: _append,
    RemoveOp: _remove,
}
_RULES_FOR_MANY: dict[type[Any], Callable[[Any, Node, bool], Node]] = {**_RULES, AppendOp: _append_to_many}
