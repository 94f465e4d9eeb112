"""KnownValues: the last bytes this host wrote or checked of some keys.

Never served to a reader. It is what a change is computed on before the store confirms that it still is the
current value, and it spares the check of bytes that have been checked already.
"""

from __future__ import annotations

import orjson

from iii_skill.errors import AdapterError

MAX_BYTES = 32 * 1024 * 1024
MAX_VALUE = 256 * 1024
MAX_NAMES = 1_000
"""Characters of scope and key together; a key with longer ones is not remembered."""
OVERHEAD = 300

NULL = b"null"
"""What whoever replaces a broken value is told that it was."""

Key = tuple[str, str]
"""Scope and key."""


def is_json(value: bytes) -> bool:
    """True when the bytes are one JSON document that every SDK can read."""
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True


def broken_value(key: Key) -> AdapterError:
    """The error of a key whose bytes another program broke."""
    return AdapterError(
        f"The value of key {key[1]!r} in scope {key[0]!r} is no JSON; another program wrote it. "
        "Set or delete the key to repair it."
    )


class KnownValues:
    """A dictionary of bounded size; the entry written longest ago leaves first."""

    def __init__(self) -> None:
        self._values: dict[Key, bytes] = {}
        self._bytes = 0
        self.get = self._values.get

    def put(self, key: Key, value: bytes) -> None:
        """Remember it; large values are not remembered."""
        values = self._values
        old = values.get(key)
        if old is not None:
            self._bytes += len(value) - len(old)
        else:
            self._bytes += len(value) + OVERHEAD
        values[key] = value
        if self._bytes > MAX_BYTES or len(value) > MAX_VALUE or len(key[0]) + len(key[1]) > MAX_NAMES:
            self._shrink(key)

    def forget(self, key: Key) -> None:
        old = self._values.pop(key, None)
        if old is not None:
            self._bytes -= len(old) + OVERHEAD

    def _shrink(self, newest: Key) -> None:
        if len(self._values[newest]) > MAX_VALUE or len(newest[0]) + len(newest[1]) > MAX_NAMES:
            self.forget(newest)
        while self._bytes > MAX_BYTES:
            self.forget(next(iter(self._values)))

    def checked(self, key: Key, value: bytes) -> bool:
        """True when the bytes are JSON; the same bytes as last time are not checked again."""
        if self.get(key) == value:
            return True
        if not is_json(value):
            return False
        self.put(key, value)
        return True
