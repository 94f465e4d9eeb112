"""The runner: what a check finds becomes a verdict, whatever way the adapter fails."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from iii_state_memory import MemoryAdapter
from support.journal_adapter import JournalAdapter

from iii_skill.adapter import StateAdapter
from iii_skill.testing import ContractBroken, Subject, Verdict, checks_for, run_check, run_checks
from iii_skill.testing.checks import Check, always


class OpenRaises(MemoryAdapter):
    async def open(self, config: Any) -> None:
        raise RuntimeError("no tape in the drive")


class CloseRaises(MemoryAdapter):
    async def close(self) -> None:
        raise RuntimeError("the tape is stuck")


class ErrorReachesNobody(MemoryAdapter):
    async def close(self) -> None:
        asyncio.get_running_loop().call_soon(self.fail)
        await asyncio.sleep(0)

    def fail(self) -> None:
        raise RuntimeError("in a callback")


def verdict(
    adapter: type[StateAdapter], name: str, *, seconds: float | None = None, **settings: Any
) -> Verdict:
    checks = [check for check in checks_for(adapter) if check.name == name]

    def made(place: Path) -> dict[str, Any]:
        return {key: make(place) for key, make in settings.items()}

    (found,) = run_checks(adapter, made, checks, seconds=seconds)
    return found


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        (OpenRaises, "RuntimeError: no tape in the drive"),
        (CloseRaises, "RuntimeError: the tape is stuck"),
        (ErrorReachesNobody, "An error reached nobody but the event loop"),
    ],
)
def test_what_an_adapter_raises_is_the_reason(adapter: type[StateAdapter], reason: str) -> None:
    found = verdict(adapter, "set-stores-and-tells-old-and-new")
    assert not found.passed
    assert reason in (found.reason or "")


class EndsItsThreadLate(MemoryAdapter):
    async def close(self) -> None:
        threading.Thread(target=time.sleep, args=(0.2,)).start()


class KeepsAThread(MemoryAdapter):
    over = threading.Event()

    async def close(self) -> None:
        threading.Thread(target=self.over.wait, name="stays").start()


def test_a_thread_has_a_moment_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "close-leaves-nothing-running"
    assert verdict(EndsItsThreadLate, name).reason is None
    monkeypatch.setattr("iii_skill.testing.kit.lifecycle.ENDING_SECONDS", 0.05)
    try:
        # All of them have one name.
        monkeypatch.setattr(KeepsAThread, "over", threading.Event())
        found = verdict(KeepsAThread, name)
    finally:
        KeepsAThread.over.set()
    assert "threads are still there" in (found.reason or "")


def test_each_check_has_a_directory_of_its_own_that_goes_with_it() -> None:
    places: list[Path] = []

    def settings(place: Path) -> dict[str, Any]:
        assert list(place.iterdir()) == []
        places.append(place)
        return {"data_dir": place / "data"}

    checks = checks_for(JournalAdapter)[:3]
    verdicts = list(run_checks(JournalAdapter, settings, checks))
    assert [found.reason for found in verdicts] == [None] * 3
    assert len(set(places)) == 3
    assert not any(place.exists() for place in places)


def test_wrong_settings_are_the_reason_of_every_check() -> None:
    found = verdict(JournalAdapter, "many-scopes")
    assert "ValidationError" in (found.reason or "")
    assert "data_dir" in (found.reason or "")


def test_a_check_that_does_not_end_is_cut_off_and_all_is_closed(tmp_path: Path) -> None:
    async def never(subject: Subject) -> None:
        await subject.open()
        await asyncio.Event().wait()

    closed: list[StateAdapter] = []

    class TellsClose(MemoryAdapter):
        async def close(self) -> None:
            closed.append(self)

    check = Check("never", "test", "Never.", never, always, 30)
    with pytest.raises(ContractBroken, match=r"no answer within 0\.05 s"):
        run_check(check, Subject(TellsClose, {}, tmp_path), seconds=0.05)
    assert len(closed) == 1


def test_an_adapter_inside_a_function_cannot_run_in_a_process_of_its_own(tmp_path: Path) -> None:
    class Inner(JournalAdapter):
        """Not importable."""

    found = verdict(Inner, "a-second-host-is-refused", data_dir=lambda place: place / "data")
    assert found.reason == "Define Inner at the top of a module."


def test_a_process_that_fails_tells_why() -> None:
    found = verdict(FailsAtOpen, "what-was-recovered-stays", data_dir=lambda place: place / "data")
    assert found.reason is not None
    assert found.reason.startswith("In a process of its own the adapter failed: ")
    assert "the drive is empty" in found.reason


class FailsAtOpen(JournalAdapter):
    def load(self) -> None:
        raise RuntimeError("the drive is empty")


class CallIgnoresItsEnd(MemoryAdapter):
    async def get(self, scope: str, key: str) -> bytes | None:  # type: ignore[override]
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue


def test_a_call_that_ignores_that_it_is_cancelled_holds_no_other_check_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("iii_skill.testing.runner.LEAVE_SECONDS", 0.5)
    found = verdict(CallIgnoresItsEnd, "get-of-an-unknown-key-is-none", seconds=5)
    assert found.reason == "The check got no answer within 5 s."
