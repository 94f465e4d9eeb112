"""The table of differences is well formed and names only what is recorded."""

from __future__ import annotations

import re

from conformance.differences import BY_DECISION, COLUMNS, PAGE, named_cases, rows
from conformance.recorded import cases

MAY_DIFFER = {"weakness", "quirk"}


def test_there_is_one_table_with_the_agreed_columns() -> None:
    heads = [line for line in PAGE.read_text().splitlines() if re.fullmatch(r"\|[-|]+\|", line)]
    assert len(heads) == 1
    assert f"| {' | '.join(COLUMNS)} |" in PAGE.read_text()


def test_every_row_says_what_both_do_and_why() -> None:
    assert len(rows()) > 30
    for row in rows():
        assert all((row.what, row.engine, row.host, row.why)), row
    assert len({row.what for row in rows()}) == len(rows())


def test_named_cases_are_recorded_and_named_once() -> None:
    named = [case for row in rows() for case in row.cases]
    assert len(named) == len(set(named))
    assert named_cases() <= {case.id for case in cases()}


def test_only_flaws_and_quirks_of_the_engine_differ() -> None:
    plain = {case.id for case in cases() if not case.tags & MAY_DIFFER}
    assert named_cases() & plain == BY_DECISION
