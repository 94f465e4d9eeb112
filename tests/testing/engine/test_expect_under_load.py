"""Expected events come, whatever else the machine has to do: none is missed or taken for another."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from iii_skill.plugins import Plugins
from iii_skill.testing.engine.local import LocalEngine

ROUNDS = 100 if os.environ.get("III_SKILL_TEST_ALL") else 1
EACH = 100


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """A program for each processor wants it all the time."""
    spin = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(spin) for _ in range(os.cpu_count() or 1)]
    yield
    for process in spinning:
        process.kill()
        process.wait()


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("busy_machine")
def test_no_expected_event_is_missed(plugins: Plugins) -> None:
    for _ in range(ROUNDS):
        with LocalEngine(plugins=plugins) as engine:
            wanted: queue.Queue[int | None] = queue.Queue()

            def write(engine: LocalEngine = engine, wanted: queue.Queue[int | None] = wanted) -> None:
                while (number := wanted.get()) is not None:
                    engine.call("state::set", {"scope": "s", "key": f"k{number % 7}", "value": number})

            writers = [threading.Thread(target=write) for _ in range(3)]
            for writer in writers:
                writer.start()
            for number in range(EACH):
                wanted.put(number)
                event = engine.events.expect(scope="s", key=f"k{number % 7}", value=number, within=60)
                assert event.new_value == number
            for _ in writers:
                wanted.put(None)
            for writer in writers:
                writer.join()
            engine.settle(within=60)
            assert len(engine.events.all) == EACH
