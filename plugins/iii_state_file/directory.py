"""The data directory: created private, checked before use, locked against a second process."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from iii_skill.errors import StoreRefused
from iii_state_file.log import LINE_SIZE, NOTES_SIZE, LogNotes
from iii_state_file.mounts import network_filesystem

DATABASE = "state.db"
LOG = f"{DATABASE}-wal"
LOCK = "lock"
FILES = (LOCK, DATABASE, LOG, f"{DATABASE}-shm", f"{DATABASE}-journal")

_MOUNTINFO = Path("/proc/self/mountinfo")
RESTORE = "restore a copy of it, or move it away to start with an empty store"
_ELSEWHERE = "choose another directory with data_dir (--data-dir)"


class DirectoryInUse(StoreRefused):
    """Another process holds the directory."""


@dataclass(frozen=True)
class DataDirectory:
    """A directory that this process holds the lock of."""

    path: Path
    locks: tuple[int, ...]
    notes: LogNotes

    @property
    def database(self) -> Path:
        """The database file, which exists."""
        return self.path / DATABASE

    def release(self) -> None:
        """Give up the lock; the kernel does the same when the process dies."""
        for lock in self.locks:
            os.close(lock)


def claim_directory(name: str, *, allow_network_fs: bool, only_read: bool = False) -> DataDirectory:
    """Create, check and lock the data directory; StoreRefused says what is wrong and what to do.

    `only_read`: files that others may read stay as they are.
    """
    path = Path(os.path.abspath(os.path.expanduser(name)))
    try:
        _create(path)
        _check(path, close=not only_read)
        if not allow_network_fs:
            _refuse_network(path)
            _check_owners(path)
        locks = _lock(path)
    except OSError as error:
        raise StoreRefused(describe_os_error(path, error)) from error
    try:
        notes = LogNotes(locks[0])
        _create_database(path, notes)
    except BaseException as error:
        for lock in locks:
            os.close(lock)
        if isinstance(error, OSError):
            raise StoreRefused(describe_os_error(path, error)) from error
        raise
    return DataDirectory(path, locks, notes)


def describe_os_error(path: Path, error: OSError) -> str:
    """One sentence for an operating-system error about the data directory."""
    where = f"The data directory {path}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where} is on a full disk: free some space or {_ELSEWHERE}."
    if error.errno == errno.EROFS:
        return f"{where} is on a read-only file system: {_ELSEWHERE}."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} may not be used by this user ({error.strerror}): change its owner or {_ELSEWHERE}."
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{where} is not a directory: {_ELSEWHERE}."
    return f"{where} cannot be used ({error.strerror or error}): repair it or {_ELSEWHERE}."


def _create(path: Path) -> None:
    """Create missing directories with mode 0700 and flush each new entry, so that they survive power loss."""
    missing = []
    step = path
    while not os.path.lexists(step):
        missing.append(step)
        step = step.parent
    for new in reversed(missing):
        try:
            os.mkdir(new, 0o700)
        except FileExistsError:
            continue
        sync_directory(new.parent)


def sync_directory(path: Path) -> None:
    """Flush the entries of a directory to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check(path: Path, *, close: bool) -> None:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        raise StoreRefused(
            f"The data directory {path} is a symbolic link to {os.path.realpath(path)}: "
            f"name the real directory in data_dir (--data-dir)."
        )
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        raise OSError(errno.EROFS if read_only else errno.EACCES, "Permission denied")
    for name in FILES:
        try:
            mode = os.lstat(path / name).st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(mode):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "no regular file"
            raise StoreRefused(f"The file {path / name} is {what}: move it away or {_ELSEWHERE}.")
        if close and stat.S_IMODE(mode) & 0o077:
            os.chmod(path / name, 0o600)


def _check_owners(path: Path) -> None:
    """Files of two owners in one store lock one of them out, sooner or later."""
    for name in FILES:
        try:
            owner = os.lstat(path / name).st_uid
        except FileNotFoundError:
            continue
        if owner != os.geteuid():
            raise StoreRefused(
                f"The data directory {path} may not be used by this user ({name} belongs to "
                f"{_user(owner)}): change its owner or {_ELSEWHERE}."
            )


def _user(number: int) -> str:
    try:
        return f"'{pwd.getpwuid(number).pw_name}'"
    except KeyError:
        return f"user {number}"


def _refuse_network(path: Path) -> None:
    try:
        text = _MOUNTINFO.read_text(errors="replace")
    except OSError:
        return
    kind = network_filesystem(Path(os.path.realpath(path)), text)
    if kind is not None:
        raise StoreRefused(
            f"The data directory {path} is on a network file system ({kind}), where locks and flushes may "
            f"not hold: {_ELSEWHERE} or set allow_network_fs: true."
        )


def _lock(path: Path) -> tuple[int, ...]:
    """The handles whose locks keep others out: of the lock file, and of the directory if that is removed."""
    handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    handles = [handle]
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            handles.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
            try:
                fcntl.flock(handles[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                # Some network file systems lock no directories; the lock file is held.
                if isinstance(error, BlockingIOError):
                    raise
        except BlockingIOError:
            owner = os.pread(handle, 300, 0).decode(errors="replace").partition("\n")[0].strip(" \0")
            raise DirectoryInUse(
                f"The data directory {path} is in use by {owner or 'another process'}: stop that one or "
                f"{_ELSEWHERE}."
            ) from None
        # The notes behind the first line stay.
        line = f"process {os.getpid()} ({_program()})".encode(errors="replace")[: LINE_SIZE - 1]
        os.pwrite(handle, line.ljust(LINE_SIZE - 1) + b"\n", 0)
        os.ftruncate(handle, NOTES_SIZE)
    except BaseException:
        for opened in handles:
            os.close(opened)
        raise
    return tuple(handles)


def _program() -> str:
    """The name of this program with its command, as a user knows it: `iii-skill serve`."""
    name = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python"
    if name == "__main__.py":
        name = os.path.basename(os.path.dirname(sys.argv[0])).replace("_", "-")
    command = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1].isalpha() else ""
    return f"{name} {command}".strip()[:120]


def _create_database(path: Path, notes: LogNotes) -> None:
    """Make the file first: SQLite then gives its mode to `-wal` and `-shm`."""
    database, log = path / DATABASE, path / LOG
    size = os.path.getsize(database) if database.exists() else 0
    if size == 0 and log.exists() and os.path.getsize(log):
        raise StoreRefused(
            f"The log {log} is there without its database {DATABASE}: put that back beside it, or move the "
            "log away to start with an empty store."
        )
    if size == 0 and database.exists() and notes.established:
        raise StoreRefused(f"The file {database} was emptied: {RESTORE}.")
    if size == 0:
        notes.start(established=False)
    try:
        os.close(os.open(path / DATABASE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        return
    sync_directory(path)
