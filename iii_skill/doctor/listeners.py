"""Who listens on a TCP port of this machine."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

_PROC = Path("/proc")
_LISTENING = "0A"
_LSOF_SECONDS = 3.0


class Holder(msgspec.Struct, frozen=True):
    """A process that listens; `pid` None: it belongs to somebody else, so the system does not tell."""

    pid: int | None
    command: str = ""

    def __str__(self) -> str:
        if self.pid is None:
            return "a process of another user"
        return f"process {self.pid} ({self.command})" if self.command else f"process {self.pid}"


def holder(port: int) -> Holder | None:
    """The process that listens on the port, if any does."""
    if not (_PROC / "net" / "tcp").exists():
        return _asked_of_lsof(port)
    inodes = {inode for found, inode in _listening() if found == port}
    if not inodes:
        return None
    for pid, inode in _sockets():
        if inode in inodes:
            return Holder(pid, command_of(pid))
    return Holder(None)


def ports_of(pid: int) -> list[int]:
    """The ports on which the process listens."""
    own = {inode for found, inode in _sockets(pid) if found == pid}
    return sorted({port for port, inode in _listening() if inode in own})


def command_of(pid: int) -> str:
    """The command line of a process, shortened; empty when it is gone."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    shown = [os.path.basename(word.decode("utf-8", "replace")) for word in words[:4] if word]
    return " ".join(shown)[:80]


def is_alive(pid: int) -> bool:
    """True when there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def bind_error(address: str, port: int) -> OSError | None:
    """Why a server cannot listen there; None: it can."""
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return error
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
                probe.listen(1)
        except OSError as error:
            return error
    return None


def is_taken(error: OSError) -> bool:
    """True when another process listens there."""
    return error.errno == errno.EADDRINUSE


def _listening() -> Iterator[tuple[int, str]]:
    """Port and inode of every listening socket."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENING:
                yield int(fields[1].rpartition(":")[2], 16), fields[9]


def _sockets(of: int | None = None) -> Iterator[tuple[int, str]]:
    """Process and inode of every open socket that this user may see."""
    pids = [str(of)] if of is not None else [entry for entry in os.listdir(_PROC) if entry.isdigit()]
    for pid in pids:
        folder = _PROC / pid / "fd"
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            try:
                link = os.readlink(folder / name)
            except OSError:
                continue  # closed meanwhile
            if link.startswith("socket:["):
                yield int(pid), link[8:-1]


def _asked_of_lsof(port: int) -> Holder | None:
    program = shutil.which("lsof")
    error = bind_error("127.0.0.1", port)
    if error is None or not is_taken(error):
        return None
    if program is None:
        return Holder(None)
    try:
        done = subprocess.run(
            [program, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"],
            capture_output=True,
            text=True,
            timeout=_LSOF_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Holder(None)
    fields = {line[:1]: line[1:] for line in done.stdout.splitlines()}
    return Holder(int(fields["p"]), fields.get("c", "")) if fields.get("p", "").isdigit() else Holder(None)
