"""Scans: queries over many rows, each of which shows every write that was accepted before it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from iii_skill.adapter import Deferred
from iii_skill.errors import AdapterError
from iii_skill.values import Answer
from iii_state_file.batches import Batches
from iii_state_file.ends import Ends
from iii_state_file.key_cache import check_name
from iii_state_file.listings import Listing, Listings
from iii_state_file.scan_reader import LIST, Scan


class Scans:
    """Those that are under way, and who waits for them: a caller each, or all callers of a listing."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, batches: Batches, ends: Ends, listings: Listings
    ) -> None:
        self._loop = loop
        self._batches = batches
        self._ends = ends
        self._listings = listings
        self._askers: set[Listing | asyncio.Future[Any]] = set()

    def list(self, scope: str) -> Answer[Sequence[tuple[str, bytes]]]:
        """The pairs of a scope that has no listing which is filled."""
        listing = self._listings.get(scope)
        if listing is None:
            check_name(scope)
            listing = self._listings[scope] = Listing(scope)
            self._follow(Scan(listing, LIST, scope))
        # Else it is being read for others, and shows the writes since then, too.
        answer: Deferred[Sequence[tuple[str, bytes]]] = Deferred()
        listing.waiting.append(answer)
        return answer

    def ask(
        self,
        query: str,
        scope: str,
        *,
        key: str = "",
        after: int = 0,
        limit: int = 0,
        over_since: int | None = None,
        keep: int = 0,
        behind: tuple[str, str] | None = None,
    ) -> asyncio.Future[Any]:
        """The rows of one moment; the fields of a Scan, and by default what is over now is left out."""
        check_name(scope, key)
        future: asyncio.Future[Any] = self._loop.create_future()
        over = self._ends.over_since() if over_since is None else over_since
        self._follow(Scan(future, query, scope, after, limit, over, key, keep, behind))
        return future

    def _follow(self, scan: Scan) -> None:
        self._askers.add(scan.asker)
        self._batches.follow(scan)

    def done(self, asker: Listing | asyncio.Future[Any], rows: Any, *, keep: bool) -> None:
        """Answer those who wait for these rows, or the error in their place; `keep` a listing for later."""
        self._askers.discard(asker)
        if isinstance(asker, asyncio.Future):
            if asker.done():
                # Its caller was cancelled.
                return
            if isinstance(rows, AdapterError):
                asker.set_exception(rows)
            else:
                asker.set_result(rows)
            return
        waiting, asker.waiting = asker.waiting, []
        if isinstance(rows, AdapterError):
            # Only those who asked learn it; the next call has the scope read again.
            self._listings.drop(asker)
            for answer in waiting:
                answer.set_exception(rows)
            return
        self._listings.keep(asker, rows.pairs, rows.ends)
        if not keep:
            self._listings.drop(asker)
        batches, over = self._batches, self._ends.over_since()
        for answer in waiting:
            # Writes that were noted meanwhile may not be on the disk yet.
            if asker.batch > batches.committed:
                batches.wait(asker.batch, asker.pairs(over), answer)
            else:
                answer.set_result(asker.pairs(over))

    def abandon(self) -> Sequence[Deferred[Any] | asyncio.Future[Any]]:
        """Forget all of them and all listings; gives those who waited."""
        self._listings.clear()
        answers: list[Deferred[Any] | asyncio.Future[Any]] = []
        for asker in self._askers:
            answers += asker.waiting if isinstance(asker, Listing) else (asker,)
        self._askers.clear()
        return answers
