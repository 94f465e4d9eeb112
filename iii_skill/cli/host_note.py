"""HostNote: where the host of a directory listens, written down for the commands that look for it."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

HOST_FILE = Path(".iii", "host.json")


class HostNote:
    """`.iii/host.json` in the working directory while the host runs, where there is a `.iii` already."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._file = Path.cwd() / HOST_FILE

    def write(self) -> None:
        """Write it; a directory that takes no file is left alone."""
        half = self._file.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            if self._file.parent.is_dir():
                half.write_text(json.dumps({"ws": self._url, "pid": os.getpid()}))
                os.replace(half, self._file)

    def remove(self) -> None:
        """Take it away, unless another host has written its own."""
        with contextlib.suppress(OSError, ValueError):
            if json.loads(self._file.read_text())["pid"] == os.getpid():
                self._file.unlink()


def running_here() -> str | None:
    """The URL of the host that runs in this directory or one above it."""
    for directory in (Path.cwd(), *Path.cwd().parents):
        try:
            found = json.loads((directory / HOST_FILE).read_text("utf-8"))
            os.kill(int(found["pid"]), 0)
            return str(found["ws"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
