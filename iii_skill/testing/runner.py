"""Run checks against an adapter in an event loop of our own and say which promises are kept."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iii_skill.adapter import StateAdapter
from iii_skill.errors import AdapterUnavailable, StoreRefused
from iii_skill.testing.checks import Check, always
from iii_skill.testing.kit import CHECKS
from iii_skill.testing.subject import ContractBroken, Subject

CLOSE_SECONDS = 20.0
LEAVE_SECONDS = 5.0
CANCEL_AGAIN = 0.5


@dataclass(frozen=True)
class Verdict:
    """What one check found: `reason` is None when the promise is kept."""

    check: Check
    reason: str | None
    seconds: float

    @property
    def passed(self) -> bool:
        """True when the promise is kept."""
        return self.reason is None


def checks_for(adapter_type: type[StateAdapter]) -> list[Check]:
    """The checks that apply to what the adapter class declares."""
    return [check for check in CHECKS if check.applies(adapter_type)]


def run_check(check: Check, subject: Subject, *, seconds: float | None = None) -> None:
    """Try one promise on a fresh subject; raises ContractBroken (or what the adapter raised)."""
    unhandled: list[str] = []

    async def body() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: unhandled.append(_describe(context)))
        try:
            await _within(seconds or check.seconds, check.body(subject), "The check got no answer")
        finally:
            least = min(CLOSE_SECONDS, seconds or CLOSE_SECONDS)
            try:
                await _within(least, subject.close(), "`close` did not end")
            finally:
                # What it leaves on a server is removed; that this works is a promise of its own.
                with contextlib.suppress(Exception):
                    await _within(least, subject.erase(), "`erase` did not end")

    _run(body())
    if unhandled:
        raise ContractBroken(f"An error reached nobody but the event loop: {unhandled[0]}")


def unusable(
    adapter_type: type[StateAdapter], settings: Callable[[Path], Mapping[str, Any]], *, seconds: float = 20
) -> str | None:
    """Why no check could tell anything: the store is away or refuses the settings; None when it answers."""

    async def read(subject: Subject) -> None:
        await (await subject.open()).get("probe", "probe")

    probe = Check("store-answers", "probe", "The store answers.", read, always, seconds)
    with tempfile.TemporaryDirectory(prefix="iii-adapter-", ignore_cleanup_errors=True) as place:
        try:
            run_check(probe, Subject(adapter_type, settings(Path(place)), Path(place), fresh=settings))
        except (AdapterUnavailable, StoreRefused) as error:
            return error.message
        except Exception:
            return None  # The checks will tell which promise this breaks.
    return None


def run_checks(
    adapter_type: type[StateAdapter],
    settings: Callable[[Path], Mapping[str, Any]],
    checks: Iterable[Check] | None = None,
    *,
    seconds: float | None = None,
    repeat: int = 1,
) -> Iterator[Verdict]:
    """Run the checks one by one, each with fresh settings made from a directory of its own.

    Each is tried `repeat` times, and its promise is kept when it is kept every time.
    """
    for check in checks_for(adapter_type) if checks is None else checks:
        started = time.perf_counter()
        reason = None
        for time_ in range(1, repeat + 1):
            reason = _tried(check, adapter_type, settings, seconds)
            if reason is not None:
                if repeat > 1:
                    reason = f"{reason} (at the {time_}. of {repeat} times)"
                break
        yield Verdict(check, reason, time.perf_counter() - started)


def _tried(
    check: Check,
    adapter_type: type[StateAdapter],
    settings: Callable[[Path], Mapping[str, Any]],
    seconds: float | None,
) -> str | None:
    """Why the promise is not kept, None when it is."""
    with tempfile.TemporaryDirectory(prefix="iii-adapter-", ignore_cleanup_errors=True) as place:
        try:
            subject = Subject(adapter_type, settings(Path(place)), Path(place), fresh=settings)
            run_check(check, subject, seconds=seconds)
        except Exception as error:
            return _reason(error)
    return None


def _run(work: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, but what does not end when it is cancelled is left behind after a while."""
    factory = _loop_factory()
    loop = asyncio.new_event_loop() if factory is None else factory()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(work)
    finally:
        try:
            loop.run_until_complete(_end_tasks())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _end_tasks() -> None:
    """Cancel what is left, again and again: Python 3.11 can lose a cancellation."""
    loop = asyncio.get_running_loop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for _ in range(int(LEAVE_SECONDS / CANCEL_AGAIN)):
        if not left:
            break
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN)
    for work in (loop.shutdown_asyncgens(), loop.shutdown_default_executor()):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(work, LEAVE_SECONDS)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop that the host runs on: uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _within(seconds: float, work: Awaitable[None], what: str) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=seconds)
    if not task.done():
        # What ignores that it is cancelled is left behind: one check may not hold up the others.
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN)
        if task.done() and not task.cancelled():
            task.exception()
        raise ContractBroken(f"{what} within {seconds:g} s.")
    await task


def _describe(context: Mapping[str, Any]) -> str:
    error = context.get("exception")
    return f"{context.get('message')}" if error is None else f"{context.get('message')}: {error!r}"


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ContractBroken) else f"{type(error).__name__}: {error}"
