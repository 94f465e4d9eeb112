"""The tree of keys: every key is in it once, whatever is open, and branches are where names part."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from iii_skill.console.key_tree import BranchRow, KeyTree, TreeRows

KEYS = st.lists(st.text("ab:/", max_size=8), unique=True, max_size=40)


def page(rows: TreeRows) -> list[tuple[Any, ...]]:
    """The rows as tuples: depth, name, and for branches how many keys."""
    return [
        (row.depth, row.name, row.count) if isinstance(row, BranchRow) else (row.depth, row.name)
        for row in rows.page(0, 10_000, 10**9)
    ]


def test_names_part_at_colons_and_slashes() -> None:
    tree = KeyTree(["user:1:a", "user:1:b", "user:2", "one", "orders/2026/11/1", "orders/2026/11/2", "a::b"])
    assert page(tree.rows(frozenset())) == [
        (0, "a::b"),
        (0, "one"),
        (0, "orders/2026/11/", 2),
        (0, "user:", 3),
    ]
    assert page(tree.rows(frozenset(("user:", "user:1:")))) == [
        (0, "a::b"),
        (0, "one"),
        (0, "orders/2026/11/", 2),
        (0, "user:", 3),
        (1, "1:", 2),
        (2, "a"),
        (2, "b"),
        (1, "2"),
    ]


def test_a_key_that_others_begin_with_stands_in_their_branch() -> None:
    tree = KeyTree(["a", "a:", "a:b", "a:c"])
    assert page(tree.rows(frozenset(("a:",)))) == [(0, "a"), (0, "a:", 3), (1, ""), (1, "b"), (1, "c")]


@given(KEYS)
def test_every_key_is_shown_once_when_all_is_open(keys: list[str]) -> None:
    tree = KeyTree(keys)
    opened: frozenset[str] = frozenset()
    while True:
        rows = tree.rows(opened).page(0, 10_000, 10**9)
        more = {row.path for row in rows if isinstance(row, BranchRow)}
        if more <= opened:
            break
        opened |= more
    assert [row.path for row in rows if not isinstance(row, BranchRow)] == sorted(keys)
    for row in rows:
        assert row.path.endswith(row.name)
        if isinstance(row, BranchRow):
            assert row.count == sum(key.startswith(row.path) for key in keys) >= 2


@given(KEYS, st.text("ab:/", max_size=3))
def test_spans_and_filters_find_what_python_finds(keys: list[str], part: str) -> None:
    tree = KeyTree(keys)
    start, end = tree.span(part)
    assert tree.keys[start:end] == sorted(key for key in keys if key.startswith(part))
    found = tree.matching(part.upper()).page(0, 10_000, 10**9)
    assert [row.path for row in found] == sorted(key for key in keys if part in key)


def test_a_page_is_bounded_in_characters() -> None:
    tree = KeyTree([f"{number}{'x' * 1000}" for number in range(100)])
    rows = tree.rows(frozenset())
    assert len(rows) == 100
    assert len(rows.page(0, 100, 10_000)) < 10
    assert len(rows.page(99, 100, 0)) == 1


def test_long_names_with_many_parts_take_no_time() -> None:
    long = "a:" * 200_000
    tree = KeyTree([long + "1", long + "2"])
    (row,) = tree.rows(frozenset()).page(0, 10, 10**9)
    assert isinstance(row, BranchRow)
    assert row.path == long
