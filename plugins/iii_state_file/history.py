"""History: the versions of keys, noted where a change is made and written with it."""

from __future__ import annotations

from collections.abc import Callable

from iii_skill.adapter import HistorySettings
from iii_skill.values import PRIVATE_SCOPES
from iii_state_file.batches import Batches
from iii_state_file.key_cache import CachedKey
from iii_state_file.packs import LARGE
from iii_state_file.trimming import Bounds


class History:
    """Notes versions in the batch that takes writes, and has those dropped that are too many or too old."""

    def __init__(self, settings: HistorySettings, now_ms: Callable[[], int], batches: Batches) -> None:
        self._settings = settings
        self._now_ms = now_ms
        self._batches = batches
        batches.versions = []

    def note(self, cached: CachedKey, revision: int) -> None:
        """The key gets another version, of this revision; what it holds now is the one before it."""
        if cached.scope.startswith(PRIVATE_SCOPES):
            return
        batches = self._batches
        pending, old = cached.pending, cached.value
        if pending:
            # Replaced in the tick that made it: no row of the key will hold it.
            versions = batches.versions
            assert versions is not None
            place = (cached.version, cached.position, pending, cached.start)
            versions += (*place, None, old, cached.before)
            cached.version = pending
        cached.pending = revision
        cached.before = old if old is not None and len(old) >= LARGE else None
        if not batches.noted_ms:
            batches.noted_ms = self._now_ms()

    @property
    def bounds(self) -> Bounds:
        """What is shown now."""
        return Bounds(self._settings.keep, self._now_ms() - self._settings.days_ms)

    def trim(self) -> None:
        """Have the writer drop what is not shown any more, some of it in each call."""
        self._batches.trim = self.bounds
        self._batches.hand_over()
