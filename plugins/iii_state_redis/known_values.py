"""KnownValues: the last bytes this host wrote or checked of some keys.

Never served to a reader. It is what a change is computed on before Redis confirms that it still is the
current value, and it spares the check of bytes that have been checked already.
"""

from __future__ import annotations

MAX_BYTES = 32 * 1024 * 1024
MAX_VALUE = 256 * 1024
OVERHEAD = 300

Key = tuple[str, str]


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
        if self._bytes > MAX_BYTES or len(value) > MAX_VALUE:
            self._shrink(key)

    def forget(self, key: Key) -> None:
        """Drop it."""
        old = self._values.pop(key, None)
        if old is not None:
            self._bytes -= len(old) + OVERHEAD

    def _shrink(self, newest: Key) -> None:
        if len(self._values[newest]) > MAX_VALUE:
            self.forget(newest)
        while self._bytes > MAX_BYTES:
            self.forget(next(iter(self._values)))
