"""Directory: the data directory of the adapter `file`, from its owner to the last row in it."""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import os
import pwd
import re
import stat
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from iii_skill.doctor.listeners import ports_of
from iii_skill.doctor.outcome import (
    Outcome,
    Outcomes,
    SetupCheck,
    fail,
    ok,
    page,
    skipped,
    split_remedy,
    unknown,
    warn,
)
from iii_skill.doctor.patience import in_time
from iii_skill.doctor.setup import Setup

FILES = ("lock", "state.db", "state.db-wal", "state.db-shm", "state.db-journal")
NO_SPACE = 16 * 1024 * 1024
LITTLE_SPACE = 200 * 1024 * 1024
LARGE = 256 * 1024 * 1024
"""Bytes from which on a store is not read row by row here."""
FLUSHES = 8
SLOW_FLUSH_S = 0.05
LONG_LOG = 1024 * 1024 * 1024
_OWNER = re.compile(r"process (\d+)")
_MEMORY = ("tmpfs", "ramfs")
_ELSEWHERE = "choose another directory: --data-dir DIR"


def place(setup: Setup) -> Outcome:
    """Whether the directory is one, or can be made."""
    path = setup.data_dir
    if path is None:
        return skipped("another adapter")
    if path.is_symlink():
        return fail(
            f"The data directory {path} is a symbolic link to {os.path.realpath(path)}.",
            "Name the real directory: --data-dir " + os.path.realpath(path),
        )
    if not os.path.lexists(path):
        above = next((step for step in path.parents if os.path.lexists(step)), Path("/"))
        if not above.is_dir():
            return fail(f"{path} cannot be made: {above} is no directory.", f"Move it away, or {_ELSEWHERE}")
        if os.statvfs(above).f_flag & os.ST_RDONLY:
            return fail(f"{path} cannot be made: the file system is read-only.", _capital(_ELSEWHERE))
        if not os.access(above, os.W_OK | os.X_OK):
            return fail(
                f"{path} cannot be made: this user may not write in {above}.",
                f"Change its owner, or {_ELSEWHERE}",
            )
        return ok(f"{path} will be made")
    if not path.is_dir():
        return fail(f"The data directory {path} is a file.", f"Move it away, or {_ELSEWHERE}")
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return fail(f"The data directory {path} is on a read-only file system.", _capital(_ELSEWHERE))
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return fail(
            f"The data directory {path} may not be used by this user.",
            f"sudo chown -R {_user(os.geteuid())} {path}",
        )
    return ok(str(path))


def files(setup: Setup) -> Outcomes:
    """Whether the files in it are files of this user, and belong together."""
    path = _existing(setup)
    if path is None:
        return skipped("no directory yet")
    found = list(_file_faults(path))
    database, log = path / "state.db", path / "state.db-wal"
    if not found and not _size(database) and _size(log):
        found.append(
            fail(
                f"The log {log} is there without its database state.db.",
                "Put that back beside it, or move the log away to start with an empty store.",
            )
        )
    return found or ok("files of this user" if database.exists() else "empty")


def _file_faults(path: Path) -> Iterator[Outcome]:
    for name in FILES:
        try:
            found = os.lstat(path / name)
        except OSError:
            continue
        if not stat.S_ISREG(found.st_mode):
            yield fail(f"{path / name} is no regular file.", "Move it away, and put the file itself there.")
        elif found.st_uid != os.geteuid():
            yield fail(
                f"{path / name} belongs to {_user(found.st_uid)}, and this is {_user(os.geteuid())}.",
                f"sudo chown -R {_user(os.geteuid())} {path}, or run the host as {_user(found.st_uid)}",
            )


