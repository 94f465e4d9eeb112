"""FileStore: the claimed directory with its connections and threads, opened and closed as one."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any

from iii_skill.errors import AdapterError, StoreRefused
from iii_state_file.config import FileConfig
from iii_state_file.directory import DATABASE, FILES, LOG, claim_directory, describe_os_error
from iii_state_file.failures import StoreBroken
from iii_state_file.floor import begin
from iii_state_file.key_reader import KeyReader, StoredKey
from iii_state_file.layouts import SCHEMA_VERSION
from iii_state_file.listings import Listing
from iii_state_file.queue_thread import on_loop
from iii_state_file.scan_reader import ScanReader
from iii_state_file.schema import close_unfinished, describe, first_end, open_database
from iii_state_file.watch import FileWatch
from iii_state_file.writer import BatchWriter


class FileStore:
    """Blocking to open and to close; in between `write`, `read` and `scan` hand work to its threads."""

    def __init__(self, config: FileConfig, now_ms: int) -> None:
        self.directory = claim_directory(config.data_dir, allow_network_fs=config.allow_network_fs)
        try:
            self._database = open_database(self.directory, accept_data_loss=config.accept_data_loss)
            connection, revision = self._database.connection, self._database.revision
            self.whole = begin(connection, revision, now_ms, keeps=config.history is not None)
            """Whether all changes since the floor are noted."""
            self.first_end = first_end(connection)
        except (sqlite3.Error, StoreBroken) as error:
            close_unfinished(self._database.connection, self.directory.database)
            self.directory.release()
            raise StoreRefused(describe(self.directory.database, error)) from error
        except BaseException:
            self.directory.release()
            raise
        self.revision, self.longest = self._database.revision, self._database.longest
        self.erased = False
        """True when the files are to go with the close."""
        self._ending = threading.Event()
        self._writer: BatchWriter | None = None
        self._readers: list[KeyReader | ScanReader] = []
        self._watch: FileWatch | None = None

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        committed: Callable[[int], None],
        found: Callable[[Sequence[tuple[str, str]], Sequence[StoredKey | AdapterError]], None],
        scanned: Callable[[Listing | asyncio.Future[Any], Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Start the threads; the callables are called on the loop."""
        path = self.directory.database
        fail = on_loop(loop, failed)
        try:
            reader = KeyReader(path, self._ending, found=on_loop(loop, found), failed=fail)
            self._readers.append(reader)
            scanner = ScanReader(path, self._ending, found=on_loop(loop, scanned), failed=fail)
            self._readers.append(scanner)
        except sqlite3.Error as error:
            raise StoreRefused(describe(path, error)) from error
        writer = self._writer = BatchWriter(
            path,
            self._database,
            self.directory.notes,
            self._ending,
            committed=on_loop(loop, committed),
            failed=fail,
        )
        self.write, self.read, self.scan = writer.put, reader.put, scanner.put

        def changed(failure: BaseException) -> None:
            # At once, not when the loop comes to it: no commit is acknowledged any more.
            writer.give_up()
            fail(failure)

        try:
            self._watch = FileWatch(self.directory, page_size=self._database.page_size, failed=changed)
        except OSError as error:
            raise StoreRefused(describe_os_error(self.directory.path, error)) from error

    def use_history(self) -> None:
        """Keys are read with the number of their versions."""
        for reader in self._readers:
            reader.with_history = True

    def use_ends(self) -> None:
        """From now on what is read is read with its end."""
        for reader in self._readers:
            reader.with_ends = True

    def facts(self) -> dict[str, int]:
        """Sizes on the disk."""
        path = self.directory.path
        disk = os.statvfs(path)
        return {
            "database_bytes": os.path.getsize(path / DATABASE),
            "log_bytes": os.path.getsize(path / LOG),
            "bytes_free": disk.f_bavail * disk.f_frsize,
            "layout": SCHEMA_VERSION,
        }

    def hurry(self) -> None:
        """Wait no longer for the locks of other programs."""
        self._ending.set()

    def close(self) -> None:
        """Let the threads finish, checkpoint and release the lock."""
        self.hurry()
        if self._watch is not None:
            self._watch.stop()
        writer = self._writer
        if writer is not None and writer.broken:
            # SQLite checkpoints when the last connection closes; after a failed flush it must not.
            self._end_writer()
            self._end_readers()
        else:
            self._end_readers()
            self._end_writer()
        self._database.log_index.close()
        if self.erased:
            for name in FILES:
                (self.directory.path / name).unlink(missing_ok=True)
        self.directory.release()

    def _end_readers(self) -> None:
        for reader in self._readers:
            reader.stop()
            reader.join()

    def _end_writer(self) -> None:
        if self._writer is None:
            # The threads were never started: nothing was written since the mark.
            close_unfinished(self._database.connection, self.directory.database)
        else:
            self._writer.stop()
            self._writer.join()
