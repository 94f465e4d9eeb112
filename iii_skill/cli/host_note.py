"""HostNote: where the host of a directory listens, written down for the commands that look for it."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

HOST_FILE = Path(".iii", "host.json")


class HostNote:
    """`.iii/host.json` in the working directory while the host runs, where there is a `.iii` already."""

    def __init__(self, url: str, data_dir: Path | None) -> None:
        """`data_dir` is where the store of the host lies, if it lies in a directory."""
        self._note = {"ws": url, "pid": os.getpid()}
        if data_dir is not None:
            self._note["data_dir"] = str(data_dir)
        self._file = Path.cwd() / HOST_FILE

    def write(self) -> None:
        """Write it; a directory that takes no file is left alone."""
        half = self._file.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            if self._file.parent.is_dir():
                half.write_text(json.dumps(self._note))
                os.replace(half, self._file)

    def remove(self) -> None:
        """Take it away, unless another host has written its own."""
        with contextlib.suppress(OSError, ValueError):
            if json.loads(self._file.read_text())["pid"] == os.getpid():
                self._file.unlink()


def running_here() -> str | None:
    """The URL of the host that runs in this directory or one above it."""
    note = _note_here()
    return None if note is None else str(note["ws"])


def data_dir_here() -> Path | None:
    """Where the store of that host lies; None when none runs, or its store lies in no directory."""
    note = _note_here()
    return None if note is None or "data_dir" not in note else Path(str(note["data_dir"]))


def _note_here() -> dict[str, Any] | None:
    for directory in (Path.cwd(), *Path.cwd().parents):
        try:
            found = json.loads((directory / HOST_FILE).read_text("utf-8"))
            os.kill(int(found["pid"]), 0)
            return {**found, "ws": found["ws"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
