"""FaultyDisk: the disk as SQLite sees it, recorded write by write, so that a test can forget or refuse some.

It patches the open and delete functions of SQLite's own file layer in this process. What reached the disk for
sure is what was flushed; `image` writes the files as a loss of power at some moment could have left them.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512
OK, FULL, WRITE_ERROR, SYNC_ERROR = 0, 13, 10 | (3 << 8), 10 | (4 << 8)

# The path is a pointer, not a copy: SQLite's file keeps it for the name of its shared memory.
_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_void_p,
)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
        ("delete", ctypes.c_void_p),
    )


class _Methods(ctypes.Structure):
    _fields_ = (
        ("version", ctypes.c_int),
        ("close", ctypes.c_void_p),
        ("read", ctypes.c_void_p),
        ("write", ctypes.c_void_p),
        ("truncate", ctypes.c_void_p),
        ("sync", ctypes.c_void_p),
        ("others", ctypes.c_void_p * 13),
    )


@dataclass(frozen=True)
class Event:
    """What happened: a write, truncate, sync or delete of a file, a sync of the directory, or a mark."""

    kind: str
    file: str = ""
    offset: int = 0
    data: bytes = b""
    mark: Any = None


@dataclass
class FaultyDisk:
    """The record of every change below one directory, and the fault to answer with."""

    directory: Path
    events: list[Event] = field(default_factory=list)
    faults: dict[tuple[str, int], int] = field(default_factory=dict)
    """(kind, how many of that kind came before) to the SQLite code of the failure."""
    counts: dict[str, int] = field(default_factory=dict)
    locks: list[tuple[int, str, bytes]] = field(default_factory=list)
    """The lock file, which SQLite does not write: events before, `seen` or `flushed`, and its content."""

    def mark(self, mark: Any) -> None:
        """Put something of the test into the record."""
        self.events.append(Event("mark", mark=mark))

    def add(self, event: Event) -> int:
        """Record an operation, or refuse it with the fault that waits for it."""
        count = self.counts.get(event.kind, 0)
        self.counts[event.kind] = count + 1
        self.note_lock("seen")
        fault = self.faults.get((event.kind, count), OK)
        self.events.append(event if fault == OK else Event("fault", event.file))
        return fault

    def note_lock(self, how: str) -> None:
        """Remember what the lock file holds now."""
        lock = self.directory / "lock"
        if lock.exists():
            self.locks.append((len(self.events), how, lock.read_bytes()))

    def marks(self, end: int) -> list[Any]:
        """The marks among the first `end` events."""
        return [event.mark for event in self.events[:end] if event.kind == "mark"]

    def image(self, directory: Path, end: int, *, kept: float, seed: int = 0) -> None:
        """Write the files after the first `end` events; of what was not flushed keep about the share `kept`.

        A write that is kept may be torn between sectors.
        """
        chance = random.Random(seed)
        flushed: dict[str, bytearray] = {}
        pending: dict[str, list[Event]] = {}
        # Deleted, but a loss of power before the next sync of the directory may bring it back.
        ghosts: dict[str, bytearray] = {}
        for event in self.events[:end]:
            if event.kind == "sync":
                content = flushed.setdefault(event.file, bytearray())
                for change in pending.pop(event.file, []):
                    _apply(content, change)
            elif event.kind in ("write", "truncate"):
                pending.setdefault(event.file, []).append(event)
            elif event.kind == "delete":
                ghosts[event.file] = flushed.pop(event.file, bytearray())
                pending.pop(event.file, None)
            elif event.kind == "sync-directory":
                ghosts.clear()
        for file, changes in pending.items():
            for change in changes:
                for part in _sectors(change):
                    if kept == 1 or chance.random() < kept:
                        _apply(flushed.setdefault(file, bytearray()), part)
        for file, content in ghosts.items():
            if file not in flushed and kept < 1 and chance.random() >= kept:
                flushed[file] = content
        directory.mkdir()
        for file, content in flushed.items():
            (directory / file).write_bytes(content)
        # The kernel writes it some time, as a whole: it is small.
        locks = [lock for before, how, lock in self.locks if before <= end and (kept or how == "flushed")]
        if locks:
            (directory / "lock").write_bytes(locks[-1])


def _sectors(event: Event) -> Iterator[Event]:
    """The parts of a write that reach the disk each as a whole or not at all."""
    if event.kind != "write":
        yield event
        return
    start = 0
    while start < len(event.data):
        end = start + SECTOR - (event.offset + start) % SECTOR
        yield Event("write", event.file, event.offset + start, event.data[start:end])
        start = end


def _apply(content: bytearray, event: Event) -> None:
    if event.kind == "truncate":
        del content[event.offset :]
        return
    end = event.offset + len(event.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[event.offset : end] = event.data


@contextmanager
def faulty_disk(directory: Path) -> Iterator[FaultyDisk]:
    """Record what SQLite does to the files below `directory` from now on."""
    disk = FaultyDisk(directory)
    library = _library()
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    vfs = library.sqlite3_vfs_find(None).contents
    real_open, real_delete = vfs.open, vfs.delete
    call_open, call_delete = _OPEN(real_open), _DELETE(real_delete)
    alive: list[Any] = []

    def name_of(path: bytes | None) -> str | None:
        file = Path((path or b"").decode(errors="replace"))
        name = file.name
        return name if file.parent == disk.directory and not name.endswith("-shm") else None

    def opened(vfs_at: int, path: int | None, file: int, flags: int, out: int | None) -> int:
        code = call_open(vfs_at, path, file, flags, out)
        name = name_of(ctypes.string_at(path) if path else None)
        if code != OK or name is None:
            return int(code)
        at = ctypes.cast(file, ctypes.POINTER(ctypes.c_void_p))
        methods = _Methods.from_buffer_copy(ctypes.string_at(at[0], ctypes.sizeof(_Methods)))
        real_write, real_truncate = _WRITE(methods.write), _TRUNCATE(methods.truncate)
        real_sync = _SYNC(methods.sync)

        def write(this: int, data: int, length: int, offset: int) -> int:
            fault = disk.add(Event("write", name, offset, ctypes.string_at(data, length)))
            return fault or int(real_write(this, data, length, offset))

        def truncate(this: int, size: int) -> int:
            return disk.add(Event("truncate", name, size)) or int(real_truncate(this, size))

        def sync(this: int, flags: int) -> int:
            # Flush first: it is recorded when it is done, and nobody is answered before that.
            code = int(real_sync(this, flags))
            return disk.add(Event("sync", name)) or code

        hooks = (_WRITE(write), _TRUNCATE(truncate), _SYNC(sync))
        alive.extend((methods, hooks))
        methods.write, methods.truncate, methods.sync = (ctypes.cast(h, ctypes.c_void_p).value for h in hooks)
        at[0] = ctypes.addressof(methods)
        return OK

    def deleted(vfs_at: int, path: bytes, sync_directory: int) -> int:
        name = name_of(path)
        code = int(call_delete(vfs_at, path, sync_directory))
        if name is not None and code == OK:
            disk.add(Event("delete", name))
            if sync_directory:
                disk.add(Event("sync-directory"))
        return code

    def flushed(handle: int) -> None:
        real_fsync(handle)
        name = os.readlink(f"/proc/self/fd/{handle}")
        if name == str(disk.directory):
            disk.add(Event("sync-directory"))
        elif name == str(disk.directory / "lock"):
            disk.note_lock("flushed")

    real_fsync = os.fsync
    hooks = _OPEN(opened), _DELETE(deleted)
    vfs.open, vfs.delete = (ctypes.cast(hook, ctypes.c_void_p).value for hook in hooks)
    os.fsync = flushed
    try:
        yield disk
    finally:
        os.fsync = real_fsync
        vfs.open, vfs.delete = real_open, real_delete


def _library() -> ctypes.CDLL:
    """The SQLite that the module `sqlite3` of this process uses."""
    sqlite3.connect(":memory:").close()
    mapped = re.findall(r"(/\S*(?:sqlite3|libpython|bin/python)\S*)", Path("/proc/self/maps").read_text())
    for path in sorted(set(mapped), key=lambda path: "libsqlite3" not in path):
        library = ctypes.CDLL(path)
        if hasattr(library, "sqlite3_vfs_find"):
            library.sqlite3_libversion.restype = ctypes.c_char_p
            assert library.sqlite3_libversion().decode() == sqlite3.sqlite_version
            return library
    raise AssertionError(
        "This Python hides its SQLite: run the tests with one that links libsqlite3 (Debian, pyenv)."
    )
