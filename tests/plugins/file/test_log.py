"""What is noted of the log outlives the process, and a note that was cut leaves the one before it."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from iii_state_file.log import LINE_SIZE, NOTES_SIZE, LogEnd, LogIndex, LogNotes, log_damage


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[int]:
    """An empty lock file."""
    opened = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


def end(frames: int, salt: tuple[int, int] = (7, 9)) -> bytes:
    """What the shared index says after a commit."""
    return struct.pack("=2I", frames, 1) + bytes(8) + struct.pack(">2I", *salt)


def test_the_last_note_is_what_the_next_host_reads(handle: int) -> None:
    notes = LogNotes(handle)
    assert (notes.established, notes.begun, notes.end, notes.last_row) == (False, False, None, None)
    notes.start(established=True)
    for frames in range(1, 6):
        notes.note(end(frames), 100 + frames, 200 + frames)
        again = LogNotes(handle)
        assert again.established
        assert again.end == LogEnd(frames, (7, 9))
        assert again.last_row == (100 + frames, 200 + frames)
    assert os.fstat(handle).st_size == NOTES_SIZE


def test_a_cut_note_leaves_the_one_before(handle: int) -> None:
    notes = LogNotes(handle)
    notes.start(established=True)
    notes.note(end(1), 1, 1)
    before = os.pread(handle, NOTES_SIZE, 0)
    notes.note(end(2), 2, 2)
    after = os.pread(handle, NOTES_SIZE, 0)
    changed = [at for at in range(NOTES_SIZE) if before[at] != after[at]]
    for cut in range(changed[0], changed[-1]):
        os.pwrite(handle, after[:cut] + before[cut:], 0)
        read = LogNotes(handle).end
        assert read is not None
        assert read.frames == 1


def test_a_start_forgets_the_notes(handle: int) -> None:
    notes = LogNotes(handle)
    notes.start(established=True)
    notes.note(end(3), 1, 1)
    notes.start(established=False)
    again = LogNotes(handle)
    assert (again.established, again.begun, again.end) == (False, True, None)


def test_a_lock_file_of_the_old_layout_says_nothing(handle: int) -> None:
    os.pwrite(handle, b"process 4711 (iii-skill serve)\n", 0)
    notes = LogNotes(handle)
    assert (notes.established, notes.begun, notes.end) == (False, False, None)
    assert LINE_SIZE > 300, "an older version reads that much to name the process"


def test_the_index_names_the_frames_of_the_log(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (a)")
    index = LogIndex(database)
    log = Path(f"{database}-wal")
    for number in range(20):
        connection.execute("INSERT INTO t VALUES (?)", (number,))
        found = LogEnd.parse(index.end())
        frames = (log.stat().st_size - 32) // (24 + 4096)
        assert found == LogEnd(frames, struct.unpack(">2I", log.read_bytes()[16:24]))
        assert log_damage(log, frames, found) is None
        assert log_damage(log, frames - 1, found) is not None
    connection.close()
    index.close()


def test_no_log_is_only_damage_where_one_was_promised(tmp_path: Path) -> None:
    log = tmp_path / "state.db-wal"
    for content in (None, b"", bytes(32), bytes(5000)):
        if content is not None:
            log.write_bytes(content)
        assert log_damage(log, 0, None) is None
        assert log_damage(log, 0, LogEnd(0, (0, 0))) is None
        assert log_damage(log, 0, LogEnd(4, (7, 9))) == "it lost all of 4 pages"
    log.write_bytes(b"x" * 5000)
    assert log_damage(log, 0, None) == "its first bytes are not those of a log"
