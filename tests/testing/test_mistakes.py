"""Every adapter that is wrong on purpose is caught by the kit, by the check that names its mistake."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from iii_state_redis import RedisAdapter
from support import redis
from support import wrong_adapters as wrong
from support.hub_adapter import HubAdapter
from support.journal_adapter import JournalAdapter

from iii_skill.adapter import StateAdapter
from iii_skill.testing import checks_for, run_checks

CAUGHT: list[tuple[type[StateAdapter], str, str]] = [
    (wrong.LosesAnUpdate, "concurrent-updates-of-one-key-lose-nothing", "after 200 increments"),
    (wrong.AppliesOneIncrementTwice, "concurrent-updates-of-one-key-lose-nothing", "after 200 increments"),
    (wrong.SortsKeys, "list-is-in-order-of-first-insertion", "not that of first insertion"),
    (wrong.OverwriteMoves, "an-overwrite-keeps-the-place", "moved a key"),
    (wrong.RecreatedKeyGetsItsOldPlace, "delete-and-set-moves-to-the-end", "not at the end"),
    (wrong.ReusesRevisions, "revisions-rise-when-a-key-is-made-again", "do not rise"),
    (wrong.FirstRevisionIsZero, "a-change-has-a-revision-above-zero", "revision 0"),
    (wrong.DeleteOfNothingHasNoRevision, "a-delete-that-found-nothing-takes-a-revision", "do not rise"),
    (wrong.KeepTakesARevision, "keep-takes-no-revision", "other than 0"),
    (wrong.ShowsWhatIsOver, "nobody-sees-what-is-over-get", "was seen"),
    (wrong.ListsWhatIsOver, "nobody-sees-what-is-over-list", "was seen"),
    (wrong.ChangesWhatIsOver, "nobody-sees-what-is-over-update", "was seen"),
    (wrong.SetLeavesTheEnd, "a-set-takes-the-end-away", "left the end"),
    (wrong.UpdateTakesTheEndAway, "an-update-leaves-the-end", "changed the end"),
    (wrong.MadeAgainHasTheFormerEnd, "a-key-made-again-has-no-end", "former end"),
    (wrong.TellsNoEnd, "an-end-that-came-is-one-delete", "told 0 times"),
    (wrong.TellsEndsTwice, "an-end-that-came-is-one-delete", "told 2 times"),
    (wrong.EndsHaveNoRevision, "an-end-that-came-is-one-delete", "out of order"),
    (wrong.SweepTellsNoNextEnd, "sweep-tells-when-the-next-key-ends", "not the next end"),
    (wrong.SweepsAThousandAtMost, "many-keys-end-at-once", "told as"),
    (wrong.TakesEndsUndeclared, "expire-is-refused-when-it-is-not-declared", "not declared"),
    (wrong.ForgetsVersionsOfDeletedKeys, "every-change-is-a-version", "the changes were"),
    (wrong.KeepsVersionsOfNothing, "what-changes-nothing-is-no-version", "the changes were"),
    (wrong.KeepsEveryVersion, "so-many-versions-are-kept", "the changes were"),
    (wrong.ForgetsThatVersionsWereDropped, "what-the-past-lost-is-told-seed-0", "it held"),
    (wrong.PastOfNow, "the-past-is-what-was-written-seed-0", "it held"),
    (wrong.PastOfEachScope, "a-moment-is-a-cut", "without one that was answered before"),
    (wrong.MomentsGoOn, "a-moment-is-a-cut", "Read again"),
    (wrong.PartsOfWhatIsTogetherHaveMoments, "a-moment-has-all-that-was-written-together", "A moment has"),
    (wrong.WritesTogetherInSeveralTransactions, "a-moment-has-all-that-was-written-together", "A moment has"),
    (wrong.VersionsNeverGrowOld, "versions-are-kept-for-so-long", "the changes were"),
    (wrong.PagesOfVersionsOverlap, "pages-of-versions-give-each-once", "some twice"),
    (wrong.ShowsWhatIsOverAsAVersion, "what-is-over-is-gone-in-its-versions", "that is over are [b'1']"),
    (wrong.PagesOfVersionsAreCutAnywhere, "a-short-page-of-versions-is-the-last", "the changes were"),
    (wrong.PagesOfVersionsAreUnbounded, "a-short-page-of-versions-is-the-last", "bytes of values"),
    (wrong.KeepsVersionsUnasked, "no-versions-are-kept-without-the-setting", "without its setting"),
    (wrong.KeepCreatesTheScope, "keep-of-an-absent-key-creates-nothing", "scope without keys"),
    (wrong.SwallowsErrorsOfChange, "an-error-of-change-reaches-the-caller", "answered although"),
    (wrong.WrapsErrorsOfChange, "an-error-of-change-reaches-the-caller", "not what `change` raised"),
    (wrong.MixesTwoMomentsInList, "list-is-one-moment", "mixes two moments"),
    (wrong.NormalisesKeys, "twin-keys-nfc-and-nfd", "taken for one"),
    (wrong.FoldsTheCaseOfScopes, "twin-scopes-upper-and-lower-case", "taken for one"),
    (wrong.JoinsScopeAndKeyWithAColon, "joined-by-colon", "overwritten from another scope"),
    (wrong.CutsLongKeys, "twin-keys-same-10000-but-last", "taken for one"),
    (wrong.ParsesValues, "set-value-space-inside", "other bytes"),
    (wrong.KeepsNumbersAsDoubles, "set-value-above-two-to-the-53", "other bytes"),
    (wrong.StripsWhitespace, "set-value-space-around", "other bytes"),
    (wrong.TakesNullForAbsent, "set-value-null", "other bytes"),
    (wrong.GivesText, "set-stores-and-tells-old-and-new", "gave str"),
    (wrong.ReadsAStaleCache, "an-answered-write-is-seen-by-every-later-read", "stale"),
    (wrong.ScopesStayWhenEmpty, "scopes-are-those-with-keys", "without keys is still there"),
    (wrong.ListsAThousandAtMost, "a-scope-of-2000-keys-is-listed-whole", "1000 of 2,000"),
    (wrong.PagesByRank, "pages-give-every-key-that-stays-while-others-come-and-go", "miss"),
    (wrong.PagesByKey, "pages-give-every-key-that-stays-while-others-come-and-go", "twice"),
    (wrong.PagesMissTheLast, "pages-give-every-key-once-and-in-order-seven", "do not give what `list` gives"),
    (wrong.PagesAreTooLong, "pages-give-every-key-once-and-in-order-seven", "at most 7 pairs has 8"),
    (wrong.PagesTellTheirOwnLength, "pages-give-every-key-once-and-in-order-seven", "a total of 7"),
    (wrong.ItsClockIsTheRevision, "revisions-rise-when-the-clock-is-set-back", "do not rise"),
    (wrong.ItsImportedClockIsTheRevision, "revisions-rise-when-the-clock-is-set-back", "do not rise"),
    (wrong.SweepsTheCounterOfADeletedKey, "revisions-rise-after-the-store-has-forgotten", "do not rise"),
    (wrong.SaysNothingOfItsHealth, "health-tells-how-the-store-is", "NoneType"),
    (wrong.EraseKeepsAScope, "erase-leaves-nothing", "still"),
    (wrong.SetDoesNotTellOld, "set-stores-and-tells-old-and-new", "wrong old"),
    (wrong.CloseNeverEnds, "close-leaves-nothing-running", "did not end"),
    (wrong.SecondCloseFails, "close-twice-is-harmless", "AttributeError"),
    (wrong.LeavesCycles, "answered-calls-leave-nothing-to-the-collector", "_Job"),
    (wrong.LeavesATask, "close-leaves-nothing-running", "tasks are still there"),
    (wrong.AnswersOutOfOrder, "plain-answers-come-in-the-order-of-the-calls", "order"),
    (wrong.OneErrorFailsTheBatch, "errors-of-change-spare-the-calls-beside-them", "another caller"),
    (wrong.FailsAtACancelledCaller, "cancelled-callers-leave-the-store-whole", "no answer"),
    (wrong.CancelledCallerKeepsTheLock, "cancelled-callers-leave-the-store-whole", "no answer"),
    (wrong.ChangesHalfWorks, "changes-is-refused-when-shared-is-not-declared", "not declared"),
    (wrong.WritesTogetherUndeclared, "writes-together-are-refused-when-not-declared", "not declared"),
    (wrong.MakesWritesOneByOne, "writes-together-are-one-moment", "a part"),
    (wrong.TogetherIgnoresIfAbsent, "writes-together-are-all-made", "holds"),
    (wrong.AcceptsAnySetting, "an-unknown-setting-is-refused", "was accepted"),
    (wrong.HasABadName, "the-declarations-are-well-formed", "My Adapter"),
    (wrong.WritesOnlyAtClose, "acknowledged-writes-outlive-a-kill-at-the-first-answer", "is lost"),
    (wrong.AnswersBeforeTheWrite, "acknowledged-writes-outlive-a-kill-early", "lost"),
    (wrong.ShowsWhatIsNotWrittenYet, "acknowledged-writes-outlive-a-kill-early", "a kill took back"),
    (wrong.TearsValues, "acknowledged-writes-outlive-a-kill-early", "torn"),
    (wrong.TearsABatch, "acknowledged-writes-outlive-a-kill-at-the-first-answer", "torn"),
    (wrong.ForgetsRevisionsAtAKill, "revisions-are-not-used-again-after-a-kill-early", "had been told"),
    (wrong.ForgetsRevisionsOfDeletedKeys, "revisions-rise-across-a-reopen", "do not rise"),
    (wrong.SortsAtOpen, "the-order-outlives-a-reopen", "changed with close and open"),
    (wrong.DeletedKeysComeBack, "data-outlives-a-reopen", "other contents"),
    (wrong.TwoHostsMayOpen, "a-second-host-is-refused", "Two processes"),
    (wrong.BlocksTheLoop, "a-write-lets-the-event-loop-go", "blocks the event loop"),
    (wrong.NamesFilesByKey, "strings-never-name-files", "became the file"),
    (wrong.KeepsFilesOpen, "close-leaves-nothing-running", "files stay open"),
    (wrong.LosesWritesAfterClose, "a-write-after-close-is-never-lost-silently", "acknowledged and is lost"),
    (wrong.YieldsNothing, "changes-yields-every-change-once-and-in-order", "missing"),
    (wrong.YieldsTwice, "changes-yields-every-change-once-and-in-order", "twice"),
    (wrong.YieldsOutOfOrder, "changes-yields-every-change-once-and-in-order", "out of order"),
    (wrong.YieldsKeep, "changes-tells-nothing-of-keep", "2 changes"),
    (wrong.YieldsOnlyOthersChanges, "changes-yields-every-change-once-and-in-order", "missing"),
    (wrong.CountsFromTheFirstRead, "changes-counts-from-its-call", "0 of 2"),
    (wrong.ChangesEndsByItself, "changes-yields-every-change-once-and-in-order", "ended by itself"),
    (wrong.EachHostReadsItsOwnCache, "two-hosts-see-each-others-writes", "stale"),
    (wrong.MissesChangesOfKilledHosts, "a-killed-host-harms-no-other", "misses"),
    (wrong.TwoHostsLoseUpdates, "updates-of-two-hosts-lose-nothing", "lost increments"),
]


HANG = {wrong.CloseNeverEnds, wrong.FailsAtACancelledCaller, wrong.CancelledCallerKeepsTheLock}


def settings(adapter: type[StateAdapter], place: Path) -> Mapping[str, Any]:
    if issubclass(adapter, JournalAdapter):
        return {"data_dir": place / "data"}
    if issubclass(adapter, RedisAdapter):
        return redis.settings()
    return {"hub": str(place)} if issubclass(adapter, HubAdapter) else {}


@pytest.mark.parametrize(("adapter", "name", "reason"), CAUGHT, ids=[row[0].__name__ for row in CAUGHT])
def test_a_seeded_mistake_is_caught_by_its_check(
    adapter: type[StateAdapter], name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    checks = [check for check in checks_for(adapter) if check.name == name]
    seconds = 2 if adapter in HANG else None  # else the check's own
    (verdict,) = run_checks(adapter, lambda place: settings(adapter, place), checks, seconds=seconds)
    assert not verdict.passed
    assert reason in (verdict.reason or "")


def test_every_wrong_adapter_is_in_the_table() -> None:
    seeded = {row[0] for row in CAUGHT} | {wrong.Batching}
    made = {
        value
        for value in vars(wrong).values()
        if isinstance(value, type) and issubclass(value, StateAdapter) and value.__module__ == wrong.__name__
    }
    assert made == seeded
