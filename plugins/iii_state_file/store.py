"""FileStore: the claimed directory with its connections and threads, opened and closed as one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from iii_skill.errors import StoreRefused
from iii_state_file.config import FileConfig
from iii_state_file.directory import claim_directory
from iii_state_file.reader import KeyReader, ScanReader, StoredRow
from iii_state_file.schema import describe, finish, open_writer
from iii_state_file.writer import BatchWriter


class FileStore:
    """Blocking to open and to close; in between `write`, `read` and `scan` hand work to its threads."""

    def __init__(self, config: FileConfig) -> None:
        self.directory = claim_directory(config.data_dir, allow_network_fs=config.allow_network_fs)
        try:
            self._connection = open_writer(self.directory.database)
        except BaseException:
            self.directory.release()
            raise
        self.revision = self._number("SELECT revision FROM store")
        self.position = self._number("SELECT coalesce(max(position), 0) FROM entries")
        self._writer: BatchWriter | None = None
        self._readers: list[KeyReader | ScanReader] = []

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        committed: Callable[[int], None],
        found: Callable[[Sequence[tuple[str, str]], Sequence[StoredRow | None]], None],
        scanned: Callable[[asyncio.Future[Any], Sequence[Any]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Start the threads; the callables are called on the loop."""
        path = self.directory.database
        fail = _on(loop, failed)
        try:
            reader = KeyReader(path, found=_on(loop, found), failed=fail)
            self._readers.append(reader)
            scanner = ScanReader(path, found=_on(loop, scanned), failed=fail)
            self._readers.append(scanner)
        except sqlite3.Error as error:
            raise StoreRefused(describe(path, error)) from error
        writer = BatchWriter(
            self._connection, revision=self.revision, committed=_on(loop, committed), failed=fail
        )
        self._writer = writer
        self.write, self.read, self.scan = writer.put, reader.put, scanner.put

    def close(self) -> None:
        """Let the threads finish, checkpoint and release the lock."""
        writer = self._writer
        if writer is not None and writer.broken:
            # SQLite checkpoints when the last connection closes; after a failed flush it must not.
            self._end_writer()
            self._end_readers()
        else:
            self._end_readers()
            self._end_writer()
        self.directory.release()

    def _end_readers(self) -> None:
        for reader in self._readers:
            reader.stop()
            reader.join()

    def _end_writer(self) -> None:
        if self._writer is None:
            finish(self._connection, self.revision)
        else:
            self._writer.stop()
            self._writer.join()

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])


def _on(loop: asyncio.AbstractEventLoop, function: Callable[..., None]) -> Callable[..., None]:
    """The same function for the threads: it runs on the event loop, soon."""
    call_soon = loop.call_soon_threadsafe

    def post(*arguments: Any) -> None:
        try:
            call_soon(function, *arguments)
        except RuntimeError:
            pass  # The loop is closed: nobody waits any more.

    return post
