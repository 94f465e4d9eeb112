"""Faults: what goes wrong on demand, by function, a number of times or with a seeded probability."""

from __future__ import annotations

import random
from collections.abc import Callable
from fnmatch import fnmatchcase

from iii_skill.calls import Failure

RESTART = "restart"
DROP = "drop_connection"
LOSE = "lose_reply"
DELAY = "delay"
FAIL = "fail"
DISK_FULL = "disk_full"
SLOW_STORE = "slow_store"

WRITES = frozenset({"state::set", "state::update", "state::delete", "state::compare-and-set"})
"""The functions that need room on a disk."""


class Fault:
    """One fault: which calls it strikes, and how often it has."""

    def __init__(
        self,
        kind: str,
        function: str,
        *,
        times: int | None,
        probability: float | None,
        seed: int,
        skip: int = 0,
        failure: Failure | None = None,
        seconds: float = 0.0,
    ) -> None:
        if skip < 0:
            raise ValueError(f"skip={skip}: the number of calls that are spared first is not negative")
        if times is not None and times < 1:
            raise ValueError(f"times={times}: a fault strikes at least once; leave it out for every call")
        if probability is not None and not 0.0 < probability <= 1.0:
            raise ValueError(f"probability={probability}: it is above 0 and at most 1")
        if seconds < 0.0:
            raise ValueError(f"seconds={seconds}: a delay is not negative")
        self.kind = kind
        self.function = function
        self.failure = failure
        self.seconds = seconds
        self.hits = 0
        """How many calls it has struck."""
        self.left = times if times is not None or probability is not None else 1
        """How many more calls it strikes; None: no limit."""
        self._skip = skip
        self._probability = probability
        self._random = random.Random(seed)

    def stop(self) -> None:
        """Strike no more."""
        self.left = 0

    def strikes(self, function_id: str) -> bool:
        """True when it strikes this call, which then counts."""
        if self.left == 0 or not fnmatchcase(function_id, self.function):
            return False
        if self.kind == DISK_FULL and function_id not in WRITES:
            return False
        if self.kind == SLOW_STORE and not function_id.startswith("state::"):
            return False
        if function_id.startswith("engine::") and not self.function.startswith("engine::"):
            # A worker that cannot even say who it is tests nothing.
            return False
        if self._skip:
            self._skip -= 1
            return False
        if self._probability is not None and self._random.random() >= self._probability:
            return False
        self.hits += 1
        if self.left is not None:
            self.left -= 1
        return True

    def __str__(self) -> str:
        return f"{self.kind} {self.function}"


class FaultTable:
    """The faults of one engine; only the engine's thread asks which one strikes."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """From now on."""
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        for fault in self._faults:
            fault.stop()
        self._faults.clear()

    @property
    def missed(self) -> list[Fault]:
        """Those that strike when they can and have struck nothing, as one with a misspelt function."""
        return [fault for fault in self._faults if not fault.hits and fault.left != 0]

    def striking(self, function_id: str) -> Fault | None:
        """The first fault that strikes a call of this function."""
        return next((fault for fault in self._faults if fault.strikes(function_id)), None)


class Faults:
    """Makes things go wrong. `function` is an id or a pattern (`state::*`).

    A fault strikes once unless `times` or `probability` is given; `times=None` with a probability is without
    limit, and `seed` makes it the same in every run. The first `skip` calls are spared. So is what the test
    itself does through `state`.
    """

    def __init__(
        self, table: FaultTable, *, drop: Callable[[str | None], int], restart: Callable[[], None]
    ) -> None:
        self._table = table
        self._drop = drop
        self._restart = restart

    def fail(
        self,
        function: str,
        *,
        code: str = "internal_error",
        message: str = "This call fails on purpose.",
        times: int | None = None,
        probability: float | None = None,
        seed: int = 0,
        skip: int = 0,
    ) -> Fault:
        """The call is not made; its caller gets this error."""
        failure = Failure(code, message)
        return self._add(
            FAIL, function, times=times, probability=probability, seed=seed, skip=skip, failure=failure
        )

    def delay(
        self,
        function: str,
        seconds: float,
        *,
        times: int | None = None,
        probability: float | None = None,
        seed: int = 0,
        skip: int = 0,
    ) -> Fault:
        """The call is made so much later; calls after it are not held up."""
        return self._add(
            DELAY, function, times=times, probability=probability, seed=seed, skip=skip, seconds=seconds
        )

    def lose_reply(
        self,
        function: str,
        *,
        code: str | None = "TIMEOUT",
        times: int | None = None,
        probability: float | None = None,
        seed: int = 0,
        skip: int = 0,
    ) -> Fault:
        """The call is made, and its answer is lost: a caller that repeats it does it twice.

        The caller gets the error `code` in place of the answer, so that nobody waits; with None it hears
        nothing, and its own time-out has to end it.
        """
        text = "The answer was lost on purpose; the outcome is unknown."
        failure = None if code is None else Failure(code, text)
        return self._add(
            LOSE, function, times=times, probability=probability, seed=seed, skip=skip, failure=failure
        )

    def drop_connection(
        self,
        function: str | None = None,
        *,
        worker: str | None = None,
        times: int | None = None,
        probability: float | None = None,
        seed: int = 0,
        skip: int = 0,
    ) -> Fault | int:
        """The call is made, then the connection of the worker that made it breaks, before the answer.

        Without `function` the connections of all workers (or that of `worker`, by name) break now; gives how
        many did. SDKs connect again by themselves.
        """
        if function is None:
            return self._drop(worker)
        return self._add(DROP, function, times=times, probability=probability, seed=seed, skip=skip)

    def restart(
        self, function: str | None = None, *, times: int | None = None, skip: int = 0
    ) -> Fault | None:
        """The engine ends and starts again on the same ports with the same data, workers connect again.

        With `function`: as soon as such a call was made, before its answer. Without: now; it is up again when
        this returns, the workers come a little later.
        """
        if function is None:
            self._restart()
            return None
        return self._add(RESTART, function, times=times, probability=None, seed=0, skip=skip)

    def disk_full(
        self,
        function: str = "state::*",
        *,
        times: int | None = None,
        probability: float | None = None,
        seed: int = 0,
        skip: int = 0,
    ) -> Fault:
        """The write is refused as on a full disk, with the code and the sentence that the host gives then.

        A store of this engine alone (memory, file) stops for good: the engine ends, and starts again as under
        a supervisor, with room on the disk. A server that hosts share only refuses the write.
        """
        return self._add(DISK_FULL, function, times=times, probability=probability, seed=seed, skip=skip)

    def slow_store(
        self,
        function: str = "state::*",
        *,
        seconds: float,
        times: int | None = None,
        probability: float | None = None,
        seed: int = 0,
        skip: int = 0,
    ) -> Fault:
        """The call is made, and answered so much later; calls for the same key wait behind it.

        A caller whose time-out is shorter gives up on a write that was made. The event comes
        after the answer.
        """
        return self._add(
            SLOW_STORE, function, times=times, probability=probability, seed=seed, skip=skip, seconds=seconds
        )

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._table.clear()

    def _add(
        self,
        kind: str,
        function: str,
        *,
        times: int | None,
        probability: float | None,
        seed: int,
        skip: int,
        failure: Failure | None = None,
        seconds: float = 0.0,
    ) -> Fault:
        fault = Fault(
            kind,
            function,
            times=times,
            probability=probability,
            seed=seed,
            skip=skip,
            failure=failure,
            seconds=seconds,
        )
        return self._table.add(fault)
