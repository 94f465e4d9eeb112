"""KeyTree: the keys of a scope as a tree, cut at `:` and `/`, as rows of what is opened of it; pure.

A branch holds all keys that begin with its path, at least two; what would hold a single branch and nothing
else is one row with it. Rows are made for the whole tree that is open, in order, so that a page can show any
stretch of them.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import msgspec

_SEGMENT = re.compile(r"[^:/]*[:/]")


class Branch(msgspec.Struct, frozen=True, gc=False):
    """Keys that begin alike."""

    path: str
    """How they begin."""
    name: str
    """What of it is not in the branch above."""
    count: int
    opened: bool


class KeyRow(msgspec.Struct, frozen=True, tag_field="kind", tag="key"):
    """A key as a row; `name` is what of it is not in the branch above."""

    depth: int
    path: str
    name: str


class BranchRow(msgspec.Struct, frozen=True, tag_field="kind", tag="branch"):
    """A branch as a row."""

    depth: int
    path: str
    name: str
    count: int
    opened: bool


class TreeRows:
    """The rows of a tree as far as it is open."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        self._items: list[int | Branch] = []
        self._depths = array("H")
        self._above = array("L")
        """How many characters of a key stand in the branch above it."""

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: int | Branch, depth: int, above: int) -> None:
        self._items.append(item)
        self._depths.append(min(depth, 0xFFFF))
        self._above.append(above)

    def page(self, offset: int, limit: int, max_characters: int) -> list[KeyRow | BranchRow]:
        """Some of them; one at least if there is one, and no more after so many characters."""
        page: list[KeyRow | BranchRow] = []
        for at in range(offset, min(offset + limit, len(self._items))):
            item, depth = self._items[at], self._depths[at]
            if isinstance(item, Branch):
                page.append(BranchRow(depth, item.path, item.name, item.count, item.opened))
                max_characters -= len(item.path) + len(item.name)
            else:
                key = self._keys[item]
                page.append(KeyRow(depth, key, key[self._above[at] :]))
                max_characters -= 2 * len(key)
            if max_characters < 0:
                break
        return page


class KeyTree:
    """All keys of a scope, sorted."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = sorted(keys)

    def span(self, prefix: str) -> tuple[int, int]:
        """Where the keys with this prefix stand."""
        if not prefix:
            return 0, len(self.keys)
        start = bisect_left(self.keys, prefix)
        return start, self._after(prefix, start, len(self.keys))

    def after(self, key: str) -> int:
        """Where the keys after this one begin."""
        return bisect_right(self.keys, key)

    def rows(self, opened: frozenset[str]) -> TreeRows:
        """The rows with these branches open."""
        rows = TreeRows(self.keys)
        # What is still to be walked: a stretch of keys, what they have in common, and how deep they are.
        stack = [(0, len(self.keys), 0, 0)]
        while stack:
            start, end, above, depth = stack.pop()
            while start < end:
                branch = self._branch(start, end, above, opened)
                if branch is None:
                    rows.add(start, depth, above)
                    start += 1
                    continue
                rows.add(branch, depth, above)
                after = start + branch.count
                if branch.opened:
                    stack.append((after, end, above, depth))
                    stack.append((start, after, len(branch.path), depth + 1))
                    break
                start = after
        return rows

    def matching(self, text: str) -> TreeRows:
        """The keys that hold the text, whatever its case, without a tree."""
        wanted = text.casefold()
        rows = TreeRows(self.keys)
        for at, key in enumerate(self.keys):
            if wanted in key.casefold():
                rows.add(at, 0, 0)
        return rows

    def _branch(self, start: int, end: int, above: int, opened: frozenset[str]) -> Branch | None:
        """The branch that begins with a key; None when the key stands for itself."""
        key = self.keys[start]
        found = _SEGMENT.match(key, above)
        if found is None or start + 1 == end:
            return None
        path = key[: found.end()]
        if not self.keys[start + 1].startswith(path):
            return None
        after = self._after(path, start + 1, end)
        shared = _shared(key, self.keys[after - 1])
        longer = 1 + max(shared.rfind(":"), shared.rfind("/"))
        if longer > len(path):
            path = key[:longer]
        return Branch(path, path[above:], after - start, path in opened)

    def _after(self, path: str, low: int, high: int) -> int:
        """Where the keys end that begin with the path; all that do stand together."""
        while low < high:
            middle = (low + high) // 2
            if self.keys[middle].startswith(path):
                low = middle + 1
            else:
                high = middle
        return low


def _shared(one: str, other: str) -> str:
    """What both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if other.startswith(one[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return one[:low]
