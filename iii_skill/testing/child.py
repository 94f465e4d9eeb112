"""Child: a process of its own that works on a subject's storage, to be held, talked to and killed."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import signal
import sys
from types import TracebackType
from typing import Any

from iii_skill.testing.server import stands_still
from iii_skill.testing.subject import Subject, expect


class Child:
    """Runs a scenario of `iii_skill.testing.workload`; leaving the context always ends the process."""

    def __init__(self, subject: Subject, scenario: str, **options: Any) -> None:
        adapter = subject.adapter_type
        expect("<locals>" not in adapter.__qualname__, f"Define {adapter.__name__} at the top of a module.")
        self._request = {
            "scenario": scenario,
            "options": options,
            "settings": subject.settings,
            "sys_path": sys.path,
            "module": adapter.__module__,
            "file": inspect.getfile(adapter),
            "class": adapter.__qualname__,
        }
        self._process: asyncio.subprocess.Process
        self._killed = False

    async def __aenter__(self) -> Child:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "iii_skill.testing.workload")
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        await self.write(json.dumps(self._request))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.send_kill()
        await self._process.communicate()

    async def write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def line(self) -> Any:
        """The next line as JSON, or None at the end."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    async def read(self, word: str) -> None:
        """Wait for a line that begins with the word."""
        line = await self.line()
        if line is None:
            assert self._process.stderr is not None
            said = (await self._process.stderr.read()).decode(errors="replace").strip().splitlines()
            expect(False, f"In a process of its own the adapter failed: {said[-1] if said else 'no message'}")
        expect(line[0] == word, f"A process of the kit said {line} instead of {word}.")

    async def stopped(self) -> None:
        """Wait until the process stands still."""
        while not stands_still(self._process.pid):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.002)

    def send_continue(self) -> None:
        """SIGCONT: it goes on where it stopped itself."""
        os.kill(self._process.pid, signal.SIGCONT)

    def send_kill(self) -> None:
        """SIGKILL, unless the process has ended; what it wrote before can still be read."""
        if self._process.returncode is None and not self._killed:
            self._killed = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
