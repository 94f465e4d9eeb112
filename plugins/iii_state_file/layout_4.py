"""Layout 4 had every value in its pack, and no checksum over all of them."""

from __future__ import annotations

import sqlite3
import struct
from zlib import crc32

from iii_state_file.checksums import row_checksum
from iii_state_file.packs import Pack

_PACKS = "SELECT last, at_ms, checksum, heads, body FROM packs WHERE last > ? ORDER BY last LIMIT 100"
_HEADS = "UPDATE packs SET checksum = ?, heads = ? WHERE last = ?"
_HEAD_BYTES = 32


def upgrade_4(connection: sqlite3.Connection) -> None:
    """Write what packs say of their versions anew, all or nothing; a damaged one stays one."""
    run = connection.execute
    run("BEGIN IMMEDIATE")
    try:
        upto = 0
        while rows := run(_PACKS, (upto,)).fetchall():
            for last, at_ms, checksum, heads, body in rows:
                if row_checksum(0, last, at_ms, heads) == checksum:
                    run(_HEADS, (*_pack(last, at_ms, heads, body).heads(), last))
                upto = last
        run("PRAGMA user_version = 5")
        run("COMMIT")
    except BaseException:
        if connection.in_transaction:
            run("ROLLBACK")
        raise


def _pack(last: int, at_ms: int, heads: bytes, body: bytes) -> Pack:
    count = len(heads) // _HEAD_BYTES
    (after, *numbers) = struct.unpack(f"<{1 + 2 * count}q{4 * count}I", heads)
    parts = [numbers[at : at + count] for at in range(0, 6 * count, count)] if count else [[]] * 6
    previous, positions, deltas, starts, checksums, lengths = parts
    changed = [0] * count
    return Pack(
        last, at_ms, after, crc32(body), previous, positions, deltas, starts, checksums, lengths, changed
    )
