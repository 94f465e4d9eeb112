"""LoggedHubAdapter: the hub with a log of its changes; and adapters whose log is wrong on purpose."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import ClassVar

import msgspec
from iii_state_memory import MemoryAdapter
from support.hub_adapter import HubAdapter, HubConfig

from iii_skill.adapter import OLDEST, LoggedChange, LogPage
from iii_skill.errors import CallerError, CursorTooOld
from iii_skill.values import PRIVATE_SCOPES, Change

PAGE_BYTES = 8_000_000


@dataclass
class Log:
    """What all hosts of one hub share."""

    store: str = field(default_factory=lambda: secrets.token_hex(4))
    rows: list[tuple[int, Change, int]] = field(default_factory=list)
    last: int = 0
    forgotten: int = 0
    """The number of the last change that is not kept any more."""


LOGS: dict[str, Log] = {}


class LoggedHubConfig(HubConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many changes are kept."""

    kept: int = 10_000


class LoggedHubAdapter(HubAdapter):
    """Every change has a number in one order."""

    name: ClassVar[str] = "logged-hub"
    logged: ClassVar[bool] = True
    log_setting: ClassVar[str | None] = "kept"
    config_type: ClassVar[type[msgspec.Struct]] = LoggedHubConfig

    async def open(self, config: HubConfig) -> None:
        await super().open(config)
        assert isinstance(config, LoggedHubConfig)
        self.kept = config.kept
        self.log = LOGS.setdefault(config.hub, Log())

    def tell(self, change: Change) -> None:
        super().tell(change)
        if not change.scope.startswith(PRIVATE_SCOPES):
            self.record(change)

    def record(self, change: Change) -> None:
        """Put the change behind all others."""
        self.log.last += 1
        self.put(self.log.last, change)

    def put(self, number: int, change: Change) -> None:
        """Let all see it."""
        self.log.rows.append((number, change, int(self.clock.now() * 1000)))
        while len(self.log.rows) > self.kept:
            self.log.forgotten = self.log.rows.pop(0)[0]

    def cursor(self, number: int) -> str:
        """The cursor behind a change."""
        return f"{self.log.store}-{number}"

    def number(self, cursor: str) -> int:
        """The change that a cursor is behind."""
        store, _, number = cursor.partition("-")
        if not (number.isascii() and number.isdigit() and len(number) < 20):
            raise CallerError("that is no cursor", code="INVALID_CURSOR")
        if store != self.log.store or not self.log.forgotten <= int(number) <= self.log.last:
            raise CursorTooOld("that cursor is forgotten")
        return int(number)

    def log_page(self, after: str | None, limit: int) -> LogPage:
        oldest = self.cursor(self.log.forgotten)
        if after is None:
            return LogPage((), self.cursor(self.log.last), oldest)
        number = self.log.forgotten if after == OLDEST else self.number(after)
        rows: list[LoggedChange] = []
        size = 0
        for position, change, at_ms in self.rows_behind(number):
            size += len(change.old or b"") + len(change.new or b"")
            if len(rows) == limit or (rows and size > PAGE_BYTES):
                break
            rows.append(LoggedChange(change, self.cursor(position), at_ms))
        return LogPage(rows, rows[-1].cursor if rows else self.cursor(number), oldest)

    def rows_behind(self, number: int) -> list[tuple[int, Change, int]]:
        """The changes after one."""
        return [row for row in self.log.rows if row[0] > number]


class NumbersBeforeItCommits(LoggedHubAdapter):
    """As a sequence does: a later number may be seen first."""

    def record(self, change: Change) -> None:
        self.log.last += 1
        if self.log.last % 5:
            self.put(self.log.last, change)
        else:
            asyncio.get_running_loop().call_later(0.002, self.put, self.log.last, change)


class TellsTheLastOneAgain(LoggedHubAdapter):
    def log_page(self, after: str | None, limit: int) -> LogPage:
        page = super().log_page(after, limit)
        if len(page.rows) > 1:
            return LogPage(page.rows, page.rows[-2].cursor, page.oldest)
        return page


class GoesOnSilently(LoggedHubAdapter):
    def number(self, cursor: str) -> int:
        try:
            return super().number(cursor)
        except CursorTooOld:
            return self.log.forgotten


class NumbersAreAll(LoggedHubAdapter):
    """Its cursors do not name their store."""

    def cursor(self, number: int) -> str:
        return f"0-{number}"

    def number(self, cursor: str) -> int:
        return super().number(f"{self.log.store}-{cursor.partition('-')[2]}")


class CursorsOfOneHost(LoggedHubAdapter):
    def cursor(self, number: int) -> str:
        return f"{id(self)}-{number}"

    def number(self, cursor: str) -> int:
        host, _, number = cursor.partition("-")
        return super().number(f"{self.log.store if host == str(id(self)) else 'gone'}-{number}")


class LogsPrivateScopes(LoggedHubAdapter):
    def tell(self, change: Change) -> None:
        super().tell(change)
        if change.scope.startswith(PRIVATE_SCOPES):
            self.record(change)


class LeavesOutDeletesOfNothing(LoggedHubAdapter):
    def record(self, change: Change) -> None:
        if change.old is not None or change.new is not None:
            super().record(change)


class LogsNamesBeforeOrder(LoggedHubAdapter):
    def rows_behind(self, number: int) -> list[tuple[int, Change, int]]:
        return sorted(super().rows_behind(number), key=lambda row: (row[1].scope, row[1].key, -row[0]))


class GivesOneTooMany(LoggedHubAdapter):
    def log_page(self, after: str | None, limit: int) -> LogPage:
        return super().log_page(after, limit + 1)


class GivesAllBytes(LoggedHubAdapter):
    def log_page(self, after: str | None, limit: int) -> LogPage:
        number = self.log.forgotten if after in (None, OLDEST) else self.number(str(after))
        rows = [LoggedChange(c, self.cursor(n), at) for n, c, at in self.rows_behind(number)[:limit]]
        if after is None:
            return super().log_page(None, limit)
        return LogPage(rows, rows[-1].cursor if rows else str(after), self.cursor(self.log.forgotten))


class TakesAnyCursor(LoggedHubAdapter):
    def number(self, cursor: str) -> int:
        try:
            return super().number(cursor)
        except CursorTooOld:
            raise
        except CallerError:
            return self.log.last


class TellsSeconds(LoggedHubAdapter):
    def log_page(self, after: str | None, limit: int) -> LogPage:
        page = super().log_page(after, limit)
        rows = [LoggedChange(row.change, row.cursor, row.at_ms // 1000) for row in page.rows]
        return LogPage(rows, page.next, page.oldest)


class PassesNothingOver(LoggedHubAdapter):
    def log_latest(self, after: str, count: int) -> tuple[int, str]:
        self.number(after)
        return 0, after


class LogsUndeclared(MemoryAdapter):
    def log_page(self, after: str | None, limit: int) -> LogPage:
        return LogPage((), "", "")
