"""Adapters whose log is wrong on purpose are caught every time, and the right one passes."""

from __future__ import annotations

import pytest
from support import logged_hub as wrong

from iii_skill.adapter import StateAdapter
from iii_skill.testing import checks_for, run_checks, unique

CAUGHT: list[tuple[type[StateAdapter], str, str]] = [
    (wrong.NumbersBeforeItCommits, "a-reader-misses-nothing-under-load-seed-0", "leaves out"),
    (wrong.NumbersBeforeItCommits, "a-reader-misses-nothing-under-load-seed-2", "leaves out"),
    (wrong.TellsTheLastOneAgain, "the-log-tells-every-change-once", "twice"),
    (wrong.GoesOnSilently, "what-the-log-forgot-is-told", "leaves out"),
    (wrong.GoesOnSilently, "a-cursor-of-another-store-is-told", "gone on from"),
    (wrong.NumbersAreAll, "a-cursor-of-another-store-is-told", "gone on from"),
    (wrong.CursorsOfOneHost, "a-cursor-holds-after-a-reopen", "forgotten"),
    (wrong.LogsPrivateScopes, "the-log-tells-every-change-once", "should not"),
    (wrong.LeavesOutDeletesOfNothing, "the-log-tells-every-change-once", "leaves out"),
    (wrong.LogsNamesBeforeOrder, "the-log-tells-every-change-once", "of"),
    (wrong.GivesOneTooMany, "the-log-tells-every-change-once", "at most 7"),
    (wrong.GivesAllBytes, "pages-of-the-log-are-bounded-in-bytes", "bytes of values"),
    (wrong.TakesAnyCursor, "what-is-no-cursor-is-refused-a-word", "no cursor"),
    (wrong.TellsSeconds, "the-log-tells-when-a-change-was-made", "is told as of"),
    (wrong.PassesNothingOver, "the-newest-of-many-changes-are-found", "passed over"),
    (wrong.LogsUndeclared, "a-log-is-refused-when-it-is-not-declared", "not declared"),
]
"""Each with a check that catches it and a part of what that says."""


def settings(adapter: type[StateAdapter]) -> dict[str, str]:
    return {"hub": unique()} if issubclass(adapter, wrong.LoggedHubAdapter) else {}


@pytest.mark.parametrize(
    ("adapter", "name", "reason"), CAUGHT, ids=[f"{row[0].__name__}-{row[1]}" for row in CAUGHT]
)
def test_a_mistake_of_a_log_is_caught_by_its_check(
    adapter: type[StateAdapter], name: str, reason: str
) -> None:
    (check,) = [check for check in checks_for(adapter) if check.name == name]
    (verdict,) = run_checks(adapter, lambda _place: settings(adapter), [check])
    assert not verdict.passed
    assert reason in (verdict.reason or "")


def test_every_wrong_adapter_is_in_the_table() -> None:
    made = {
        value
        for value in vars(wrong).values()
        if isinstance(value, type) and issubclass(value, StateAdapter) and value.__module__ == wrong.__name__
    }
    assert made == {row[0] for row in CAUGHT} | {wrong.LoggedHubAdapter}


def test_the_right_one_passes() -> None:
    checks = [check for check in checks_for(wrong.LoggedHubAdapter) if check.group == "log"]
    verdicts = list(
        run_checks(wrong.LoggedHubAdapter, lambda _place: settings(wrong.LoggedHubAdapter), checks)
    )
    assert len(verdicts) > 15
    assert [verdict.reason for verdict in verdicts if not verdict.passed] == []
