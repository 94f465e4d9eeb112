"""A call that was made, as observers see it: its parts, and the payload that a target gets of them."""

from __future__ import annotations

from typing import Any

import msgspec

from iii_skill.calls import Failure, Outcome, Result
from iii_skill.engine.functions import Function
from iii_skill.observers.observer import Observer
from iii_skill.protocol.messages import Capture, Deliver, Outcomes

_encode = msgspec.json.Encoder().encode
_NULL = b"null"


class Observation(msgspec.Struct):
    """A call and its outcome. Parts are encoded JSON; one that is None is absent, b"null" is a value."""

    function: Function
    invocation_id: str
    started_at_ms: int
    duration_ms: float = 0.0
    success: bool = True
    input: bytes | None = None
    output: bytes | None = None
    error: bytes | None = None
    caller: bytes | None = None
    metadata: bytes | None = None
    depth: int = 0
    traceparent: str | None = None
    baggage: str | None = None
    decoded: dict[str, Any] | None = None
    """Parts that a filter asked for."""

    def end(self, outcome: Outcome) -> None:
        """It was answered."""
        if type(outcome) is Result:
            self.output = _NULL if outcome.value is None else outcome.value
            return
        assert isinstance(outcome, Failure)
        self.success = False
        error = {"code": outcome.code, "message": outcome.message}
        if outcome.stacktrace is not None:
            error["stacktrace"] = outcome.stacktrace
        self.error = _encode(error)

    def get(self, root: str, default: Any) -> Any:
        """The decoded part, as filters read it; each is decoded once, and only when a filter asks."""
        if self.decoded is None:
            self.decoded = {}
        elif root in self.decoded:
            return self.decoded[root]
        part = self.part(root)
        if part is None:
            return default
        value = self.decoded[root] = msgspec.json.decode(part)
        return value

    def part(self, name: str) -> bytes | None:
        """An encoded part."""
        part: bytes | None = getattr(self, name)
        return part

    def concerns(self, on: Outcomes) -> bool:
        """Whether it is one of the outcomes that are asked for."""
        return on is Outcomes.COMPLETE or (on is Outcomes.SUCCESS) is self.success


def payload(observation: Observation, observer: Observer, activation_id: str) -> bytes:
    """What the target of the observer gets."""
    deliver = observer.definition.deliver
    if deliver is Deliver.INPUT:
        return observation.input or _NULL
    if deliver is Deliver.OUTPUT:
        return observation.output or _NULL
    head = {
        "observer_id": observer.id,
        "activation_id": activation_id,
        "function_id": observation.function.id,
        "namespace": observation.function.namespace,
        "invocation_id": observation.invocation_id,
        "status": "success" if observation.success else "error",
    }
    parts = [_encode(head)[:-1]]
    for name in Capture:
        part = observation.part(name.value) if name in observer.definition.capture else None
        if part is not None:
            parts.append(b',"%b":%b' % (name.value.encode(), part))
    parts.append(
        b',"started_at_ms":%d,"duration_ms":%b}'
        % (observation.started_at_ms, _encode(observation.duration_ms))
    )
    return b"".join(parts)


def activation(observer: Observer, activation_id: str) -> bytes:
    """What says to the target that it is called for the observer."""
    return b'{"observer_id":%b,"activation_id":"%b"}' % (observer.id_json, activation_id.encode())


def engine_as_caller(function_id_json: bytes, invocation_id: str) -> bytes:
    """Who calls targets, and for which call."""
    return b'{"worker_name":"iii-engine","function_id":%b,"invocation_id":%b}' % (
        function_id_json,
        _encode(invocation_id),
    )
