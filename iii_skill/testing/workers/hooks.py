"""Hooks: what a suite has to know of a worker, and how it drives it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from iii_skill.testing.workers.load import ended
from iii_skill.testing.workers.odd_keys import ODD_KEYS
from iii_skill.testing.workers.sameness import brief, same

if TYPE_CHECKING:
    from iii_skill.testing.engine.faults import Fault
    from iii_skill.testing.engine.recorder import RecordedCall

NOT_GIVEN: Final[Any] = object()
"""Stands for an attribute that was left out."""

BACK_SECONDS = 30.0
"""A worker that lost its connection gets so long to be there again."""

ONE, TWO, THREE = "key-one", "key-two", "key-three"

_MOST_CALLS = 8
"""Calls of one piece of work that are struck, one after the other."""


class WorkerHooks:
    """What a subclass gives: `worker`, `act` and `look` always, the rest where it has an answer."""

    worker: ClassVar[Any]
    """What `iii_worker` takes: a program, a command, a callable."""
    functions: ClassVar[Sequence[str] | None] = None
    """The functions to wait for; None: those that it registers."""
    env: ClassVar[Mapping[str, str] | None] = None
    """What its environment has on top."""
    at_once: ClassVar[int] = 24
    """So many pieces of work run at the same time."""
    odd_keys: ClassVar[Sequence[str]] = ODD_KEYS
    refused_keys: ClassVar[Collection[str]] = ()
    """Those of `odd_keys` that the worker has to refuse."""
    empty: ClassVar[Any] = NOT_GIVEN
    """A value that the worker stores at `place` and that is falsy or means nothing: `0`, `{"stock": 0}`."""
    patience: ClassVar[float] = 20.0
    """Seconds in which an answer comes, also while the store fails, and in which nothing goes on after it."""

    def act(self, engine: Any, key: str) -> object:
        """Do one piece of work about `key`; raise when it was not done."""
        raise NotImplementedError("give your WorkerChecks `act(self, engine, key)`")

    def look(self, engine: Any, key: str) -> Any:
        """What there is of `key` now, as JSON: all that matters, without times and random ids."""
        raise NotImplementedError("give your WorkerChecks `look(self, engine, key)`")

    def repeat(self, engine: Any, key: str, request: str) -> object:
        """The same work under an id of the caller: with one id it is done once, however often it comes."""
        pytest.skip("`repeat(self, engine, key, request)` is not given")

    def read(self, engine: Any, key: str) -> Any:
        """What the worker itself says of `key`, also when it is missing; raise when it fails (HTTP 5xx)."""
        pytest.skip("`read(self, engine, key)` is not given")

    def place(self, key: str) -> tuple[str, str]:
        """Scope and key under which the worker keeps what it knows of `key`."""
        pytest.skip("`place(self, key)` is not given")

    def everything(self, engine: Any) -> Any:
        """All that is stored; leave out what may differ when an event comes again, such as times."""
        return engine.state.snapshot()

    def start(self, iii_worker: Any) -> None:
        """Start the worker."""
        self._running = iii_worker(self.worker, functions=self.functions, env=self.env)

    def start_again(self, engine: Any, iii_worker: Any) -> None:
        """A crash, and another start."""
        worker = self._running
        getattr(worker, "kill", worker.stop)()
        _until(lambda: not worker.functions & engine.functions())
        self.start(iii_worker)

    def expect_running(self, engine: Any, when: str) -> None:
        """The worker is connected, or connects again; a program has not ended."""
        worker = self._running
        process = getattr(worker, "process", None)

        def code() -> Any:
            return None if process is None else process.ended

        connected = _until(lambda: code() is not None or worker.functions <= engine.functions())
        say(code() is None, f"The worker ended with exit code {code()} {when}.")
        say(connected, f"The worker did not connect again within {BACK_SECONDS:g} s {when}.")

    def look_after(self, engine: Any, key: str, count: int) -> Any:
        """What there is after so many more pieces of work."""
        for _ in range(count):
            self.act(engine, key)
        return self.settled_look(engine, key)

    def settle(self, engine: Any) -> None:
        """Wait until nothing goes on any more."""
        try:
            engine.settle(within=self.patience)
        except TimeoutError as error:
            raise AssertionError(
                f"The work does not come to an end ({error}). Does a handler write into the scope that it "
                "listens to?"
            ) from None

    def settled_look(self, engine: Any, key: str) -> Any:
        """What there is once nothing goes on any more."""
        self.settle(engine)
        return self.look(engine, key)

    def calls_of_state(self, engine: Any) -> list[RecordedCall]:
        """The calls of state that workers made."""
        calls: list[RecordedCall] = engine.calls.of("state::*")
        return [call for call in calls if call.caller not in ("the engine", "the test")]

    def strike(self, engine: Any, kind: str, what: str) -> None:
        """Let each call of a piece of work be struck in turn, on a key that had some work before."""
        self.look_after(engine, ONE, 1)
        for handler in {event.function_id for event in last_events(engine)}:
            # Whatever handles events would have its own calls struck, and nobody answers for it.
            engine.faults.fail(handler, probability=1.0)
        before = self.calls_of_state(engine)
        self.act(engine, ONE)
        calls = self.calls_of_state(engine)[len(before) :]
        if not calls:
            pytest.skip("this work calls no function of state")
        first, second = self.look_after(engine, TWO, 1), self.look_after(engine, TWO, 1)
        for number, (call, skip) in enumerate(numbered(calls)):
            key = f"{THREE}-{number}"
            self.look_after(engine, key, 1)
            fault: Fault = getattr(engine.faults, kind)(call.function_id, skip=skip)
            done = ended(lambda: self.act(engine, key), self.patience)  # noqa: B023 - called at once
            fault.stop()
            if not fault.hits:
                continue
            where = f"When call {number + 1} ({call.function_id}) {what}, the worker"
            self.expect_running(engine, f"when call {number + 1} ({call.function_id}) {what}")
            say(done is not None, f"{where} does not answer within {self.patience:g} s.")
            found = self.settled_look(engine, key)
            if same(found, key, second, TWO):
                continue
            say(not done, f"{where} answers that the work is done, and leaves {brief(found)}.")
            say(
                same(found, key, first, TWO),
                f"{where} leaves {brief(found)}; without that work it is {brief(first)}, with it "
                f"{brief(second)}.",
            )

    def expect_between(self, engine: Any, found: Any, least: int, most: int, what: str) -> None:
        """What was found is what so many pieces of work leave."""
        wanted = self.look_after(engine, TWO, least)
        looks = [wanted]
        for _ in range(most - least):
            if same(found, ONE, looks[-1], TWO):
                return
            looks.append(self.look_after(engine, TWO, 1))
        say(
            same(found, ONE, looks[-1], TWO),
            f"After {what}, {least} answered pieces of work and {most - least} refused ones leave "
            f"{brief(found)}, which is neither {brief(wanted)} nor any up to {brief(looks[-1])}.",
        )


def say(good: bool, text: str) -> None:
    """AssertionError with this text unless all is good."""
    __tracebackhide__ = True
    if not good:
        raise AssertionError(text)


def _until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + BACK_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def numbered(calls: Sequence[RecordedCall]) -> list[tuple[RecordedCall, int]]:
    """Each call, and how many of the same function came before it."""
    found: list[tuple[RecordedCall, int]] = []
    for at, call in enumerate(calls[:_MOST_CALLS]):
        found.append((call, sum(1 for one in calls[:at] if one.function_id == call.function_id)))
    return found


def last_events(engine: Any) -> list[RecordedCall]:
    """For each function and key the last event of state that it was called with."""
    found: dict[tuple[str, str, str], RecordedCall] = {}
    for call in engine.calls.all:
        payload = call.payload
        if call.caller == "the engine" and isinstance(payload, dict) and payload.get("type") == "state":
            found[call.function_id, payload["scope"], payload["key"]] = call
    return list(found.values())
