"""AdapterContract: which tests a subclass gets, and that pytest plugins leave them alone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

import pytest
from iii_state_memory import MemoryAdapter
from support.hub_adapter import HubAdapter
from support.journal_adapter import JournalAdapter
from support.wrong_adapters import SortsKeys

from iii_skill.testing import AdapterContract, ContractBroken, checks_for
from iii_skill.testing.kit import CHECKS, GROUPS

pytest_plugins = ["pytester"]


class _Sorted(AdapterContract):
    adapter = SortsKeys


class _Journal(AdapterContract):
    adapter = JournalAdapter

    def config(self, tmp_path: Path) -> Mapping[str, object]:
        return {"data_dir": tmp_path / "data"}


def methods_of(contract: type[AdapterContract]) -> set[str]:
    return {name for name in vars(contract) if name.startswith("test_")}


def test_every_check_has_a_name_of_its_own_and_a_sentence() -> None:
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names)) > 300
    assert [check.name for check in CHECKS if not check.sentence.endswith(".")] == []
    assert [group.name for group in GROUPS if not group.checks] == []


def test_a_subclass_has_one_test_for_each_check_that_applies() -> None:
    names = {f"test_{check.name.replace('-', '_')}" for check in checks_for(JournalAdapter)}
    assert methods_of(_Journal) == names
    assert "test_a_second_host_is_refused" in names


def test_what_is_not_declared_is_not_tried_but_its_absence_is() -> None:
    alone, shared = ({check.group for check in checks_for(a)} for a in (MemoryAdapter, HubAdapter))
    assert alone & {"crashes", "sharing"} == set()
    assert "sharing" in shared
    refusal = "changes-is-refused-when-shared-is-not-declared"
    assert refusal in {check.name for check in checks_for(MemoryAdapter)}
    assert refusal not in {check.name for check in checks_for(HubAdapter)}


class _CannotOpen(MemoryAdapter):
    async def open(self, config: object) -> None:
        """Fail with words of its own."""
        raise RuntimeError("no such luck")


class _Unopenable(AdapterContract):
    adapter = _CannotOpen


def test_a_failure_of_any_kind_names_the_promise(tmp_path: Path) -> None:
    test = vars(_Unopenable)["test_an_overwrite_keeps_the_place"]
    with pytest.raises(RuntimeError, match="no such luck") as caught:
        test(_Unopenable(), tmp_path)
    (note,) = caught.value.__notes__
    assert note.startswith("The promise (an-overwrite-keeps-the-place): ")


def test_the_tests_are_plain_functions_that_say_their_promise(tmp_path: Path) -> None:
    test = vars(_Sorted)["test_list_is_in_order_of_first_insertion"]
    assert not inspect.iscoroutinefunction(test)
    assert test.__doc__ == "`list` and `keys` give keys in order of first insertion, not sorted."
    with pytest.raises(ContractBroken, match="not that of first insertion"):
        test(_Sorted(), tmp_path)


def test_a_subclass_may_replace_a_test() -> None:
    class Own(AdapterContract):
        adapter = MemoryAdapter

        def test_many_scopes(self) -> None:
            """Ours."""

    assert vars(Own)["test_many_scopes"].__doc__ == "Ours."


FILE = """
from iii_skill.testing import AdapterContract
from iii_state_memory import MemoryAdapter


class TestMemory(AdapterContract):
    adapter = MemoryAdapter
"""


@pytest.mark.parametrize(
    "options",
    [
        ("-p", "no:asyncio", "-p", "no:anyio"),
        ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"),
        ("-o", "asyncio_mode=strict", "-o", "asyncio_default_fixture_loop_scope=function"),
        ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=session"),
    ],
    ids=["pytest alone", "asyncio auto", "asyncio strict", "asyncio with a loop for the session"],
)
def test_it_runs_the_same_beside_any_plugin(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    pytester.makepyfile(test_memory=FILE)
    result = pytester.runpytest_subprocess("-q", "-W", "error", *options)
    result.assert_outcomes(passed=len(checks_for(MemoryAdapter)))
