"""ScopeKeys: the keys of the scopes that pages look at, read again when they are old."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

import msgspec

from iii_skill.console.key_tree import KeyTree, TreeRows
from iii_skill.console.source import ConsoleSource, encode

LIST_KEYS = "state::list_keys"
READ_S = 60.0
"""Seconds that reading all keys of a scope may take."""

FRESH_S = 5.0
"""Seconds that keys are shown without being read again, and more where reading them takes long."""

TIMES_READING = 20
"""Keys are kept for so many times what reading them took: looking costs a host 5 % at most."""

MOST_TREES = 4
MOST_COUNTS = 10_000
MOST_OPENED = 500
AT_ONCE = 2_000
"""So many keys are sorted and walked in a turn of the loop; more take a thread."""


class _Answer(msgspec.Struct, frozen=True):
    keys: list[str]


_decode = msgspec.json.Decoder(_Answer).decode


class Cached:
    """The keys of one scope as they were at a moment."""

    def __init__(self, tree: KeyTree, took_s: float) -> None:
        self.tree = tree
        self.took_s = took_s
        self.made = time.monotonic()
        self.number = time.monotonic_ns()
        """Tells one reading from another."""
        self._rows: tuple[object, TreeRows] | None = None

    @property
    def old(self) -> bool:
        """True when it should be read again."""
        return time.monotonic() - self.made > max(FRESH_S, TIMES_READING * self.took_s)

    async def rows(self, opened: frozenset[str], text: str) -> TreeRows:
        """The rows of the tree with these branches open, or of the keys that hold the text."""
        wanted = (opened, text)
        if self._rows is not None and self._rows[0] == wanted:
            return self._rows[1]
        tree = self.tree
        many = len(tree.keys) > AT_ONCE
        if text:
            found = await asyncio.to_thread(tree.matching, text) if many else tree.matching(text)
        else:
            found = await asyncio.to_thread(tree.rows, opened) if many else tree.rows(opened)
        self._rows = (wanted, found)
        return found


class ScopeKeys:
    """A few scopes at a time; two pages that ask the same get one reading."""

    def __init__(self, source: ConsoleSource) -> None:
        self._source = source
        self._cached: OrderedDict[str, Cached] = OrderedDict()
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._reading: dict[str, asyncio.Task[Cached]] = {}

    async def get(self, scope: str, *, fresh: bool = False) -> Cached:
        """The keys of a scope; `fresh`: read now."""
        found = self._cached.get(scope)
        if found is not None and not fresh and not found.old:
            self._cached.move_to_end(scope)
            return found
        task = self._reading.get(scope)
        if task is None:
            task = self._reading[scope] = asyncio.ensure_future(self._read(scope))
            task.add_done_callback(lambda _task: self._reading.pop(scope, None))
        elif fresh:
            # It may have begun before what the page wants to see.
            await asyncio.wait((task,))
            return await self.get(scope, fresh=True)
        return await asyncio.shield(task)

    async def count(self, scope: str) -> int:
        """How many keys a scope has, or had a moment ago."""
        found = self._cached.get(scope)
        if found is not None and not found.old:
            return len(found.tree.keys)
        told = self._counts.get(scope)
        now = time.monotonic()
        if told is None or told[0] < now:
            start = now
            answer = await self._source.call(LIST_KEYS, encode(scope=scope), timeout=READ_S)
            number = len(_decode(answer or b'{"keys":[]}').keys)
            now = time.monotonic()
            told = self._counts[scope] = (now + max(FRESH_S, TIMES_READING * (now - start)), number)
            while len(self._counts) > MOST_COUNTS:
                self._counts.popitem(last=False)
        return told[1]

    def close(self) -> None:
        """Nobody waits any more."""
        for task in self._reading.values():
            task.cancel()

    async def _read(self, scope: str) -> Cached:
        start = time.monotonic()
        answer = await self._source.call(LIST_KEYS, encode(scope=scope), timeout=READ_S)
        keys = _decode(answer or b'{"keys":[]}').keys
        tree = await asyncio.to_thread(KeyTree, keys) if len(keys) > AT_ONCE else KeyTree(keys)
        found = self._cached[scope] = Cached(tree, time.monotonic() - start)
        self._counts.pop(scope, None)
        self._cached.move_to_end(scope)
        while len(self._cached) > MOST_TREES:
            self._cached.popitem(last=False)
        return found
