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

from iii_skill.state.limits import OpFailure, check_merge_value, check_path
from iii_skill.state.numbers import minus, plus
from iii_skill.state.opinput import (
    NULL,
    AppendOp,
    DecrementOp,
    IncrementOp,
    MergeOp,
    Op,
    Path,
    RemoveOp,
    SetOp,
)

DOC_URL = "https://iii.dev/docs/workers/iii-state#error-codes"

Fields: TypeAlias = dict[str, Any]
"""An object that was taken apart: field name to Node."""
Node: TypeAlias = msgspec.Raw | Fields
Arithmetic: TypeAlias = Callable[[bytes, int], bytes | None]

_take_apart = msgspec.json.Decoder(dict[str, msgspec.Raw])
_empty_array = re.compile(rb"\[[ \t\r\n]*\]")
_TYPES = {
    ord("n"): "null",
    ord("t"): "boolean",
    ord("f"): "boolean",
    ord('"'): "string",
    ord("["): "array",
    ord("{"): "object",
}


class OpError(msgspec.Struct, frozen=True):
    """One entry of `errors` in the reply."""

    code: str
    doc_url: str
    message: str
    op_index: int


class Applied(msgspec.Struct, frozen=True):
    """The outcome: the encoded new document and what was skipped."""

    new: bytes
    errors: list[OpError]


def apply(ops: Sequence[Op], current: bytes | None) -> Applied:
    """Run the ops on the current document; None means that the key does not exist."""
    missing = current is None
    root: Node = {} if current is None else msgspec.Raw(current.strip())
    errors: list[OpError] = []
    for index, op in enumerate(ops):
        try:
            root = _RULES[type(op)](op, root, missing)
            missing = False
        except OpFailure as failure:
            errors.append(OpError(failure.code, DOC_URL, failure.message, index))
    new = msgspec.json.encode(root) if isinstance(root, dict) else bytes(root)
    return Applied(new, errors)


def _set(op: SetOp, root: Node, _missing: bool) -> Node:
    if not op.path:
        return op.value
    check_path("set", (op.path,))
    fields = _field_target(root, "set", op.path)
    fields[op.path] = op.value
    return fields


def _remove(op: RemoveOp, root: Node, _missing: bool) -> Node:
    if not op.path:
        return NULL
    check_path("remove", (op.path,))
    fields = _field_target(root, "remove", op.path)
    fields.pop(op.path, None)
    return fields


def _increment(op: IncrementOp, root: Node, missing: bool) -> Node:
    return _count("increment", op.path, plus, op.by, root, missing)


def _decrement(op: DecrementOp, root: Node, missing: bool) -> Node:
    return _count("decrement", op.path, minus, op.by, root, missing)


def _count(name: str, path: str, operation: Arithmetic, amount: int, root: Node, missing: bool) -> Node:
    if not path:
        return _counted(name, "root", operation, amount, None if missing else root)
    check_path(name, (path,))
    fields = _field_target(root, name, path)
    fields[path] = _counted(name, path, operation, amount, fields.get(path))
    return fields


def _counted(name: str, path: str, operation: Arithmetic, amount: int, node: Node | None) -> msgspec.Raw:
    """The number counted on; nothing counts as zero."""
    if node is None:
        return msgspec.Raw(b"%d" % (amount if operation is plus else -amount))
    total = None
    if not isinstance(node, dict) and _type(node) == "number":
        total = operation(bytes(node), amount)
    if total is None:
        raise OpFailure(f"{name}.not_number", f"Expected number at path '{path}', got {_type(node)}.")
    return msgspec.Raw(total)


def _append(op: AppendOp, root: Node, missing: bool) -> Node:
    segments = _segments(op.path)
    check_path("append", segments)
    if not segments:
        return _joined("root", NULL if missing else root, op.value)
    fields = _opened(root)
    if fields is None:
        message = (
            f"Cannot append at path '[{', '.join(segments)}]': target is {_type(root)}, expected object."
        )
        raise OpFailure("append.target_not_object", message)
    parent = _reach(fields, segments[:-1])
    leaf = segments[-1]
    present = parent.get(leaf)
    if present is not None:
        parent[leaf] = _joined(leaf, present, op.value)
    elif len(segments) == 1:
        parent[leaf] = _started(op.value)
    else:
        parent[leaf] = msgspec.Raw(b"[" + bytes(op.value) + b"]")
    return fields


def _joined(path: str, target: Node, value: msgspec.Raw) -> msgspec.Raw:
    """The value appended to what is at the target."""
    kind = _type(target)
    if kind == "null":
        return _started(value)
    if isinstance(target, dict) or kind not in ("array", "string"):
        expected = "array, string, null, or missing field"
        message = f"Cannot append at path '{path}': target is {kind}, expected {expected}."
        raise OpFailure("append.type_mismatch", message)
    encoded = bytes(target)
    if kind == "array":
        comma = b"" if _empty_array.fullmatch(encoded) else b","
        return msgspec.Raw(b"%b%b%b]" % (encoded[:-1], comma, bytes(value)))
    if _type(value) != "string":
        message = f"Expected string append value at path '{path}', got {_type(value)}."
        raise OpFailure("append.type_mismatch", message)
    return msgspec.Raw(encoded[:-1] + bytes(value)[1:])


def _started(value: msgspec.Raw) -> msgspec.Raw:
    return value if _type(value) == "string" else msgspec.Raw(b"[" + bytes(value) + b"]")


def _merge(op: MergeOp, root: Node, _missing: bool) -> Node:
    segments = _segments(op.path)
    check_path("merge", segments)
    if _type(op.value) != "object":
        raise OpFailure("merge.value.not_an_object", "Merge value must be a JSON object")
    merged = _take_apart.decode(op.value)
    check_merge_value(bytes(op.value), merged)
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


def _field_target(root: Node, op: str, path: str) -> Fields:
    """The root's fields, or the failure of an op that needs an object."""
    fields = _opened(root)
    if fields is None:
        message = f"Cannot {op} at path '{path}': target is {_type(root)}, expected object."
        raise OpFailure(f"{op}.target_not_object", message)
    return fields


def _opened(node: Node) -> Fields | None:
    """The fields of an object, None for any other value."""
    if isinstance(node, dict):
        return node
    return _take_apart.decode(node) if _type(node) == "object" else None


def _reach(fields: Fields, segments: Sequence[str]) -> Fields:
    """The object at a path; what is missing or no object on the way becomes `{}`."""
    for segment in segments:
        present = fields.get(segment)
        inner = None if present is None else _opened(present)
        if inner is None:
            inner = {}
        fields[segment] = inner
        fields = inner
    return fields


def _type(node: Node) -> str:
    if isinstance(node, dict):
        return "object"
    return _TYPES.get(memoryview(node)[0], "number")


_RULES: dict[type[Op], Callable[[Any, Node, bool], Node]] = {
    SetOp: _set,
    MergeOp: _merge,
    IncrementOp: _increment,
    DecrementOp: _decrement,
    AppendOp: _append,
    RemoveOp: _remove,
}
