"""Target: the address at which the host or engine is looked for, and who said so."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from iii_skill.doctor.listeners import is_alive

HOST_FILE = Path(".iii") / "host.json"
"""What a running host says of itself, looked for from the working directory upwards."""
_MAX_BYTES = 65_536
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


class EngineAddress(msgspec.Struct, frozen=True):
    """A URL and where it comes from; `asked`: somebody said that it must be there."""

    url: str
    source: str
    asked: bool

    @property
    def host(self) -> str:
        """The host of the URL, empty when there is none."""
        return _parts(self.url)[0]

    @property
    def port(self) -> int | None:
        """The port of the URL, None when it cannot be read."""
        return _parts(self.url)[1]

    @property
    def fault(self) -> str | None:
        """Why this is no address of a worker port, or None."""
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            return str(error)
        if parts.scheme not in ("ws", "wss"):
            return f"its scheme is '{parts.scheme}', and workers connect over ws:// or wss://"
        if not parts.hostname:
            return "it names no host"
        if any(letter.isspace() for letter in self.url):
            return "it holds blanks"
        return "port 0 is no port" if port == 0 else None


def choose(
    given: str | None, env: Mapping[str, str], running: HostFile | None, *, address: str, port: int
) -> EngineAddress:
    """The option, III_URL, a running host's file, else the configured worker port."""
    if given is not None:
        return EngineAddress(given, "--url", asked=True)
    if env.get("III_URL"):
        return EngineAddress(env["III_URL"], "III_URL", asked=True)
    if running is not None and running.ws and running.alive:
        return EngineAddress(running.ws, str(running.path), asked=True)
    host = _WILDCARDS.get(address, f"[{address}]" if ":" in address else address)
    return EngineAddress(f"ws://{host}:{port}", "the configuration", asked=False)


class HostFile(msgspec.Struct, frozen=True):
    """`.iii/host.json`: where the host that wrote it listens, and its process."""

    path: Path
    ws: str | None
    pid: int | None

    @property
    def alive(self) -> bool:
        """True while its process is there."""
        return self.pid is not None and is_alive(self.pid)


def host_file(cwd: Path) -> HostFile | None:
    """The nearest one from the directory upwards; None when there is none that can be read."""
    for folder in (cwd, *cwd.parents):
        path = folder / HOST_FILE
        if not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                said: Any = json.loads(file.read(_MAX_BYTES))
        except (OSError, ValueError):
            return HostFile(path, None, None)
        said = said if isinstance(said, dict) else {}
        ws, pid = said.get("ws"), said.get("pid")
        return HostFile(
            path,
            ws if isinstance(ws, str) else None,
            pid if isinstance(pid, int) and pid > 0 else None,
        )
    return None


def remove_host_file(path: Path) -> str:
    """Take away the file that a host left behind."""
    os.unlink(path)
    return f"removed {path}"


def _parts(url: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
    except ValueError:
        return "", None