def space(setup: Setup) -> Outcome:
    """Whether the disk has room."""
    path = _nearest(setup)
    if path is None:
        return skipped("another adapter")
    room = os.statvfs(path)
    free = room.f_bavail * room.f_frsize
    said = f"The disk of {path} has {free // 1024:,} KiB left."
    if free < NO_SPACE:
        return fail(said, f"Free some space, or {_ELSEWHERE}")
    if room.f_files and room.f_favail == 0:
        return fail(f"The disk of {path} can hold no more files (inodes).", f"Remove some, or {_ELSEWHERE}")
    return warn(said, f"Free some space, or {_ELSEWHERE}") if free < LITTLE_SPACE else ok(said)


def file_system(setup: Setup) -> Outcome:
    """Whether the file system keeps what it is told to keep."""
    path = _nearest(setup)
    if path is None:
        return skipped("another adapter")
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
        network = importlib.import_module("iii_state_file.mounts").network_filesystem
    except (OSError, ImportError, AttributeError):
        return skipped("this system does not tell")
    real = Path(os.path.realpath(path))
    kind = network(real, mounts)
    if kind is not None and not getattr(setup.adapter_settings, "allow_network_fs", False):
        return fail(
            f"{path} is on a network file system ({kind}), where locks and flushes may not hold.",
            f"{_capital(_ELSEWHERE)}, or set allow_network_fs: true",
        )
    if kind_of(real, mounts) in _MEMORY:
        return warn(
            f"{path} is in memory ({kind_of(real, mounts)}): everything is gone when the machine stops.",
            _capital(_ELSEWHERE),
        )
    return ok(kind_of(real, mounts) or "local")


def kind_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds the path, from the text of mountinfo."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if separator and len(fields) > 4:
            point = Path(fields[4].encode().decode("unicode_escape"))
            if len(point.parts) >= best and path.is_relative_to(point):
                best, kind = len(point.parts), after.split(" ", 1)[0]
    return kind


def lock(setup: Setup) -> Outcome:
    """Whether another process has it open, and whether that is the host that answers."""
    path = _existing(setup)
    if path is None or not (path / "lock").exists():
        return skipped("never opened")
    owner = _lock_owner(path)
    if owner is None:
        return ok("free")
    if setup.reached is not None:
        return ok(f"in use by {owner}")
    number = _OWNER.match(owner)
    ports = ports_of(int(number[1])) if number is not None else []
    if _port_here(setup.target.url) in ports:
        return ok(f"in use by {owner}, which is what listens at {setup.target.url}")
    if ports:
        return fail(
            f"The data directory {path} is in use by {owner}, which listens on {_ports(ports)} "
            f"and not at {setup.target.url}.",
            f"Look there: --url ws://127.0.0.1:{ports[0] if len(ports) == 1 else 'PORT'}; or end it.",
        )
    return fail(
        f"The data directory {path} is in use by {owner}, so no host can open it.",
        f"End that process, or {_ELSEWHERE}",
    )


def _port_here(url: str) -> int | None:
    """The port of an address of this machine."""
    try:
        place = urlsplit(url)
        return place.port if place.hostname in ("localhost", "127.0.0.1", "::1") else None
    except ValueError:
        return None


def _ports(ports: list[int]) -> str:
    return "port " + str(ports[0]) if len(ports) == 1 else "ports " + ", ".join(map(str, ports))


