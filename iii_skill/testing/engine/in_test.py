"""EngineInTest: what every engine of a test has, wherever it runs."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from iii_skill.testing.engine.faults import Fault
from iii_skill.testing.engine.processes import WorkerProcess
from iii_skill.testing.engine.recorder import Recorder
from iii_skill.testing.engine.report import readable, transcript


class EngineInTest:
    """A context manager that tells what happened in it."""

    __test__ = False
    _heading = "iii engine"

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.workers: list[WorkerProcess] = []
        """The processes that were started for it."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Open it, or connect to it."""
        raise NotImplementedError

    def stop(self) -> None:
        """Leave nothing behind; safe to call twice."""
        raise NotImplementedError

    @property
    def transcript(self) -> str:
        """All that a test sees happen: calls, events, workers, faults, one JSON object a line."""
        return transcript(self.recorder)

    @property
    def sections(self) -> list[tuple[str, str]]:
        """What the report of a failing test shows: headings and texts."""
        found = [(self._heading, readable(self.recorder, self._missed()))]
        for worker in self.workers:
            code = "" if worker.ended is None else f", ended with {worker.ended}"
            found.append((f"worker {' '.join(worker.command)}{code}", worker.output))
        return [(heading, text) for heading, text in found if text]

    def _missed(self) -> list[Fault]:
        """The faults that were asked for and struck nothing yet."""
        return []
