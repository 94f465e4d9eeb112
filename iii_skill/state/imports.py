"""`iii-skill::state::import`: many keys as one write, brought in parts: all of them or none are stored.

A store that only this host writes to keeps the parts in its journal (`import_journal`), and other calls wait
while they are written. A shared store takes them in one step of its own (`StateAdapter.write_together`);
where it has none, `begin` says so and nothing is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from iii_skill.adapter import CALL_SECONDS, Write, settled
from iii_skill.adapter_answers import AdapterAnswers
from iii_skill.calls import Call, FunctionInfo
from iii_skill.errors import AdapterError, CallerError, IiiSkillError
from iii_skill.readable import check_value
from iii_skill.serde.reader import Shape, anything, optional_count, optional_flag, optional_string, read_input
from iii_skill.state.errors import FunctionErrors, refusal
from iii_skill.state.functions import IMPORT
from iii_skill.state.gate import Gate
from iii_skill.state.import_journal import ImportJournal, Part
from iii_skill.state.scopes import check_scope
from iii_skill.state.settings import LiveSettings
from iii_skill.state.value_size import check_size
from iii_skill.values import Change

if TYPE_CHECKING:
    from iii_skill.adapter import StateAdapter

log = logging.getLogger("iii_skill.state")

MOST_OPEN = 8
"""Imports that may be under way at once."""
IDLE_S = 120.0
"""Seconds after which an import that brings nothing more is forgotten."""
MOST_PART_BYTES, MOST_PART_ROWS = 4 * 1024 * 1024, 10_000
TOGETHER_KEYS, TOGETHER_BYTES = 100_000, 64 * 1024 * 1024
"""What a shared store is given in one step: other hosts wait for it."""
WAIT_S = 5.0
"""Seconds that `commit` waits for the end before it says how far it is."""
REMEMBERED = 16
_START_S = 1.0

_ERRORS = FunctionErrors("IMPORT_ERROR", "IMPORT_ERROR: ", writes=True)
_TEXT, _COUNT = {"type": ["string", "null"]}, {"type": ["integer", "null"], "minimum": 0}

INFO = FunctionInfo(
    IMPORT,
    "Store many keys, all or none: `begin`, then `rows` (or `row`) in order, then `commit` until it is done.",
    {
        "type": "object",
        "required": ["step"],
        "properties": {
            "step": {"enum": ["begin", "rows", "row", "commit", "cancel"]},
            "import": {**_TEXT, "description": "The name that `begin` gave."},
            "if_absent": {"type": ["boolean", "null"], "description": "Keys that are there stay (`begin`)."},
            "rows": {"type": ["array", "null"], "description": "[scope, key, value] each (`rows`)."},
            "deletes": {"type": ["array", "null"], "description": "[scope, key] each (`rows`)."},
            "scope": {**_TEXT, "description": "Of one large value (`row`)."},
            "key": _TEXT,
            "value": {},
            "count": {**_COUNT, "description": "Writes in all (`commit`)."},
        },
    },
    {
        "type": "object",
        "properties": {
            "import": {"type": "string"},
            "atomic": {"type": "boolean", "description": "False: the store cannot do it (`begin`)."},
            "most_keys": {"type": ["integer", "null"]},
            "most_bytes": {"type": ["integer", "null"]},
            "done": {"type": "boolean", "description": "False: not yet, ask again (`commit`)."},
            "written": {"type": "integer"},
            "changed": {"type": "integer"},
        },
    },
)

_NAMES = ("import", "if_absent", "rows", "deletes", "scope", "key", "value", "count")
_SHAPE = Shape(
    "StateImportInput",
    {
        "step": optional_string,
        "import": optional_string,
        "if_absent": optional_flag,
        "rows": anything,
        "deletes": anything,
        "scope": optional_string,
        "key": optional_string,
        "value": anything,
        "count": optional_count,
    },
    dict.fromkeys(_NAMES),
    positional=False,
)

_rows = msgspec.json.Decoder(list[tuple[str, str, msgspec.Raw]]).decode
_names = msgspec.json.Decoder(list[tuple[str, str]]).decode


class _Import:
    """One import: what has come of it, and from its commit on the task that writes it."""

    def __init__(self, *, if_absent: bool) -> None:
        self.if_absent = if_absent
        self.count = self.size = self.parts = 0
        self.writes: list[Write] = []
        """Of a shared store."""
        self.task: asyncio.Task[int] | None = None
        self.idle: asyncio.TimerHandle | None = None
        self.taking = 0
        """Parts that the store takes just now."""
        self.broken = False
        """A part was not taken: what has come is not what was sent."""


class ImportFunction:
    """Answers the steps of imports, and finishes at the start what an earlier host left."""

    def __init__(
        self,
        adapter: StateAdapter,
        *,
        settings: LiveSettings,
        gate: Gate,
        answers: AdapterAnswers,
        written: Callable[[Change], None],
    ) -> None:
        """`answers` has the calls that are under way; `written` is told of every change that this host makes
        to a store of its own."""
        self._adapter = adapter
        self._settings = settings
        self._gate = gate
        self._answers = answers
        self._journal = None if adapter.shared else ImportJournal(adapter, written)
        self._imports: dict[str, _Import] = {}
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._recovery: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Finish what an earlier host had committed; calls wait for it, the start only a moment."""
        if self._journal is None:
            return
        self._gate.closed = True
        self._recovery = self._begin(self._recover(self._journal))
        await asyncio.wait([self._recovery], timeout=_START_S)

    async def close(self) -> None:
        """Stop; what is committed is finished by the next host."""
        self._gate.end()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for one in self._imports.values():
            if one.idle is not None:
                one.idle.cancel()

    def __call__(self, call: Call) -> None:
        self._begin(self._answer(call))

    def _begin(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Told to whoever asks, and nobody has to.

    async def _recover(self, journal: ImportJournal) -> None:
        try:
            asked = asyncio.ensure_future(journal.committed())
            # Not wait_for: an adapter may not end when it is told to.
            if not (await asyncio.wait([asked], timeout=CALL_SECONDS))[0]:
                asked.cancel()
                raise TimeoutError(f"no answer within {CALL_SECONDS:g} s")
            if asked.result():
                log.warning("an import that was committed when the host ended is written to its end now")
                await journal.finish()
            await journal.forget()
        except (AdapterError, TimeoutError) as error:
            log.error("what an earlier import left in the store cannot be looked at: %s", error)
        finally:
            self._gate.open()

    async def _answer(self, call: Call) -> None:
        try:
            answer = await self._step(call)
        except asyncio.CancelledError:
            call.fail(AdapterError("The host ended; ask the next one what is there.", code=_ERRORS.code))
            raise
        except Exception as error:
            call.fail(refusal(error, _ERRORS))
        else:
            call.succeed(msgspec.json.encode(answer))

    async def _step(self, call: Call) -> dict[str, Any]:
        given = read_input(IMPORT, _SHAPE, call.data)
        if self._recovery is not None:
            # Parts that come before it has ended would be removed as leftovers.
            await asyncio.wait([self._recovery])
        step = given["step"]
        if step == "begin":
            return self._started(if_absent=given["if_absent"] is True)
        name = given["import"] or ""
        found = self._imports.get(name)
        if found is None:
            raise CallerError(f"There is no import {name[:80]!r}: begin one.", code="IMPORT_UNKNOWN")
        if step == "cancel":
            await self._cancel(name, found)
            return {}
        if step == "commit":
            return await self._commit(name, found, given["count"])
        if step not in ("rows", "row"):
            raise CallerError("step must be begin, rows, row, commit or cancel.", code="IMPORT_STEP")
        if found.task is not None:
            raise CallerError("The import is committed already.", code="IMPORT_STEP")
        try:
            await self._take(name, found, self._part(step, given, call))
        except BaseException:
            found.broken = True
            raise
        return {}

    def _started(self, *, if_absent: bool) -> dict[str, Any]:
        if self._journal is None and not self._adapter.together:
            return {"atomic": False}
        if sum(one.task is None for one in self._imports.values()) >= MOST_OPEN:
            raise CallerError(f"{MOST_OPEN} imports are under way already; try again.", code="STATE_BUSY")
        for old in list(self._imports)[: max(0, len(self._imports) - REMEMBERED)]:
            task = self._imports[old].task
            if task is not None and task.done():
                del self._imports[old]
        name = secrets.token_hex(8)
        self._imports[name] = _Import(if_absent=if_absent)
        self._wait_for_more(name)
        shared = self._journal is None
        return {
            "import": name,
            "atomic": True,
            "most_keys": TOGETHER_KEYS if shared else None,
            "most_bytes": TOGETHER_BYTES if shared else None,
        }

    def _part(self, step: str, given: dict[str, Any], call: Call) -> Part:
        """The writes of one call, checked as `state::set` checks them."""
        if step == "row":
            if given["scope"] is None or given["key"] is None or given["value"] is None:
                raise CallerError("A row has scope, key and value.", code="IMPORT_STEP")
            value = bytes(given["value"])
            if call.outline is not None:
                value = call.outline.restore(value)
                call.let_go()
            part = Part([(given["scope"], given["key"], msgspec.Raw(value))])
        else:
            texts = [bytes(given[name] or b"null") for name in ("rows", "deletes")]
            if call.outline is not None:
                texts = [call.outline.restore(text) for text in texts]
                call.let_go()
            if sum(map(len, texts)) > MOST_PART_BYTES:
                raise CallerError(
                    f"Rows of more than {MOST_PART_BYTES} bytes are too many for one call: bring fewer, and "
                    "a large value by itself (`row`).",
                    code="IMPORT_STEP",
                )
            try:
                part = Part(
                    [] if texts[0] == b"null" else _rows(texts[0]),
                    [] if texts[1] == b"null" else _names(texts[1]),
                )
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise CallerError(f"These are no rows: {error}.", code="IMPORT_STEP") from None
        if len(part.rows) + len(part.deletes) > MOST_PART_ROWS:
            raise CallerError(f"One call brings at most {MOST_PART_ROWS} rows.", code="IMPORT_STEP")
        limit = self._settings.current.max_value_bytes
        for scope, _, raw in part.rows:
            check_scope(scope)
            value = bytes(raw)
            check_value(value)
            check_size(value, limit)
        for scope, _ in part.deletes:
            check_scope(scope)
        return part

    async def _take(self, name: str, found: _Import, part: Part) -> None:
        number, found.parts = found.parts, found.parts + 1
        count = len(part.rows) + len(part.deletes)
        found.taking += 1
        try:
            if self._journal is not None:
                await self._journal.keep(name, number, msgspec.json.encode(part))
                found.count += count
                return
        finally:
            found.taking -= 1
            self._wait_for_more(name)
        found.count += count
        found.size += sum(len(scope) + len(key) + len(bytes(raw)) for scope, key, raw in part.rows)
        held = sum(one.size for one in self._imports.values() if one.task is None)
        if found.count > TOGETHER_KEYS or held > TOGETHER_BYTES:
            found.writes.clear()
            raise CallerError(
                f"A shared store takes {TOGETHER_KEYS} keys and {TOGETHER_BYTES} bytes in one step, and this "
                "import has more: bring it in parts.",
                code="IMPORT_TOO_LARGE",
            )
        for scope, key, raw in part.rows:
            found.writes.append(Write(scope, key, bytes(raw), found.if_absent))
        found.writes += [Write(scope, key, None, False) for scope, key in part.deletes]

    async def _commit(self, name: str, found: _Import, count: int | None) -> dict[str, Any]:
        if found.task is None:
            if found.broken or count != found.count:
                come = found.count
                raise CallerError(
                    f"{come} writes have come and {count} were to come: nothing is stored; begin again.",
                    code="IMPORT_INCOMPLETE",
                )
            if found.idle is not None:
                found.idle.cancel()
            found.task = self._begin(self._write(name, found))
        await asyncio.wait([found.task], timeout=WAIT_S)
        if found.task.done():
            return {"done": True, "written": found.count, "changed": found.task.result()}
        return {"done": False, "written": 0 if self._journal is None else self._journal.applied}

    async def _write(self, name: str, found: _Import) -> int:
        async with self._writing:
            if self._journal is None:
                writes, found.writes = found.writes, []
                found.size = 0
                return await self._adapter.write_together(writes)
            try:
                if await self._journal.committed():
                    # The journal has room for one that counts.
                    await self._finish(self._journal)
            except IiiSkillError as error:
                raise AdapterError(
                    f"An earlier import is not written to its end yet ({error.message.rstrip('.')}): "
                    "nothing of this one is stored; try again."
                ) from error
            await self._journal.commit(name, found.parts, if_absent=found.if_absent)
            try:
                return await self._finish(self._journal)
            except IiiSkillError as error:
                raise AdapterError(
                    f"The import counts, and a part of it is not written yet ({error.message.rstrip('.')}): "
                    "the next import or the next start of the host writes it."
                ) from error

    async def _finish(self, journal: ImportJournal) -> int:
        self._gate.closed = True
        try:
            # A listing that was begun before must not see a part: it ends before another one does.
            await self._answers.passed()
            await settled(self._adapter.scopes())
            return await journal.finish()
        finally:
            self._gate.open()

    async def _cancel(self, name: str, found: _Import) -> None:
        if found.task is not None:
            raise CallerError("The import is committed already.", code="IMPORT_STEP")
        self._imports.pop(name, None)
        if found.idle is not None:
            found.idle.cancel()
        if self._journal is not None:
            async with self._writing:
                await self._journal.forget(name)

    def _wait_for_more(self, name: str) -> None:
        found = self._imports.get(name)
        if found is None or found.task is not None:
            return
        if found.idle is not None:
            found.idle.cancel()
        found.idle = asyncio.get_running_loop().call_later(IDLE_S, self._give_up, name)

    def _give_up(self, name: str) -> None:
        """Nothing came for a long time: whoever began it is gone."""
        found = self._imports.get(name)
        if found is not None and found.task is None and not found.taking:
            self._begin(self._forgotten(name, found))

    async def _forgotten(self, name: str, found: _Import) -> None:
        with contextlib.suppress(IiiSkillError):
            await self._cancel(name, found)