def _lock_owner(path: Path) -> str | None:
    """What the lock file says of who holds it; None: nobody does."""
    try:
        handle = os.open(path / "lock", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        try:
            # Shared and given back at once: it keeps nobody out who starts a moment later.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            line = os.pread(handle, 300, 0).decode(errors="replace").partition("\n")[0].strip(" \0")
            return line or "another process"
        return None
    finally:
        os.close(handle)


async def integrity(setup: Setup) -> Outcome:
    """Whether every row is what was written: the adapter's own check, in a process of its own."""
    path = _existing(setup)
    if path is None or not (path / "state.db").exists():
        return skipped("no store yet")
    by_hand = f"{os.path.basename(sys.executable)} -m iii_state_file check {path}"
    size = _size(path / "state.db") + _size(path / "state.db-wal")
    if size > LARGE:
        return skipped(f"{size // 2**20} MiB are not read here: {by_hand}")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "iii_state_file",
        "check",
        str(path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await in_time(process.communicate(), setup.asked.seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        return skipped(f"not read to its end within {setup.asked.seconds:g} s (--timeout): {by_hand}")
    said = (errors or output).decode("utf-8", "replace").strip().removeprefix("Error: ")
    if process.returncode == 0:
        return ok(output.decode("utf-8", "replace").strip())
    if process.returncode == 1 and said:
        found, fix = split_remedy(said.splitlines()[-1], "Restore a copy")
        return fail(found, f"{fix.rstrip('.')} (references/operations.md#back-up-and-restore).")
    return unknown(f"The check of the store ended with {process.returncode}: {said[-200:]}", by_hand)


def flush(setup: Setup) -> Outcome:
    """How long the disk takes to keep a write: every acknowledged write waits for one flush."""
    path = _existing(setup)
    if path is None:
        return skipped("no directory yet")
    seconds: list[float] = []
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            for _ in range(FLUSHES):
                file.write(b"\0" * 4096)
                file.flush()
                begin = time.perf_counter()
                os.fdatasync(file.fileno()) if hasattr(os, "fdatasync") else os.fsync(file.fileno())
                seconds.append(time.perf_counter() - begin)
    except OSError as error:
        return fail(
            f"A file in {path} cannot be flushed: {error.strerror or error}.",
            f"Repair the disk, or {_ELSEWHERE}",
        )
    middle = statistics.median(seconds)
    said = f"A flush takes {middle * 1000:.2f} ms (at most {max(seconds) * 1000:.2f} ms)"
    if middle > SLOW_FLUSH_S:
        return warn(f"{said}, and every write waits for one.", f"Use a quicker disk: {_ELSEWHERE}")
    return ok(said)


def log(setup: Setup) -> Outcome:
    """Whether the log has grown beyond what the host usually writes back."""
    path = _existing(setup)
    if path is None or not (path / "state.db-wal").exists():
        return skipped("no log")
    size = _size(path / "state.db-wal")
    if size > LONG_LOG:
        return warn(
            f"The log {path / 'state.db-wal'} has {size // 2**20} MiB: another program reads the store "
            "and keeps it from being written back.",
            "End the program that reads state.db, and start the host again.",
        )
    return ok(f"{size // 1024} KiB")


def _nearest(setup: Setup) -> Path | None:
    """The directory, or the one above in which it will be made."""
    path = setup.data_dir
    if path is None:
        return None
    return next(step for step in (path, *path.parents) if step.is_dir())


def _existing(setup: Setup) -> Path | None:
    path = setup.data_dir
    return path if path is not None and path.is_dir() else None


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_PAGE = page("data-directory")
_AFTER = ("python.packages", "config.file", "config.variable", "plugins.adapter", "config.adapter")
_USABLE = (*_AFTER, "directory.place", "directory.files")
CHECKS = (
    SetupCheck("directory.place", "Data directory", place, _PAGE, after=_AFTER),
    SetupCheck("directory.files", "Files of the store", files, _PAGE, after=(*_AFTER, "directory.place")),
    SetupCheck("directory.space", "Free space", space, _PAGE, after=(*_AFTER, "directory.place")),
    SetupCheck("directory.filesystem", "File system", file_system, _PAGE, after=(*_AFTER, "directory.place")),
    SetupCheck("directory.lock", "Lock", lock, _PAGE, after=_USABLE),
    SetupCheck(
        "directory.integrity",
        "Every row",
        integrity,
        _PAGE,
        after=(*_USABLE, "directory.space", "directory.lock"),
    ),
    SetupCheck("directory.flush", "Flush", flush, _PAGE, after=(*_USABLE, "directory.space")),
    SetupCheck("directory.log", "Log", log, _PAGE, after=_USABLE),
)
