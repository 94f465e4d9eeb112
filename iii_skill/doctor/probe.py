"""Probe: one look at what answers at a worker port, as a worker that registers nothing."""

from __future__ import annotations

import asyncio
import enum
import os
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from iii_skill import __version__
from iii_skill.calls import Failure
from iii_skill.doctor.patience import in_time
from iii_skill.engine.ids import fresh_id
from iii_skill.engine_link import UNREACHED, FunctionName, Link, connect
from iii_skill.protocol import client
from iii_skill.protocol.outgoing import ObserverView, WithdrawTrigger
from iii_skill.protocol.unreached import Refused

T = TypeVar("T")


OWN = "iii-skill-doctor::"
"""How the function begins that listens for us."""


class ConnectOutcome(enum.Enum):
    """What a connection met."""

    REACHED = enum.auto()
    CLOSED = enum.auto()
    """Nothing listens, or there is no way there."""
    NO_SUCH_HOST = enum.auto()
    SILENT = enum.auto()
    FOREIGN = enum.auto()
    """Something answers that is no engine."""
    REFUSED = enum.auto()


class FunctionRow(msgspec.Struct, frozen=True):
    """A row of `engine::functions::list`."""

    function_id: str
    worker_name: str | None = None
    namespace: str | None = None


class WorkerRow(msgspec.Struct, frozen=True):
    """A row of `engine::workers::list`."""

    id: str = ""
    name: str | None = None
    namespace: str | None = None
    runtime: str | None = None
    version: str | None = None
    function_count: int = 0


class TriggerRow(msgspec.Struct, frozen=True):
    """A row of `engine::registered-triggers::list`."""

    id: str
    trigger_type: str
    function_id: str
    worker_name: str | None = None
    config: Any = None


class _Functions(msgspec.Struct):
    functions: list[FunctionRow] = []


class _Workers(msgspec.Struct):
    workers: list[WorkerRow] = []


class _Triggers(msgspec.Struct):
    registered_triggers: list[TriggerRow] = []


class _Event(msgspec.Struct):
    scope: str = ""
    key: str = ""


class Unanswered(Exception):
    """The engine did not answer a question, or not as an engine does."""


