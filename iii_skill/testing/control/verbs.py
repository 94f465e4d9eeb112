"""Verbs: what a test may ask of an engine through the control port, with the shape of each request."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple, TypeAlias, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from iii_skill.engine.python_functions import decoded
from iii_skill.testing.control.engine import ControlledEngine
from iii_skill.testing.control.refusals import bad_request, not_so
from iii_skill.testing.control.rows import call_row, event_row, raw
from iii_skill.testing.engine.events import ANY
from iii_skill.testing.engine.faults import Faults
from iii_skill.testing.engine.recorder import RecordedCall
from iii_skill.testing.engine.report import readable, transcript

Within: TypeAlias = Annotated[float, Meta(ge=0.0, le=600.0)]
"""Seconds that something may take."""
Contents: TypeAlias = dict[str, dict[str, Raw]]


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """What a verb takes."""


class Nothing(Asked):
    """Nothing."""


class Scope(Asked):
    """A scope."""

    scope: str


class Key(Asked):
    """A key of a scope."""

    scope: str
    key: str


class Write(Asked):
    """A value for a key."""

    scope: str
    key: str
    value: Raw


class Values(Asked):
    """Values by scope and key."""

    contents: Contents


class EventsWanted(Asked):
    """Which events: what is left out is any; `after` is the number of an event or call before it."""

    scope: str | None = None
    key: str | None = None
    type: str | None = None
    value: Raw | UnsetType = UNSET
    after: int | None = None
    within: Within = 5.0


class CallsWanted(Asked):
    """Which calls: `function` is an id or a pattern (`state::*`)."""

    function: str = "*"
    payload: Raw | UnsetType = UNSET
    count: Annotated[int, Meta(ge=1)] = 1
    within: Within = 5.0


class FaultNumber(Asked):
    """A fault."""

    fault: int


class Settled(Asked):
    """How long it may take."""

    within: Within = 10.0


class Ahead(Asked):
    """Seconds by which the clock moves forward."""

    seconds: Annotated[float, Meta(ge=0.0, le=1e9)]


class Called(Asked):
    """A call of a function."""

    function: str
    payload: Raw = Raw(b"{}")
    within: Within = 30.0


class ReadyWanted(Asked):
    """A worker that was started: its process, what was registered before, and what is waited for."""

    name: str = "the worker"
    pid: Annotated[int, Meta(ge=1)] | None = None
    before: list[str] = []
    functions: list[str] | None = None
    within: Within = 30.0


class Verb(NamedTuple):
    """`run` gives what the answer's `result` is; UNSET: none."""

    asked: type[msgspec.Struct]
    run: Callable[[ControlledEngine, Any], Awaitable[object]]
    waits: bool = False
    """True when it ends as soon as nobody waits for it any more."""


async def _get(engine: ControlledEngine, asked: Key) -> object:
    return raw(await engine.state.get(asked.scope, asked.key))


async def _set(engine: ControlledEngine, asked: Write) -> None:
    await engine.state.set(asked.scope, asked.key, bytes(asked.value))


async def _delete(engine: ControlledEngine, asked: Key) -> None:
    await engine.state.delete(asked.scope, asked.key)


async def _list(engine: ControlledEngine, asked: Scope) -> object:
    return {key: Raw(value) for key, value in (await engine.state.list(asked.scope)).items()}


async def _scopes(engine: ControlledEngine, _asked: Nothing) -> object:
    return await engine.state.scopes()


async def _load(engine: ControlledEngine, asked: Values) -> None:
    await engine.state.load(_plain(asked.contents))


async def _snapshot(engine: ControlledEngine, _asked: Nothing) -> object:
    found = await engine.state.snapshot()
    return {scope: {key: Raw(value) for key, value in values.items()} for scope, values in found.items()}


async def _restore(engine: ControlledEngine, asked: Values) -> None:
    await engine.state.restore(_plain(asked.contents))


def _plain(contents: Contents) -> dict[str, dict[str, bytes]]:
    return {scope: {key: bytes(value) for key, value in values.items()} for scope, values in contents.items()}


def _wanted(asked: EventsWanted) -> dict[str, Any]:
    fields = {"scope": asked.scope, "key": asked.key, "type": asked.type, "after": asked.after}
    return fields | {"value": ANY if isinstance(asked.value, UnsetType) else decoded(bytes(asked.value))}


async def _events(engine: ControlledEngine, asked: EventsWanted) -> object:
    return [event_row(event) for event in engine.events.of(**_wanted(asked))]


async def _expect_event(engine: ControlledEngine, asked: EventsWanted) -> object:
    wanted = _wanted(asked)
    found = await engine.found(lambda: next(iter(engine.events.of(**wanted)), None), asked.within)
    if found is None:
        missed = engine.events.missed(**wanted, within=asked.within)
        raise not_so("NOT_FULFILLED", str(missed))
    return event_row(found)


