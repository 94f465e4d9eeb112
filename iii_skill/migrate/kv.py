"""KvDirectory: the directory in which the real engine's adapter `kv` keeps one file for each scope."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes

from iii_skill.errors import StoreRefused

from .archive import LARGEST, Damaged, read_scope
from .sources import BOOKKEEPING, Omission, ScopePairs

SUFFIX = ".bin"
_NAME = re.compile(r"(?:[A-Za-z0-9._-]|%[0-9A-Fa-f]{2})*")


class KvDirectory:
    """Reads a copy or a directory at rest; it never writes there."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise StoreRefused(f"There is no directory {directory}: name the engine's `file_path`.")
        self._directory = directory
        self._files: dict[str, Path] = {}
        self.skipped: list[Omission] = []
        self.damaged: list[Omission] = []

    async def scopes(self) -> Sequence[str]:
        """The scope of every `.bin` file; the rest is reported as skipped or damaged."""
        self._files.clear()
        self.skipped.clear()
        self.damaged.clear()
        for path in sorted(self._directory.iterdir()):
            self._sort(path)
        self.skipped += self._once_private()
        return sorted(scope for scope in self._files if scope not in BOOKKEEPING)

    async def read(self, scope: str) -> ScopePairs:
        """All pairs of the scope in the order in which the engine lists them."""
        return ScopePairs(scope, self._pairs(self._files[scope]))

    async def close(self) -> None:
        """Nothing is open."""

    def _sort(self, path: Path) -> None:
        if path.name.endswith(SUFFIX + ".tmp"):
            self.skipped.append(Omission(path.name, "the engine was stopped while it wrote it"))
        elif not path.name.endswith(SUFFIX) or not path.is_file():
            self.skipped.append(Omission(path.name, "it is no file of the engine's store"))
        else:
            try:
                scope = decode_name(path.name.removesuffix(SUFFIX))
            except Damaged as error:
                self.damaged.append(Omission(path.name, str(error)))
                return
            self._files[scope] = path
            if scope in BOOKKEEPING:
                self.skipped.append(Omission(path.name, BOOKKEEPING[scope]))

    def _once_private(self) -> list[Omission]:
        """Namespaces whose scopes were private: here they are scopes like any other."""
        ledger = self._files.get("__state_private_namespaces")
        if ledger is None:
            return []
        try:
            names = [name for name, _ in self._pairs(ledger)]
        except Damaged:
            return []
        return [Omission(name, "its scopes were private to it and are public here") for name in names]

    def _pairs(self, path: Path) -> list[tuple[str, bytes]]:
        try:
            size = path.stat().st_size
            if size > LARGEST:
                raise Damaged(f"it has {size} bytes, more than a file of the engine can have")
            data = path.read_bytes()
        except (OSError, MemoryError) as error:
            raise Damaged(
                f"it cannot be read: {getattr(error, 'strerror', 'there is not enough memory')}"
            ) from None
        return read_scope(data)


def decode_name(name: str) -> str:
    """The scope that a file is named after; Damaged when no scope gives that name."""
    if not _NAME.fullmatch(name):
        raise Damaged("its name is not one that the engine gives")
    try:
        return unquote_to_bytes(name).decode()
    except UnicodeDecodeError:
        raise Damaged("its name is not one that the engine gives") from None
