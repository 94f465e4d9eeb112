"""Adapters over a real server that are wrong on purpose are caught every time, by a check that says it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import redis
from support import wrong_shared_adapters as wrong
from support.cellar import CellarAdapter

from iii_skill.adapter import StateAdapter
from iii_skill.testing import AdapterContract, checks_for, run_checks, unique

pytestmark = pytest.mark.timeout(300)

CAUGHT: list[tuple[Any, str, str]] = [
    (wrong.FeedGoesOnFromNow, "changes-go-on-where-they-were-refused", "misses"),
    (wrong.FeedRaisesWhenItBreaks, "changes-go-on-where-they-were-cut", "ended by itself"),
    (wrong.FeedRaisesWhenItBreaks, "changes-that-are-followed-while-the-server-is-away-", "raises or ends"),
    (wrong.FeedRepeatsABatch, "changes-go-on-where-they-were-refused", "repeats"),
    (wrong.FeedIsAChannel, "changes-go-on-where-they-were-refused", "misses"),
    (wrong.OneChannelForAllStores, "two-stores-are-apart", "of another"),
    (wrong.OneLogForAllStores, "two-stores-are-apart", "of another"),
    (wrong.SendsAWriteAgain, "a-write-whose-answer-is-lost-is-done-once-set-0", "was done 2 times"),
    (wrong.SendsAWriteAgain, "a-write-whose-answer-is-lost-is-done-once-update-1", "was done 2 times"),
    (wrong.SendsAWriteAgain, "a-write-whose-answer-is-lost-is-done-once-delete-0", "was done 2 times"),
    (wrong.ItsClientSendsAgain, "a-write-whose-answer-is-lost-is-done-once-set-0", "was done 2 times"),
    (wrong.SaysUnavailableOfALostWrite, "a-write-whose-answer-is-lost-is-done-once-set-0", "AdapterTimeout"),
    (wrong.HasNoTimeout, "every-call-ends-when-the-server-is-silent-paused", "a time-out is missing"),
    (wrong.HasNoTimeout, "every-call-ends-when-the-server-is-silent-lost", "a time-out is missing"),
    (wrong.FeedHasNoTimeout, "changes-go-on-where-they-were-lost", "misses"),
    (wrong.RefusesWhileTheServerIsAway, "a-server-that-is-away-at-open-is-waited-for", "server is away"),
    (wrong.ListsInTwoStatements, "a-list-is-one-moment-over-a-slow-connection", "mixes two moments"),
    (wrong.ListsNamesAndThenTheirValues, "a-list-is-one-moment-over-a-slow-connection", "mixes two moments"),
    (wrong.CountsAPageAfterwards, "a-list-is-one-moment-over-a-slow-connection", "of another moment"),
    (wrong.AnswersGetFromACache, "answers-are-what-the-server-holds-now", "`get` gave"),
    (wrong.DecidesFromACache, "answers-are-what-the-server-holds-now", "decided on"),
    (wrong.DropsTheOldestForASlowReader, "a-slow-reader-of-changes-misses-nothing", "dropped"),
    (wrong.HoldsALock, "a-paused-host-holds-nobody-up", "holds another one up"),
    (wrong.HoldsALockThatLapses, "a-paused-host-holds-nobody-up", "overwrote others"),
    (wrong.TakesRevisionsFromTheLog, "revisions-rise-after-the-store-has-forgotten", "do not rise"),
    (wrong.ItsClockIsTheRevision, "revisions-rise-when-the-clock-is-set-back", "do not rise"),
    (wrong.CutsItsPagesByRank, "pages-give-every-key-that-stays-", "miss"),
    (wrong.ErasesNothing, "erase-leaves-nothing", "still"),
    (wrong.ForgetsItsLogWhenItErases, "erase-leaves-nothing", "still"),
]
"""Each with a check that catches it and a part of what that says."""


def settings(_place: Path) -> dict[str, Any]:
    return {"url": redis.shared().url, "prefix": unique(), "timeout": 1}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return


@pytest.mark.parametrize(
    ("adapter", "name", "reason"), CAUGHT, ids=[f"{row[0].__name__}-{row[1]}" for row in CAUGHT]
)
def test_a_seeded_mistake_is_caught_by_its_check(adapter: type[StateAdapter], name: str, reason: str) -> None:
    (check,) = [check for check in checks_for(adapter) if check.name.startswith(name)]
    (verdict,) = run_checks(adapter, settings, [check])
    assert not verdict.passed
    assert reason in (verdict.reason or "")


def test_every_wrong_adapter_is_in_the_table() -> None:
    made = {
        value
        for value in vars(wrong).values()
        if isinstance(value, type) and issubclass(value, StateAdapter) and value.__module__ == wrong.__name__
    }
    assert made == {row[0] for row in CAUGHT} | {wrong.Fed, wrong.Cached}


class TestCellarAdapter(AdapterContract):
    """The adapter that mistakes are seeded into is right: it passes the whole kit."""

    adapter = CellarAdapter

    def config(self, tmp_path: Path) -> dict[str, Any]:
        return settings(tmp_path)
