"""No check of the kit lets everything pass: each catches an adapter that is wrong on purpose."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from iii_state_file import FileAdapter
from iii_state_redis import RedisAdapter
from support import redis
from support import wrong_adapters as wrong
from support import wrong_details as details
from support.cellar import CellarAdapter
from support.hub_adapter import HubAdapter
from support.journal_adapter import JournalAdapter

from iii_skill.adapter import StateAdapter
from iii_skill.testing import checks_for, run_checks, unique
from iii_skill.testing.kit import CHECKS

pytestmark = pytest.mark.timeout(300)

Caught = Sequence[tuple[type[StateAdapter], str, str]]

CAUGHT: Caught = [
    (details.GivesNullForAbsentKeys, "get-of-an-unknown-key-is-none", "gave a value"),
    (details.HasAScopeFromTheStart, "an-empty-store-lists-nothing", "fresh store has scopes"),
    (details.DeleteStoresNull, "delete-removes-and-tells-old", "that is not there"),
    (details.DeleteOfNothingMakesTheScope, "delete-of-an-absent-key-is-a-change-from-none-to-none", "scope"),
    (details.GivesChangeEmptyBytes, "update-stores-what-change-returns", "not given None"),
    (details.TakesNoneForKeep, "update-to-none-deletes", "wrong old or new"),
    (wrong.KeepTakesARevision, "keep-leaves-a-key-as-it-is", "KEEP took a revision"),
    (details.DeletesInEveryScope, "scopes-are-apart", "touched the key of another"),
    (details.TellsAHundredScopesAtMost, "many-scopes", "misses or repeats"),
    (wrong.ParsesValues, "update-value-space-inside", "other bytes"),
    (details.CutsLongValuesInLists, "large-scope", "lost or mixed up"),
    (wrong.CutsLongKeys, "any-key-10000-characters", "another key"),
    (wrong.FoldsTheCaseOfScopes, "any-scope-case", "another scope"),
    (details.KeysAreSorted, "each-scope-has-its-own-order", "mixed up"),
    (details.TheSameBytesTakeNoRevision, "revisions-rise-with-every-change", "do not rise"),
    (details.ABatchHasOneRevision, "revisions-rise-for-concurrent-changes", "do not rise"),
    (wrong.LosesAnUpdate, "concurrent-updates-of-many-keys-lose-nothing", "after 40 increments"),
    (wrong.LosesAnUpdate, "one-of-many-creators-wins", "was to be created once"),
    (wrong.ReusesRevisions, "concurrent-sets-and-deletes-form-one-chain", "same revision"),
    (details.RunsChangeOnceMore, "a-change-tells-what-change-saw-and-returned", "last saw"),
    (details.GetIsOneWriteBehind, "a-concurrent-history-is-linearizable-seed-0", "not linearizable"),
    (wrong.EachHostReadsItsOwnCache, "a-history-of-two-hosts-is-linearizable-seed-0", "not linearizable"),
    (wrong.SortsKeys, "a-sequence-does-what-a-dictionary-does-seed-0", "`list` is wrong"),
    (details.KeepsTheFirstEnd, "a-key-has-the-end-that-it-was-given-last", "that ends at"),
    (details.GivesAbsentKeysAnEnd, "an-absent-key-gets-no-end", "absent key has an end"),
    (details.TellsScopesThatAreOver, "pages-and-scopes-leave-out-what-is-over", "all over is told"),
    (details.ExpireMoves, "an-end-keeps-value-place-and-revision", "moved a key"),
    (details.ForgetsEndsWhenItCloses, "ends-outlive-a-reopen", "lost the end"),
    (details.StoresNoEnds, "ends-outlive-a-kill-early", "whose end was acknowledged"),
    (details.EachHostKnowsItsOwnEnds, "two-hosts-see-the-same-ends", "sees no end"),
    (details.EachHostTellsAnEnd, "two-hosts-make-each-end-once", "told twice"),
    (wrong.TellsNoEnd, "a-write-that-meets-an-end-tells-it-first-set", "told 0 times"),
    (wrong.RecreatedKeyGetsItsOldPlace, "an-update-of-what-is-over-goes-to-the-end-of-the-list", "its place"),
    (wrong.TellsEndsTwice, "ends-under-load-lose-nothing", "were told"),
    (details.EndsTheNormalisedName, "twins-end-alone-nfc-and-nfd", "wrong one ended"),
    (details.MissesAVersionInFifty, "no-version-is-missing-under-load", "the changes were"),
    (details.BoundsHaveASign, "any-number-is-a-bound-of-pages", "OverflowError"),
    (details.EndsAreNoVersions, "an-end-that-came-is-a-version", "no version of its own"),
    (details.VersionsAreParsed, "a-delete-is-taken-back-by-writing-a-version", "other bytes"),
    (details.ForgetsVersionsWhenItOpens, "versions-outlive-a-reopen", "the changes were"),
    (details.ForgetsVersionsWhenItOpens, "versions-outlive-a-kill", "are no versions"),
    (wrong.MomentsGoOn, "the-past-stays-while-keys-change", "`past`"),
    (wrong.SecondCloseFails, "close-before-open-is-harmless", "AttributeError"),
    (details.ACancelledOpenHoldsItsLock, "a-cancelled-open-can-be-closed", "Another host"),
    (details.CloseFailsWhatItAccepted, "close-finishes-what-was-accepted", "not an answer"),
    (details.ACancelledGetHidesTheKeys, "a-cancelled-read-harms-nothing", "`list` is wrong"),
    (wrong.AcceptsAnySetting, "the-settings-are-a-strict-frozen-struct", "forbid_unknown"),
    (details.ItsDataDirIsRelative, "data-dir-is-an-absolute-directory-or-none", "not absolute"),
    (details.ACancelledReaderTakesTheWritesAlong, "a-reader-of-changes-can-be-cancelled", "is lost"),
    (details.CloseAsksTheServer, "open-and-close-end-when-the-server-is-silent", "`close`"),
    (details.ALostConnectionIsTheEnd, "calls-survive-lost-connections", "connection is lost"),
    (details.RecoversAnotherOrderEachTime, "what-was-recovered-stays", "second open shows other contents"),
]
"""For the checks that no adapter of the other tables fails: one, and a part of what the check says."""

OTHERS = ("test_mistakes", "test_shared_mistakes", "test_log_mistakes")


def settings(adapter: type[StateAdapter], place: Path) -> Mapping[str, Any]:
    if issubclass(adapter, (FileAdapter, JournalAdapter)):
        return {"data_dir": str(place / "data")}
    if issubclass(adapter, CellarAdapter):
        return {"url": redis.shared().url, "prefix": unique(), "timeout": 1}
    if issubclass(adapter, RedisAdapter):
        return redis.settings()
    return {"hub": str(place)} if issubclass(adapter, HubAdapter) else {}


@pytest.mark.parametrize(
    ("adapter", "name", "reason"), CAUGHT, ids=[f"{row[0].__name__}-{row[1]}" for row in CAUGHT]
)
def test_a_seeded_mistake_is_caught_by_its_check(
    adapter: type[StateAdapter], name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (check,) = [check for check in checks_for(adapter) if check.name == name]
    (verdict,) = run_checks(adapter, lambda place: settings(adapter, place), [check])
    assert not verdict.passed
    assert reason in (verdict.reason or "")


def test_every_wrong_adapter_is_in_the_table() -> None:
    made = {
        value
        for value in vars(details).values()
        if isinstance(value, type)
        and issubclass(value, StateAdapter)
        and value.__module__ == details.__name__
    }
    assert made <= {row[0] for row in CAUGHT}


def test_every_check_catches_some_adapter() -> None:
    """A check of a table counts as one: its cases try the same promise."""
    caught = [name for table in (CAUGHT, *map(table_of, OTHERS)) for _, name, _ in table]
    promises = {check.promise for check in CHECKS}
    found = {check.promise for check in CHECKS if any(check.name.startswith(name) for name in caught)}
    assert promises - found == set()


def table_of(module: str) -> Caught:
    """The table of another file of tests, which is no module that can be imported."""
    spec = importlib.util.spec_from_file_location(module, Path(__file__).with_name(f"{module}.py"))
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    table: Caught = loaded.CAUGHT
    return table
