"""The six ops of `state::update`, pure: the current bytes and the ops give the new bytes and the errors.

Rules, all the engine's own: ops run in order on a working copy; one that fails is skipped and reported, the
others still apply; the result is stored once. A key that does not exist starts as `{}`, and until an op has
succeeded root ops see that nothing was there. A path of set, increment, decrement and remove is one literal
field name, "" is the root; merge and append also take arrays of literal names. Only the objects along a path
are taken apart: what no op touches keeps its bytes.
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
Node: TypeAlias = bytes | Fields
Arithmetic: TypeAlias = Callable[[bytes, int], bytes | None]

_encode = msgspec.json.Encoder().encode
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
    for index, op in enumerate(ops):
        try:
            root = _RULES[type(op)](op, root, missing)
            missing = False
        except OpFailure as failure:
            errors.append(OpError(failure.code, DOC_URL, failure.message, index))
    return Applied(_encode(root) if isinstance(root, dict) else root, errors)


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
    total = None if isinstance(node, dict) or node[0] in _TYPES else operation(node, amount)
    if total is None:
        raise OpFailure(f"{name}.not_number", f"Expected number at path '{path}', got {_type(node)}.")
    return total


def _append(op: AppendOp, root: Node, missing: bool) -> Node:
    segments = _segments(op.path)
    check_path("append", segments)
    value = bytes(op.value)
    if not segments:
        return _joined("root", b"null" if missing else root, value)
    fields = _opened(root)
    if fields is None:
        message = (
            f"Cannot append at path '[{', '.join(segments)}]': target is {_type(root)}, expected object."
        )
        raise OpFailure("append.target_not_object", message)
    parent = _reach(fields, segments[:-1])
    leaf = segments[-1]
    present = _field(parent, leaf)
    if present is not None:
        joined = _joined(leaf, present, value)
    elif len(segments) == 1:
        joined = _started(value)
    else:
        joined = b"[%b]" % value
    parent[leaf] = Raw(joined)
    return fields


def _joined(path: str, target: Node, value: bytes) -> bytes:
    """The value appended to what is at the target."""
    kind = _type(target)
    if kind == "null":
        return _started(value)
    if isinstance(target, dict) or kind not in ("array", "string"):
        expected = "array, string, null, or missing field"
        message = f"Cannot append at path '{path}': target is {kind}, expected {expected}."
        raise OpFailure("append.type_mismatch", message)
    if kind == "array":
        comma = b"" if _empty_array.fullmatch(target) else b","
        return b"%b%b%b]" % (target[:-1], comma, value)
    if _type(value) != "string":
        message = f"Expected string append value at path '{path}', got {_type(value)}."
        raise OpFailure("append.type_mismatch", message)
    return target[:-1] + value[1:]


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
    """What is in a field; None when it is absent."""
    present = fields.get(name)
    return bytes(present) if type(present) is Raw else present


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


_RULES: dict[type[Op], Callable[[Any, Node, bool], Node]] = {
    SetOp: _set,
    MergeOp: _merge,
    IncrementOp: _increment,
    DecrementOp: _decrement,
    AppendOp: _append,
    RemoveOp: _remove,
}
