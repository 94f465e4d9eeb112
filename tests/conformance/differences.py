"""The table in `references/differences.md`, read."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "references" / "differences.md"
BY_DECISION = {
    # A caller whose frame is dropped waits until its own time-out; it gets an error instead.
    "transport/unknown_action_is_dropped",
    # A limit that one function passes is none.
    "configuration/max_value_bytes_does_not_limit_update",
}
"""Recorded cases that are no flaws of the engine and are answered differently all the same."""

COLUMNS = ("What", "The real engine", "This host", "Why", "Recorded cases")


@dataclass(frozen=True)
class Difference:
    """One row of the table."""

    what: str
    engine: str
    host: str
    why: str
    cases: frozenset[str]


@functools.cache
def rows() -> tuple[Difference, ...]:
    """All rows of the table."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not line.startswith("|") or cells[0] == COLUMNS[0] or set(cells[0]) <= set("-: "):
            continue
        what, engine, host, why, cases = cells
        found.append(Difference(what, engine, host, why, frozenset(re.findall(r"`([a-z_]+/\w+)`", cases))))
    return tuple(found)


@functools.cache
def named_cases() -> frozenset[str]:
    """The recorded cases that some row names."""
    return frozenset().union(*(row.cases for row in rows()))
