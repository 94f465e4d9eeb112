"""Which scopes are refused, however often they were asked for."""

from __future__ import annotations

import pytest

from iii_skill.state.errors import ReservedScope
from iii_skill.state.scopes import ACCEPTED, check_scope, is_reserved


@pytest.mark.parametrize(
    "scope", ["state_barrier", "__state_private_namespaces", "__iii_skill/", "__iii_skill/iii-queue/a"]
)
def test_a_reserved_scope_is_refused_each_time(scope: str) -> None:
    for _ in range(3):
        with pytest.raises(ReservedScope):
            check_scope(scope)
    assert scope not in ACCEPTED
    assert is_reserved(scope)


@pytest.mark.parametrize("scope", ["", "__iii_skill", "__iii_skill0", "a__iii_skill/", "orders"])
def test_others_pass(scope: str) -> None:
    check_scope(scope)
    assert not is_reserved(scope)


def test_what_passed_is_remembered_within_bounds() -> None:
    for number in range(2500):
        check_scope(f"scope {number}")
        check_scope(f"{number}" * 1000)
    assert "scope 2499" in ACCEPTED
    assert sum(map(len, ACCEPTED)) < 256 * 1000
