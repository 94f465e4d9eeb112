"""Hypothesis strategies for JSON: all that every SDK can read, and the ops on it."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import strategies as st

NAMES = st.sampled_from(
    ["a", "b", "n", "", "l", "x.y", "é", "e\u0301", "😀", "__proto__", "constructor", " "]
)
"""Few names, so that ops meet what is there."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", '"', "\\", "\x00\x1f\x7f", "\u2028\u2029", "e\u0301", "👩‍👩‍👧", "\ufeff", "\U0010ffff"]
)
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1.0, 1e308, -1.7976931348623157e308, 5e-324, 2.2250738585072014e-308, 0.1, 1e16, 1e-7]
)
integers = st.integers() | st.sampled_from(
    [0, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**100]
)
scalars = st.none() | st.booleans() | integers | floats | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | texts, inner, max_size=4)
)
deep = st.integers(20, 118).map(lambda levels: json.loads("[" * levels + "]" * levels))
documents = values | deep | st.dictionaries(NAMES, values, max_size=6)

by = st.integers(-(2**63), 2**63 - 1)
_wide_paths = st.none() | NAMES | st.lists(NAMES, max_size=4)


def _op(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), **fields})


ops = st.lists(
    st.one_of(
        _op("set", path=NAMES, value=values),
        _op("remove", path=NAMES),
        _op("increment", path=NAMES, by=by),
        _op("decrement", path=NAMES, by=by),
        _op("append", path=_wide_paths, value=values),
        _op("merge", path=_wide_paths, value=st.dictionaries(NAMES, values, max_size=3) | scalars),
    ),
    max_size=5,
)


def spelled(value: Any, seed: int) -> bytes:
    """The value as JSON in one of its many spellings: white space, escapes, fields given twice."""
    return _Speller(random.Random(seed)).write(value).encode()


class _Speller:
    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def write(self, value: Any) -> str:
        if isinstance(value, dict):
            rows = [(self.write(name), self.write(inner)) for name, inner in value.items()]
            if rows and self._dice.random() < 0.3:
                rows.insert(0, (rows[-1][0], '"an earlier one"'))
            return "{" + ",".join(f"{self._gap()}{name}{self._gap()}:{inner}" for name, inner in rows) + "}"
        if isinstance(value, list):
            return "[" + ",".join(self._gap() + self.write(inner) + self._gap() for inner in value) + "]"
        return json.dumps(value, ensure_ascii=self._dice.random() < 0.5)

    def _gap(self) -> str:
        return self._dice.choice(["", "", " ", "\n\t"])
