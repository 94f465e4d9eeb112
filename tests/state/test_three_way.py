"""The three-way merge of an edit: nothing of either side is lost, and a clash is told."""

from __future__ import annotations

import json

import pytest

from iii_skill.state.three_way import Overlap, merged


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "expected"),
    [
        ('{"a":1}', '{"a":1}', '{"a":2}', '{"a":2}'),
        ('{"a":1}', '{"a":2}', '{"a":1}', '{"a":2}'),
        ('{"a":1}', '{"a":2}', '{"a":2}', '{"a":2}'),
        ('{"a":1,"b":1}', '{"a":1,"b":2}', '{"a":2,"b":1}', '{"a":2,"b":2}'),
        ('{"a":1}', '{"a":1,"x":1}', '{"a":1,"y":2}', '{"a":1,"x":1,"y":2}'),
        ('{"a":1,"b":1}', '{"a":1}', '{"a":5,"b":1}', '{"a":5}'),
        ('{"a":1,"b":1}', '{"b":7}', '{"b":7}', '{"b":7}'),
        ('{"o":{"x":1,"y":1}}', '{"o":{"x":2,"y":1}}', '{"o":{"x":1,"y":3}}', '{"o":{"x":2,"y":3}}'),
        ("[1,2]", "[1,2]", "[1,2,3]", "[1,2,3]"),
        ('{"n":9007199254740993}', '{"n":9007199254740993,"z":1.0}', '{"n":9007199254740995}',
         '{"n":9007199254740995,"z":1.0}'),
    ],
)  # fmt: skip
def test_both_changes_are_in_the_result(base: str, theirs: str, mine: str, expected: str) -> None:
    assert merged(base.encode(), theirs.encode(), mine.encode()).decode() == expected


@pytest.mark.parametrize(
    ("base", "theirs", "mine", "where"),
    [
        ('{"a":1}', '{"a":2}', '{"a":3}', "/a"),
        ('{"a":1}', "{}", '{"a":2}', "/a"),
        ('{"a":1}', '{"a":2}', "{}", "/a"),
        ("{}", '{"a":1}', '{"a":2}', "/a"),
        ('{"o":{"x/y":1}}', '{"o":{"x/y":2}}', '{"o":{"x/y":3}}', "/o/x~1y"),
        ("[1]", "[2]", "[3]", "/"),
        ("1", "2", "3", "/"),
        ('{"a":1}', "[1]", '{"a":2}', "/"),
        ('{"a":1}', '{"a":1,"b":2}', '{"a":1,"c":1,"c":2}', "/"),
    ],
)
def test_a_clash_names_its_place(base: str, theirs: str, mine: str, where: str) -> None:
    with pytest.raises(Overlap) as caught:
        merged(base.encode(), theirs.encode(), mine.encode())
    assert str(caught.value) == where


def test_every_pair_of_changes_of_different_members_is_merged() -> None:
    base = dict.fromkeys("abcdef", 0)
    for left in "abcdef":
        for right in "abcdef":
            if left != right:
                sides = [json.dumps(side).encode() for side in (base, {**base, left: 1}, {**base, right: 2})]
                assert json.loads(merged(*sides)) == {**base, left: 1, right: 2}
