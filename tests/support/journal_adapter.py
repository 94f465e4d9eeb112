"""JournalAdapter: a small correct disk adapter (one flushed line a change), to seed mistakes into."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import msgspec

from iii_skill.adapter import StateAdapter
from iii_skill.errors import AdapterError, StoreRefused
from iii_skill.values import KEEP, Change, ChangeFunction, Durability


class JournalConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the journal lies."""

    data_dir: str


class JournalAdapter(StateAdapter):
    """Everything runs one by one in one thread of its own; a change is a line that is flushed to the disk."""

    name: ClassVar[str] = "journal"
    durability: ClassVar[Durability] = Durability.DISK
    config_type: ClassVar[type[msgspec.Struct]] = JournalConfig

    def __init__(self) -> None:
        self.thread: ThreadPoolExecutor | None = None
        self.file: BinaryIO | None = None
        self.held: dict[str, dict[str, bytes]] = {}
        self.revision = 0

    async def open(self, config: JournalConfig) -> None:
        self.data_dir = Path(config.data_dir)
        self.thread = ThreadPoolExecutor(1, "journal")
        await self.run(self.load)

    async def close(self) -> None:
        if self.thread is None:
            return
        thread, self.thread = self.thread, None
        await asyncio.get_running_loop().run_in_executor(thread, self.unload)
        thread.shutdown()

    def get(self, scope: str, key: str) -> Any:
        return self.run(lambda: self.held.get(scope, {}).get(key))

    def list(self, scope: str) -> Any:
        return self.run(lambda: list(self.held.get(scope, {}).items()))

    def scopes(self) -> Any:
        return self.run(lambda: list(self.held))

    def update(self, scope: str, key: str, change: ChangeFunction) -> Any:
        return self.run(self.apply, scope, key, change)

    def run(self, work: Any, *arguments: Any) -> asyncio.Future[Any]:
        """Do it in the adapter's thread, after everything before it."""
        if self.thread is None:
            raise AdapterError("The journal is not open.")
        return asyncio.get_running_loop().run_in_executor(self.thread, work, *arguments)

    def load(self) -> None:
        """Lock the directory and read every whole line."""
        assert self.data_dir is not None
        self.data_dir = self.data_dir.absolute()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.lock()
        journal = self.data_dir / "journal"
        whole = 0
        for line in journal.read_bytes().splitlines(keepends=True) if journal.exists() else ():
            if not line.endswith(b"\n"):
                break
            scope, key, value, revision = json.loads(line)
            self.remember(scope, key, None if value is None else base64.b64decode(value))
            self.revision = max(self.revision, revision)
            whole += len(line)
        self.file = journal.open("ab")
        self.file.truncate(whole)

    def lock(self) -> None:
        """One process at a time."""
        assert self.data_dir is not None
        self.guard = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self.guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self.guard)
            raise StoreRefused(f"Another process uses {self.data_dir}; end it first.") from None

    def unload(self) -> None:
        """Let go of file and lock."""
        if self.file is not None:
            self.file.close()
            os.close(self.guard)
            self.file = None

    def apply(self, scope: str, key: str, change: ChangeFunction) -> Change:
        """The atomic section: the thread does one thing at a time."""
        old = self.held.get(scope, {}).get(key)
        new = change(old)
        if new is KEEP:
            return Change(scope, key, old, old, 0)
        self.revision += 1
        self.store(scope, key, new, self.revision)
        self.remember(scope, key, new)
        return Change(scope, key, old, new, self.revision)

    def store(self, scope: str, key: str, new: bytes | None, revision: int) -> None:
        """One line, flushed to the disk."""
        self.write(self.encode(scope, key, new, revision))

    def encode(self, scope: str, key: str, new: bytes | None, revision: int) -> bytes:
        """The line of a change."""
        value = None if new is None else base64.b64encode(new).decode()
        return json.dumps([scope, key, value, revision]).encode() + b"\n"

    def write(self, line: bytes) -> None:
        """Append and flush."""
        assert self.file is not None
        self.file.write(line)
        self.file.flush()
        os.fsync(self.file.fileno())

    def remember(self, scope: str, key: str, new: bytes | None) -> None:
        """Keep what is current in memory."""
        if new is not None:
            self.held.setdefault(scope, {})[key] = new
        elif self.held.get(scope, {}).pop(key, None) is not None and not self.held[scope]:
            del self.held[scope]
