"""What the functions of queues take, and what of it is refused with the engine's code and text."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from iii_skill.errors import CallerError
from iii_skill.serde.reader import Shape, anything, optional_count, optional_string, read_input, string

from .settings import JobLimits

NULL = msgspec.Raw(b"null")


class EnqueueInput(msgspec.Struct, frozen=True):
    """What the engine hands to whoever provides queues."""

    queue: str
    function_id: str
    messageReceiptId: str
    data: msgspec.Raw = NULL
    namespace: str | None = None
    traceparent: str | None = None
    baggage: str | None = None


_enqueue_input = msgspec.json.Decoder(EnqueueInput).decode

_ENQUEUE = Shape(
    "EnqueueInput",
    {
        "queue": string,
        "function_id": string,
        "messageReceiptId": string,
        "data": anything,
        "namespace": optional_string,
        "traceparent": optional_string,
        "baggage": optional_string,
    },
    {"data": NULL, "namespace": None, "traceparent": None, "baggage": None},
)
PUBLISH = Shape("QueueInput", {"topic": string, "data": anything}, aliases={"queue": "topic"})
REDRIVE = Shape("RedriveInput", {"queue": string}, aliases={"topic": "queue"})
_MESSAGE = Shape("RedriveMessageInput", {"queue": string, "message_id": string}, aliases={"topic": "queue"})
STATS = Shape("TopicInput", {"topic": optional_string}, {"topic": None}, {"queue": "topic"})
DEFINE = Shape("DefineInput", {"queue": string, "config": anything})
LETTERS = Shape(
    "DlqMessagesInput",
    {"topic": optional_string, "offset": optional_count, "limit": optional_count},
    {"topic": None, "offset": None, "limit": None},
    {"queue": "topic"},
)


class Refusal(CallerError):
    """A call that lacks what it needs, with the engine's code and text."""


def enqueue_request(payload: bytes) -> EnqueueInput:
    """The job that a call brings."""
    try:
        return _enqueue_input(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return EnqueueInput(**read_input("engine::queue::enqueue", _ENQUEUE, payload))


def group_of(given: EnqueueInput, limits: JobLimits) -> str | None:
    """The group of a job of a fifo queue: the value of its field, as text."""
    field = limits.group_field
    if not limits.fifo or field is None:
        return None
    data = msgspec.json.decode(given.data)
    if not isinstance(data, Mapping) or field not in data:
        text = f"FIFO queue '{given.queue}' requires field '{field}' in data, but it was not found"
        raise Refusal(text, code="enqueue_error")
    value = data[field]
    if value is None:
        text = f"FIFO queue '{given.queue}': field '{field}' must not be null"
        raise Refusal(text, code="enqueue_error")
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def message_of(function_id: str, payload: bytes) -> tuple[str, str]:
    """The queue and the id of the message that a call names."""
    given = read_input(function_id, _MESSAGE, payload)
    need(given["queue"], "queue_not_set", "Queue name is required")
    need(given["message_id"], "message_id_not_set", "Message ID is required")
    return given["queue"], given["message_id"]


def need(value: object, code: str, message: str) -> None:
    """Refuse the call if the value is empty."""
    if not value:
        raise Refusal(message, code=code)
