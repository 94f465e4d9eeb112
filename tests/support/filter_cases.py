"""Random filters and documents, most of them of interest to each other; equal seeds give equal cases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

_MEMBERS = ["a", "b", "items", "0", "1", "01", "a.b", "ü", "\\", ""]
_SCALARS: list[Any] = [
    *[None, True, False, 0, 1, -1, 1.0, 0.5, -0.0, 2**53, 2**53 - 1, -(2**53), 100, 1e-7, 3.5],
    *["", "a", "ab", "b", "B", "ü", "\U0001f600", "\ue000", "1", "é"],
]
_ROOTS = ["input", "input", "input", "output", "error", "caller", "metadata"]
_VALUE_OPERATORS = ["$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$exists", "$prefix", "$any"]
_ODD: list[Any] = [2**53 + 1, -(2**53) - 1, 1e300, "$eq", {"$eq": 1}, [[[]]], {"": 0}]


class Case(msgspec.Struct, frozen=True):
    """A filter, perhaps none of the language, and documents to try it on."""

    filter: Any
    documents: list[dict[str, Any]]


def cases(count: int, *, seed: int = 1, documents: int = 6) -> Iterator[Case]:
    """`count` of them."""
    for number in range(count):
        generator = _Generator(random.Random(f"{seed}/{number}"))
        source = generator.source()
        yield Case(source, [generator.document() for _ in range(documents)])


class _Generator:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        # Faults are rare inside one filter, so that most filters are good and the others have one fault.
        self._fault = rng.choice((0.0, 0.0, 0.0, 0.03, 0.12))
        self._paths: list[str] = []

    def source(self) -> Any:
        rng = self._rng
        if rng.random() < 0.01:
            return rng.choice([None, [], "x", 1, {}, {"$and": []}, {"$or": [{}]}, {"$not": {}}])
        if rng.random() < 0.06:
            return self._at_a_limit()
        return self._filter(1, "")

    def document(self) -> dict[str, Any]:
        rng = self._rng
        found = {root: self._value(3) for root in set(_ROOTS) if rng.random() < 0.8}
        for path in rng.sample(self._paths, min(len(self._paths), rng.randrange(4))):
            self._plant(found, path)
        return found

    def _filter(self, depth: int, root: str) -> dict[str, Any]:
        rng = self._rng
        out: dict[str, Any] = {}
        for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3)) if depth < 6 else rng.randrange(2)):
            kind = rng.random()
            if self._faulty():
                key, value = rng.choice(
                    [
                        ("$eq", 1),
                        ("$nope", {}),
                        ("input.a", 5),
                        ("input.a", {}),
                        ("$or", []),
                        ("$and", {}),
                        ("$not", []),
                    ]
                )
                out[key] = value
            elif kind < 0.1:
                out["$and"] = [self._filter(depth + 1, root) for _ in range(rng.randint(1, 3))]
            elif kind < 0.2:
                out["$or"] = [self._filter(depth + 1, root) for _ in range(rng.randint(1, 3))]
            elif kind < 0.3:
                out["$not"] = self._filter(depth + 1, root)
            else:
                path = self._path(root)
                out[path] = self._operators(depth)
        return out

    def _path(self, root: str) -> str:
        rng = self._rng
        if self._faulty():
            return rng.choice(
                [
                    "x.a",
                    "input..a",
                    "input.",
                    ".input",
                    "",
                    "input.a\\b",
                    "input.a\\",
                    "@",
                    "@.a",
                    "Input",
                    "input.*",
                ]
            )
        names = [
            rng.choice(_MEMBERS[:9])
            for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 16, 17) if rng.random() < 0.03 else (0, 1, 1, 2)))
        ]
        escaped = [name.replace("\\", "\\\\").replace(".", "\\.") for name in names]
        path = ".".join([root or rng.choice(_ROOTS), *escaped])
        if not root:
            self._paths.append(path)
        return path

    def _operators(self, depth: int) -> Any:
        rng = self._rng
        if self._faulty():
            return rng.choice([{}, 1, "x", None, [], {"a": 1}, {"$eq": 1, "a": 2}, {"$exist": True}])
        return {
            name: self._operand(name, depth)
            for name in rng.sample(_VALUE_OPERATORS, rng.choice((1, 1, 1, 2, 3)))
        }

    def _operand(self, name: str, depth: int) -> Any:
        rng = self._rng
        if self._faulty():
            return rng.choice([*_ODD, *_SCALARS])
        if name in ("$eq", "$ne"):
            return self._value(3)
        if name in ("$in", "$nin"):
            return [self._value(2) for _ in range(rng.randrange(5))]
        if name == "$exists":
            return rng.random() < 0.5
        if name == "$prefix":
            return rng.choice([value for value in _SCALARS if isinstance(value, str)])
        if name == "$any":
            if rng.random() < 0.4:
                return self._operators(depth + 1)
            return self._filter(depth + 1, "@")
        return rng.choice(
            [
                value
                for value in _SCALARS
                if isinstance(value, int | float | str) and not isinstance(value, bool)
            ]
        )

    def _value(self, depth: int) -> Any:
        rng = self._rng
        kind = rng.random()
        if depth == 0 or kind < 0.45:
            return rng.choice(_SCALARS)
        if kind < 0.72:
            return {rng.choice(_MEMBERS): self._value(depth - 1) for _ in range(rng.randrange(4))}
        return [self._value(depth - 1) for _ in range(rng.randrange(4))]

    def _plant(self, document: dict[str, Any], path: str) -> None:
        """Make the path lead somewhere, in plain words: names with escapes stay as they are."""
        root, *names = path.split(".")
        value: Any = self._value(2)
        for name in reversed(names):
            value = [value, value] if name in ("0", "1") and self._rng.random() < 0.7 else {name: value}
        document[root] = value

    def _faulty(self) -> bool:
        return self._rng.random() < self._fault

    def _at_a_limit(self) -> Any:
        """A filter at, just below and just above one of the limits."""
        rng = self._rng
        off = rng.choice((-1, 0, 1))
        match rng.randrange(9):
            case 0:
                text = "x" * (8192 + off - len(msgspec.json.encode({"input.a": {"$eq": ""}})))
                return {"input.a": {"$eq": text}}
            case 1:
                return {"input.a": {"$in": list(range(256 + off))}}
            case 2:
                return _nested(8 + off, rng.choice(["$or", "$not", "$any"]))
            case 3:
                return {"$or": [{f"input.n{n}": {"$eq": n}} for n in range(63 + off)]}
            case 4:
                return {".".join(["input", *["a"] * (16 + off)]): {"$eq": 1}}
            case 5:
                literal: Any = rng.choice([1, []])
                for _ in range(32 + off):
                    literal = [literal]
                return {"input.a": rng.choice([{"$eq": literal}, {"$in": [literal]}])}
            case 6:
                inner: Any = {"input.a": {"$eq": 1}}
                for _ in range(rng.choice((30, 57, 58, 59, 60))):
                    inner = {"$and": [inner]}
                return inner
            case 7:
                return {"input.a": {"$eq": rng.choice((1, -1)) * (2**53 + off)}}
            case _:
                return {"$and": [{"input.a": {"$eq": n}} for n in range(64 + off)]}


def _nested(depth: int, name: str) -> Any:
    if name == "$any":
        inner: Any = {"$eq": 1}
        for _ in range(depth - 1):
            inner = {"$any": inner}
        return {"input.a": inner}
    inner = {"input.a": {"$eq": 1}}
    for _ in range(depth - 1):
        inner = {name: inner if name == "$not" else [inner]}
    return inner