class _Listener:
    """The owner of a link that has at most one function: one that counts the changes of state."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.changes: Counter[tuple[str, str]] = Counter()

    def called(self, link: Link, message: client.Invoked) -> None:
        """A change: count it, and answer at once, so that nobody waits for us."""
        try:
            event = msgspec.json.decode(bytes(message.data), type=_Event)
        except msgspec.DecodeError:
            event = _Event()
        self.changes[event.scope, event.key] += 1
        answer = {
            "type": "invocationresult",
            "invocation_id": message.invocation_id,
            "function_id": message.function_id,
            "result": None,
        }
        link.send(msgspec.json.encode(answer))

    def delivered(self, link: Link, message: client.TriggerDelivered) -> None:
        """We provide no trigger type."""

    def withdrawn(self, message: WithdrawTrigger) -> None:
        """We hold no trigger."""

    def observed(
        self, link: Link, function: FunctionName, revision: int, views: Sequence[ObserverView]
    ) -> None:
        """We have no function to observe."""

    def unobserved(self, observer_id: str) -> None:
        """Nor an observer."""


class Probe:
    """What was met, and what the engine says of itself."""

    def __init__(
        self,
        answer: ConnectOutcome,
        detail: str = "",
        link: Link | None = None,
        listener: _Listener | None = None,
        seconds: float = 0.0,
    ) -> None:
        """`seconds`: how long an answer may take."""
        self._seconds = seconds
        self.answer = answer
        self.detail = detail
        self._link = link
        self._listener = listener
        self._said: dict[str, Any] = {}
        self._mute: str | None = None
        """What was not answered: nothing more is asked then."""

    @property
    def is_engine(self) -> bool:
        """True when it speaks as an engine does."""
        return self.answer in (ConnectOutcome.REACHED, ConnectOutcome.REFUSED)

    @property
    def reached(self) -> bool:
        """True when an engine greeted us."""
        return self.answer is ConnectOutcome.REACHED

    async def functions(self) -> list[FunctionRow]:
        """Everything that can be called."""
        asked = {"include_internal": True}
        return (await self._rows("engine::functions::list", asked, _Functions)).functions

    async def workers(self) -> list[WorkerRow]:
        """Who is connected, without us, and the parts of the engine itself."""
        rows = (await self._rows("engine::workers::list", {}, _Workers)).workers
        own = None if self._link is None or self._link.identity is None else self._link.identity[0]
        return [row for row in rows if row.id != own]

    async def triggers(self) -> list[TriggerRow]:
        """The triggers that there are."""
        asked = {"include_internal": True}
        rows = await self._rows("engine::registered-triggers::list", asked, _Triggers)
        return [row for row in rows.registered_triggers if not row.function_id.startswith(OWN)]

    async def ask(self, function_id: str, payload: object) -> bytes | Failure:
        assert self._link is not None, "asked without a link"
        if self._mute is not None:
            raise Unanswered(f"{self._mute} was not answered in time")
        try:
            return await in_time(self._link.ask(function_id, payload), self._seconds)
        except (Refused, TimeoutError, ConnectionError):
            self._mute = self._mute or function_id
            raise Unanswered(f"{function_id} was not answered within {self._seconds:g} s") from None

    async def changes(self, scopes: Sequence[str | None], *, seconds: float) -> Counter[tuple[str, str]]:
        """How often each key of these scopes changes in so many seconds (None: of all scopes).

        For that time a function of ours listens, as any worker's may; it goes with the connection.
        """
        assert self._link is not None, "listened without a link"
        assert self._listener is not None
        function_id = f"{OWN}{fresh_id()}"
        # Who has said its name waits for no grace; two of one name would be refused.
        self._link.send(client.identify(function_id, __version__, []))
        self._link.send(msgspec.json.encode({"type": "registerfunction", "id": function_id}))
        for scope in scopes:
            trigger = {
                "type": "registertrigger",
                "id": fresh_id(),
                "trigger_type": "state",
                "function_id": function_id,
                "config": {} if scope is None else {"scope": scope},
            }
            self._link.send(msgspec.json.encode(trigger))
        await self.ask("engine::functions::list", {"prefix": function_id})  # what was sent before is done
        self._listener.changes.clear()
        await asyncio.sleep(seconds)
        return self._listener.changes

    def leave(self) -> None:
        if self._link is not None:
            self._link.leave()

    async def _rows(self, function_id: str, payload: object, kind: type[T]) -> T:
        if function_id not in self._said:
            answer = await self.ask(function_id, payload)
            if isinstance(answer, Failure):
                raise Unanswered(f"{function_id} is refused: {answer.code}: {answer.message}")
            try:
                self._said[function_id] = msgspec.json.decode(answer, type=kind)
            except msgspec.DecodeError as error:
                raise Unanswered(f"{function_id} is answered in another form: {error}") from None
        said: T = self._said[function_id]
        return said


async def probe(url: str, *, token: str | None, seconds: float) -> Probe:
    """Connect and be greeted; never raises for what is there."""
    listener = _Listener(url)
    try:
        link = await in_time(connect(listener, token=token), seconds)
    except Refused as error:
        return Probe(ConnectOutcome.REFUSED, error.message)
    except TimeoutError:
        return Probe(ConnectOutcome.SILENT, f"no greeting within {seconds:g} s")
    except socket.gaierror as error:
        return Probe(ConnectOutcome.NO_SUCH_HOST, error.strerror or str(error))
    except OSError as error:
        if error.errno is None:
            return Probe(ConnectOutcome.FOREIGN, str(error))
        return Probe(ConnectOutcome.CLOSED, os.strerror(error.errno))
    except UNREACHED as error:
        return Probe(ConnectOutcome.FOREIGN, str(error))
    return Probe(ConnectOutcome.REACHED, link=link, listener=listener, seconds=seconds)
