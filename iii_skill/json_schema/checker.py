"""`SchemaChecker`: asks a child process what is wrong with a value, and ends it when it takes too long.

Why a process: a schema of forty short definitions can take longer than the universe is old, the library
holds the interpreter's lock meanwhile, and its error lists grow without bound. Nothing but a process can be
ended then, and nothing but its kernel limits bounds its memory. It starts with the first question (about
100 ms, in which the host goes on) and ends when none came for a minute: a host that uses no schema pays
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from iii_skill.errors import CallerError
from iii_skill.json_schema import child

log = logging.getLogger("iii_skill.json_schema")

IDLE_S = 60.0
ANSWER_S = 10.0
"""Seconds for an answer, however busy the machine is; the child's own limit is processor time."""
MAX_WAITING = 256


class BadSchema(CallerError):
    """The schema itself cannot be used."""

    code = "SCHEMA_INVALID"

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid JSON Schema: {reason}")


class CheckFailed(CallerError):
    """It was not found out whether the value fits."""

    code = "SCHEMA_UNAVAILABLE"


class _Worn(CheckFailed):
    """A child that had worked before ended for another reason than time: a new one may know the answer."""


class SchemaChecker:
    """Questions are answered in the order in which they are asked. Close it with the host."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._idle: asyncio.TimerHandle | None = None
        self._fresh = True
        self._closed = False

    @property
    def process_id(self) -> int | None:
        """The child, while there is one."""
        return None if self._child is None else self._child.pid

    async def check_schema(self, schema: bytes) -> None:
        """Raise BadSchema when the encoded document is no schema that can be used."""
        await self._asked(schema, None)

    async def errors(self, schema: bytes, instance: bytes) -> list[str]:
        """What is wrong with the encoded instance, empty when it fits; raises BadSchema and CheckFailed."""
        return await self._asked(schema, instance)

    async def close(self) -> None:
        """End the child; questions that wait are answered with CheckFailed."""
        self._closed = True
        writer = self._writer
        self._stop()
        if writer is not None:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _asked(self, schema: bytes, instance: bytes | None) -> list[str]:
        if self._waiting >= MAX_WAITING:
            raise CheckFailed("too many values wait to be checked against their schemas; try again")
        self._waiting += 1
        try:
            async with self._turn:
                try:
                    fine, texts = await self._exchange(schema, instance)
                except _Worn:
                    # The child had answered others before: their schemas may have filled its memory.
                    fine, texts = await self._exchange(schema, instance)
        finally:
            self._waiting -= 1
        if not fine:
            raise BadSchema(texts[0])
        return texts

    async def _exchange(self, schema: bytes, instance: bytes | None) -> tuple[bool, list[str]]:
        if self._closed:
            raise CheckFailed("the host is stopping")
        if self._idle is not None:
            self._idle.cancel()
        try:
            reader, writer = await self._streams()
            async with asyncio.timeout(ANSWER_S):
                size = child.NO_INSTANCE if instance is None else len(instance)
                writer.write(child.REQUEST.pack(len(schema), size) + schema + (instance or b""))
                await writer.drain()
                fine, size = child.REPLY.unpack(await reader.readexactly(child.REPLY.size))
                texts = json.loads(await reader.readexactly(size))
        except (EOFError, OSError) as error:  # TimeoutError is an OSError
            raise self._gave_up(error) from None
        except BaseException:
            self._stop()  # The caller is gone, and the answer on its way would be the next one's.
            raise
        self._fresh = False
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._stop)
        return fine, texts

    async def _streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._child is not None and self._child.poll() is not None:
            self._stop()
        if self._reader is None or self._writer is None:
            self._fresh = True
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    self._child = _started(theirs)
                except BaseException:
                    ours.close()
                    raise
            self._reader, self._writer = await asyncio.open_connection(sock=ours)
        return self._reader, self._writer

    def _gave_up(self, error: Exception) -> CheckFailed:
        """The child ended, never came up, or does not answer: why, and the next question gets a new one."""
        ended = self._child.poll() if self._child is not None else None
        if ended is None and self._child is not None and not isinstance(error, TimeoutError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                ended = self._child.wait(1.0)  # It hung up, so it is as good as gone.
        fresh = self._fresh
        self._stop()
        if self._closed:
            return CheckFailed("the host is stopping")
        if ended == -signal.SIGPROF or isinstance(error, TimeoutError):
            return CheckFailed("checking the value against its schema takes too long: simplify the schema")
        if not fresh:
            return _Worn("the process that checks schemas ended")
        if ended is not None and (ended < 0 or ended == 1):
            return CheckFailed(
                "checking the value against its schema takes too much memory; make one smaller"
            )
        log.warning("the process that checks JSON Schemas cannot be used: %s", error)
        return CheckFailed(f"values cannot be checked against their schemas on this machine: {error}")

    def _stop(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        if self._writer is not None:
            self._writer.transport.abort()
        self._child = self._reader = self._writer = None


def _started(connection: socket.socket) -> subprocess.Popen[bytes]:
    """The child with the socket as its standard input; it finds the library where this process would."""
    found = importlib.util.find_spec("jsonschema_rs")
    if found is None or found.origin is None:
        raise OSError("the package jsonschema-rs is not installed")
    if not sys.executable:
        raise OSError("there is no Python interpreter to start")
    library = Path(found.origin).parents[1]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", child.__file__, os.fspath(library)],
        stdin=connection.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if not name.startswith("III_")},
    )
