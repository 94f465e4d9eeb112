"""FileWatch: notices that the files of an open store are gone, replaced or cut, whoever did it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from iii_state_file.directory import DATABASE, LOCK, LOG, DataDirectory
from iii_state_file.failures import StoreBroken

_EVERY_SECONDS = 0.25
_ADVICE = "put the files back as they were"


class FileWatch:
    """A thread that compares, four times a second, what stands under the names with what was opened.

    A file that was removed or moved away goes on taking writes through its open handle: all of them would be
    acknowledged, and none found again.
    """

    def __init__(
        self, directory: DataDirectory, *, page_size: int, failed: Callable[[BaseException], None]
    ) -> None:
        path = directory.path
        self._names = {path: "the directory", **{path / name: name for name in (DATABASE, LOG, LOCK)}}
        self._database, self._log = path / DATABASE, path / LOG
        self._notes = directory.notes
        self._page_size = page_size
        self._seen = {place: os.lstat(place) for place in self._names}
        self._failed = failed
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="iii-state-file watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(_EVERY_SECONDS):
            change = self._change()
            if change is not None:
                self._failed(StoreBroken(change, _ADVICE))
                return

    def _change(self) -> str | None:
        # Asked before the size is: the log may grow in between.
        least = self._notes.log_bytes(self._page_size)
        for place, name in self._names.items():
            try:
                found = os.lstat(place)
            except FileNotFoundError:
                return f"{name} was removed or moved away while it was in use"
            except OSError:
                continue  # Not an answer; a write will tell.
            seen = self._seen[place]
            if (found.st_dev, found.st_ino) != (seen.st_dev, seen.st_ino):
                return f"{name} was replaced while it was in use"
            # Neither of the two ever shrinks while a store is open.
            cut = place == self._database and found.st_size < seen.st_size
            if cut or (place == self._log and found.st_size < least):
                return f"{name} was cut short while it was in use"
            self._seen[place] = found
        return None
