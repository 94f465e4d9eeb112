"""LmdbAdapter: one thread owns the environment; every call is a transaction in it, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from acme_iii_lmdb.environment import Environment
from iii_skill.adapter import ChangeFunction, StateAdapter
from iii_skill.errors import AdapterError
from iii_skill.values import Change, Durability

T = TypeVar("T")


class LmdbConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the environment lies and how large it is made at first; it grows by itself."""

    data_dir: str = ".iii/lmdb"
    map_size: int = 64 * 1024 * 1024


class LmdbAdapter(StateAdapter):
    """State in LMDB, for one host at a time."""

    name: ClassVar[str] = "lmdb"
    durability: ClassVar[Durability] = Durability.DISK
    config_type: ClassVar[type[msgspec.Struct]] = LmdbConfig

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._environment: Environment | None = None

    async def open(self, config: LmdbConfig) -> None:
        """Open or create the environment; StoreRefused when another process has it open."""
        self.data_dir = Path.cwd() / config.data_dir
        self._thread = ThreadPoolExecutor(1, "lmdb")
        self._environment = Environment(self.data_dir, config.map_size)
        await self._run(self._environment.open)

    async def close(self) -> None:
        """Finish the calls before, then close the environment and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None and self._environment is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._environment.close)
            thread.shutdown()

    def get(self, scope: str, key: str) -> asyncio.Future[bytes | None]:
        """The stored bytes or None."""
        return self._run(self._opened.get, scope, key)

    def list(self, scope: str) -> asyncio.Future[list[tuple[str, bytes]]]:
        """All pairs of the scope in order of first insertion, from one transaction."""
        return self._run(self._opened.list, scope)

    def scopes(self) -> asyncio.Future[list[str]]:
        """Every scope that holds a key."""
        return self._run(self._opened.scopes)

    def update(self, scope: str, key: str, change: ChangeFunction) -> asyncio.Future[Change]:
        """Run `change` inside a write transaction; the answer comes after its commit."""
        return self._run(self._opened.update, scope, key, change)

    @property
    def _opened(self) -> Environment:
        if self._thread is None or self._environment is None:
            raise AdapterError("The lmdb adapter is not open.")
        return self._environment

    def _run(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        assert self._thread is not None
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
