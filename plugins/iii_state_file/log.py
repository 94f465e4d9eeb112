"""The write-ahead log: how far it was flushed for sure, and whether a crash cut its end or damage its middle.

SQLite reads the log up to the first frame whose checksum is wrong and forgets the rest without a word: that
is right for the end that a crash cut off, which nobody was told of, and wrong for everything else. So the
writer notes after each commit how many frames were flushed, in the lock file and without a flush of that: the
note outlives SIGKILL as it is, and after a loss of power it names too few frames, never too many.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from zlib import crc32

LINE_SIZE = 512
"""The lock file begins with a line that names the process, padded to this."""
NOTES_SIZE = 4096
_BEGUN = b"iii-state begun\n"
_ESTABLISHED = b"iii-state store\n"
# Two places in turn, each in a sector of its own: a note that was cut leaves the one before it.
_PLACES = (1024, 1536)
_NOTE = struct.Struct("<Q24s2qI")

# Both are SQLite's file formats (walformat.html). The log is big-endian.
_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682
_FORMAT = 3007000
# The shared index is in the order of the machine: frames, pages, checksum (2), salt (2) of the last commit.
_INDEX_END = slice(16, 40)
_INDEX = struct.Struct("=2I16s")


@dataclass(frozen=True)
class LogEnd:
    """How many frames of the log were committed, and which log it was: `salt` as its header has it."""

    frames: int
    salt: tuple[int, int]

    @classmethod
    def parse(cls, end: bytes) -> LogEnd:
        """From the bytes of the shared index."""
        frames, _, rest = _INDEX.unpack(end)
        # SQLite keeps the salt in the index as it stands in the log.
        return cls(frames, struct.unpack(">2I", rest[8:]))


class LogNotes:
    """The part of the lock file behind its first line: whether there is a store, and where its log ends."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        content = os.pread(handle, NOTES_SIZE, 0).ljust(NOTES_SIZE, b"\0")
        state = content[LINE_SIZE : LINE_SIZE + len(_ESTABLISHED)]
        self.established = state == _ESTABLISHED
        """True when a store was made in this directory; then its database is never empty."""
        self.begun = state in (_BEGUN, _ESTABLISHED)
        """False when nothing is known of a log: the lock file is a new one, or an old layout's."""
        notes = (_read_note(content, place) for place in _PLACES)
        self._count, end, position, revision = max(notes, key=lambda note: note[0])
        self.end = None if end is None else LogEnd.parse(end)
        """What the host before this one noted last."""
        self.last_row = (position, revision) if revision > 0 else None
        """Position and revision of a row that was written with it; None where only rows were deleted."""
        self._last = bytes(24)

    def start(self, *, established: bool) -> None:
        """Forget what was noted, flushed: a store is about to be made, or there is one whose log is empty."""
        content = bytearray(NOTES_SIZE - LINE_SIZE)
        content[: len(_ESTABLISHED)] = _ESTABLISHED if established else _BEGUN
        # Written, not skipped: the disk has room for every later note.
        os.pwrite(self._handle, content, LINE_SIZE)
        os.fsync(self._handle)

    def note(self, end: bytes, position: int, revision: int) -> None:
        """These frames are flushed. It only fails where the disk has no room, and then says too little."""
        self._last = end
        self._count = count = self._count + 1
        note = _NOTE.pack(count, end, position, revision, crc32(end, (count ^ revision) & 0xFFFFFFFF))
        _pwrite(self._handle, note, len(note), _PLACES[count & 1])

    def log_bytes(self, page_size: int) -> int:
        """How long the log of this run is at least."""
        frames = LogEnd.parse(self._last).frames
        return _HEADER.size + frames * (_FRAME.size + page_size) if frames else 0


def _read_note(content: bytes, place: int) -> tuple[int, bytes | None, int, int]:
    count, end, position, revision, checksum = _NOTE.unpack_from(content, place)
    if count == 0 or checksum != crc32(end, (count ^ revision) & 0xFFFFFFFF):
        return 0, None, 0, 0
    return count, end, position, revision