def _payload(asked: CallsWanted) -> Any:
    return ANY if isinstance(asked.payload, UnsetType) else decoded(bytes(asked.payload))


async def _calls(engine: ControlledEngine, asked: CallsWanted) -> object:
    payload = _payload(asked)
    if asked.function == "*" and payload is ANY:
        return [call_row(call) for call in engine.calls.all]
    return [call_row(call) for call in engine.calls.of(asked.function, payload=payload)]


async def _expect_call(engine: ControlledEngine, asked: CallsWanted) -> object:
    payload, count = _payload(asked), asked.count

    def look() -> RecordedCall | None:
        found = engine.calls.answered(asked.function, payload=payload)
        return found[count - 1] if len(found) >= count else None

    found = await engine.found(look, asked.within)
    if found is None:
        missed = engine.calls.missed(asked.function, payload=payload, count=count, within=asked.within)
        raise not_so("NOT_FULFILLED", str(missed))
    return call_row(found)


async def _hits(engine: ControlledEngine, asked: FaultNumber) -> object:
    return engine.fault(asked.fault).hits


async def _stop(engine: ControlledEngine, asked: FaultNumber) -> None:
    engine.fault(asked.fault).stop()


async def _settle(engine: ControlledEngine, asked: Settled) -> None:
    await engine.settle(asked.within)


async def _now(engine: ControlledEngine, _asked: Nothing) -> object:
    return time.time() + engine.host.ahead


async def _advance(engine: ControlledEngine, asked: Ahead) -> None:
    await engine.host.advance(asked.seconds)


async def _call(engine: ControlledEngine, asked: Called) -> object:
    return raw(await engine.host.call_exact(asked.function, bytes(asked.payload), asked.within))


async def _functions(engine: ControlledEngine, _asked: Nothing) -> object:
    return await engine.functions()


async def _ready(engine: ControlledEngine, asked: ReadyWanted) -> object:
    return await engine.ready(asked.name, set(asked.before), asked.pid, asked.functions, asked.within)


async def _transcript(engine: ControlledEngine, _asked: Nothing) -> object:
    return transcript(engine.host.recorder)


async def _report(engine: ControlledEngine, _asked: Nothing) -> object:
    return readable(engine.host.recorder, engine.host.faults.missed)


def _fault_verbs() -> dict[str, Verb]:
    """Every method of Faults, with the arguments that it takes: a new one is a new verb."""
    return {
        f"faults/{name}": _fault_verb(name, method)
        for name, method in inspect.getmembers(Faults, inspect.isfunction)
        if not name.startswith("_")
    }


def _fault_verb(name: str, method: Callable[..., Any]) -> Verb:
    hints = get_type_hints(method)
    fields: list[Any] = []
    for argument in list(inspect.signature(method).parameters.values())[1:]:
        wanted = (argument.name, hints[argument.name])
        fields.append(wanted if argument.default is argument.empty else (*wanted, argument.default))
    asked = msgspec.defstruct(name, fields, bases=(Asked,), kw_only=True)

    async def run(engine: ControlledEngine, asked: msgspec.Struct) -> object:
        arguments = {field: getattr(asked, field) for field in asked.__struct_fields__}
        return await engine.strike(getattr(engine.faults, name), arguments)

    return Verb(asked, run)


VERBS: dict[str, Verb] = {
    "state/get": Verb(Key, _get),
    "state/set": Verb(Write, _set),
    "state/delete": Verb(Key, _delete),
    "state/list": Verb(Scope, _list),
    "state/scopes": Verb(Nothing, _scopes),
    "state/load": Verb(Values, _load),
    "state/snapshot": Verb(Nothing, _snapshot),
    "state/restore": Verb(Values, _restore),
    "events/of": Verb(EventsWanted, _events),
    "events/expect": Verb(EventsWanted, _expect_event, waits=True),
    "calls/of": Verb(CallsWanted, _calls),
    "calls/expect": Verb(CallsWanted, _expect_call, waits=True),
    **_fault_verbs(),
    "fault/hits": Verb(FaultNumber, _hits),
    "fault/stop": Verb(FaultNumber, _stop),
    "settle": Verb(Settled, _settle, waits=True),
    "clock/now": Verb(Nothing, _now),
    "clock/advance": Verb(Ahead, _advance),
    "call": Verb(Called, _call, waits=True),
    "functions": Verb(Nothing, _functions),
    "ready": Verb(ReadyWanted, _ready, waits=True),
    "transcript": Verb(Nothing, _transcript),
    "report": Verb(Nothing, _report),
}
"""By the rest of the path behind `/engines/ID/`."""


def read(asked: type[msgspec.Struct], body: bytes) -> Any:
    """The request of a verb; Refused says what is wrong with it."""
    try:
        return msgspec.json.decode(body, type=asked)
    except msgspec.MsgspecError as error:
        raise bad_request(f"{error}.") from None