def _load_pwrite() -> Callable[[int, bytes, int, int], int]:
    """The system call as it is: `os.pwrite` gives the interpreter away, and to get it back costs far more."""
    library = ctypes.PyDLL(None)
    function = getattr(library, "pwrite64", None) or library.pwrite
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int64)
    function.restype = ctypes.c_ssize_t
    return cast("Callable[[int, bytes, int, int], int]", function)


_pwrite = _load_pwrite()


class LogIndex:
    """The index of the log that SQLite shares with all connections, read only.

    Closing a handle of this file gives up every lock that this process has on it, those of SQLite too: it
    stays open until SQLite has closed the database.
    """

    def __init__(self, database: Path) -> None:
        self._handle = os.open(f"{database}-shm", os.O_RDONLY | os.O_CLOEXEC)
        self._memory = mmap.mmap(self._handle, NOTES_SIZE, access=mmap.ACCESS_READ)

    def end(self) -> bytes:
        """What to note after a commit; only the thread that commits may ask."""
        return self._memory[_INDEX_END]

    def close(self) -> None:
        """After SQLite has closed the database."""
        self._memory.close()
        os.close(self._handle)


def log_damage(log: Path, found: int, noted: LogEnd | None) -> str | None:
    """Why a log is not what was written, in a few words; None when at most an unacknowledged end is missing.

    `found` is how many frames SQLite took, `noted` what the last host noted.
    """
    try:
        with open(log, "rb") as file:
            content: mmap.mmap | bytes = b""
            if os.fstat(file.fileno()).st_size:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        content = b""
    try:
        return _damage(content, found, noted)
    finally:
        if isinstance(content, mmap.mmap):
            content.close()


def _damage(content: mmap.mmap | bytes, found: int, noted: LogEnd | None) -> str | None:
    size = len(content)
    promised = 0 if noted is None else noted.frames
    if size < _HEADER.size or not any(content[: _HEADER.size]):
        # Never written: the crash came before the first flush.
        return f"it lost all of {promised} pages" if promised else None
    if not _is_header(content[: _HEADER.size]):
        return "its first bytes are not those of a log"
    _, _, page, _, *salt, _, _ = _HEADER.unpack_from(content)
    salt_here = (salt[0], salt[1])
    if noted is not None and noted.salt == salt_here:
        if found < promised:
            return f"only {found} of {promised} pages can be read"
    elif noted is not None and promised and (noted.salt[0] - salt_here[0]) & 0xFFFFFFFF < 1 << 31:
        # Each new round of the log counts the first half of the salt up by one.
        return "it is older than what was written last"
    # What is left is one transaction that the crash cut, or was never flushed whole: it has at most one frame
    # that ends a transaction, and that is its last one.
    step = _FRAME.size + page
    ended = False
    for at in range(_HEADER.size + found * step, size - step + 1, step):
        _, ends, *salt_there, _, _ = _FRAME.unpack_from(content, at)
        if tuple(salt_there) != salt_here:
            continue
        if ended:
            return f"page {found + 1} cannot be read, later ones can"
        ended = bool(ends)
    if ended and noted is None:
        return f"page {found + 1} cannot be read, and the lock file, which says if it was flushed, is gone"
    return None


def _is_header(header: bytes) -> bool:
    magic, version, page, _, _, _, first, second = _HEADER.unpack(header)
    if magic & ~1 != _MAGIC or version != _FORMAT or page not in (512 << power for power in range(8)):
        return False
    sums = (0, 0)
    words = struct.unpack(">6I" if magic & 1 else "<6I", header[:24])
    for one, two in zip(words[::2], words[1::2], strict=True):
        left = (sums[0] + one + sums[1]) & 0xFFFFFFFF
        sums = (left, (sums[1] + two + left) & 0xFFFFFFFF)
    return sums == (first, second)
