"""The protocol core: every rule without a socket."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from iii_skill.protocol.connection import Connection
from iii_skill.protocol.messages import (
    InvocationResult,
    InvokeFunction,
    Observe,
    RegisterFunction,
    RegisterTrigger,
    Unobserve,
    UnreadableObserve,
    UnregisterTrigger,
)


def receive(connection: Connection, message: dict[str, Any] | str | bytes) -> list[Any]:
    text = json.dumps(message) if isinstance(message, dict) else message
    return list(connection.receive_text(text.encode() if isinstance(text, str) else text))


def sent(connection: Connection) -> list[dict[str, Any]]:
    return [json.loads(text) for text in connection.texts_to_send()]


@pytest.fixture
def connection() -> Connection:
    connection = Connection()
    connection.texts_to_send()
    return connection


def identified() -> Connection:
    connection = Connection()
    connection.release()
    connection.texts_to_send()
    return connection


def call(**fields: Any) -> dict[str, Any]:
    return {"type": "invokefunction", "function_id": "f", "data": {}, **fields}


def test_the_host_speaks_first() -> None:
    connection = Connection()
    (greeting,) = sent(connection)
    assert greeting == {
        "type": "workerregistered",
        "worker_id": connection.worker_id,
        "reattach_token": connection.token,
        "features": ["observe.v1", "observe.v2", "local-dispatch.v1"],
    }
    assert uuid.UUID(connection.worker_id) != uuid.UUID(connection.token)


def test_a_ping_is_answered_and_a_pong_is_not(connection: Connection) -> None:
    assert receive(connection, {"type": "ping"}) == []
    assert sent(connection) == [{"type": "pong"}]
    assert receive(connection, {"type": "pong"}) == []
    assert sent(connection) == []


def test_registrations_wait_for_the_namespace_and_keep_their_order(connection: Connection) -> None:
    assert receive(connection, {"type": "registerfunction", "id": "a::f"}) == []
    trigger = {"type": "registertrigger", "id": "t", "trigger_type": "x", "function_id": "a::f", "config": {}}
    assert receive(connection, trigger) == []
    assert receive(connection, {"type": "unregistertrigger", "id": "t"}) == []
    messages = receive(
        connection, call(function_id="engine::workers::register", data={"namespace": "orders", "name": "w"})
    )
    assert [type(m) for m in messages] == [
        InvokeFunction,
        RegisterFunction,
        RegisterTrigger,
        UnregisterTrigger,
    ]
    assert connection.namespace == "orders"


@pytest.mark.parametrize("data", [{}, {"namespace": None}, {"namespace": " "}, {"namespace": 5}, []])
def test_without_a_namespace_it_is_default(connection: Connection, data: Any) -> None:
    receive(connection, call(function_id="engine::workers::register", data=data))
    assert connection.namespace == "default"


def test_a_second_identification_does_not_move_the_worker(connection: Connection) -> None:
    receive(connection, call(function_id="engine::workers::register", data={"namespace": "a"}))
    receive(connection, call(function_id="engine::workers::register", data={"namespace": "b"}))
    assert connection.namespace == "a"


def test_after_the_grace_registrations_go_into_default(connection: Connection) -> None:
    receive(connection, {"type": "registerfunction", "id": "a::f"})
    assert [type(m) for m in connection.release()] == [RegisterFunction]
    assert connection.namespace == "default"
    assert [type(m) for m in receive(connection, {"type": "registerfunction", "id": "a::g"})] == [
        RegisterFunction
    ]
    assert list(connection.release()) == []


def test_calls_and_answers_do_not_wait_for_the_namespace(connection: Connection) -> None:
    assert [type(m) for m in receive(connection, call())] == [InvokeFunction]
    answer = {"type": "invocationresult", "invocation_id": str(uuid.uuid4()), "function_id": "f"}
    assert [type(m) for m in receive(connection, answer)] == [InvocationResult]


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("D82D3A10-1111-4222-8333-444455556666", "d82d3a10-1111-4222-8333-444455556666"),
        ("d82d3a10111142228333444455556666", "d82d3a10-1111-4222-8333-444455556666"),
    ],
)
def test_invocation_ids_are_normalised(given: str, normal: str) -> None:
    (message,) = receive(identified(), call(invocation_id=given))
    assert message.invocation_id == normal


def test_a_null_invocation_id_is_a_call_without_an_answer() -> None:
    (message,) = receive(identified(), call(invocation_id=None))
    assert message.invocation_id is None


def test_an_id_that_is_no_uuid_is_answered_and_not_called() -> None:
    connection = identified()
    assert receive(connection, call(invocation_id="abc")) == []
    (answer,) = sent(connection)
    assert answer["invocation_id"] == "abc"
    assert answer["error"]["code"] == "invalid_message"


ID = "d82d3a10-1111-4222-8333-444455556666"

MALFORMED = {
    "trailing comma": '{"type":"invokefunction","invocation_id":"%s","function_id":"f","data":{"a":1,}}' % ID,
    "NaN": '{"type":"invokefunction","invocation_id":"%s","function_id":"f","data":NaN}' % ID,
    "no data": '{"type":"invokefunction","invocation_id":"%s","function_id":"f"}' % ID,
    "no function": '{"type":"invokefunction","invocation_id":"%s","data":{}}' % ID,
    "unknown action": '{"action":{"type":"x"},"type":"invokefunction","invocation_id":"%s","function_id":"f",'
    '"data":{}}' % ID,
    "action without type": '{"action":{},"type":"invokefunction","invocation_id":"%s","data":{}}' % ID,
    "number as function": '{"type":"invokefunction","invocation_id":"%s","function_id":5,"data":{}}' % ID,
    "cut off": '{"type":"invokefunction","invocation_id":"%s","function_id":"f","data":{"a":' % ID,
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_call_gets_an_error_reply_and_is_not_made(text: str) -> None:
    connection = identified()
    assert receive(connection, text) == []
    (answer,) = sent(connection)
    assert answer["type"] == "invocationresult"
    assert answer["invocation_id"] == ID
    assert answer["error"]["code"] == "invalid_message"
    assert connection.warnings


def test_an_id_inside_a_payload_is_not_taken_for_the_calls_own() -> None:
    connection = identified()
    other = "00000000-0000-4000-8000-000000000000"
    text = '{"data":{"invocation_id":"%s"},"type":"invokefunction","invocation_id":"%s","function_id":5}' % (
        other,
        ID,
    )
    receive(connection, text)
    assert sent(connection)[0]["invocation_id"] == ID


UNREADABLE = [
    b'"result":NaN', b'"result":{"avg":-Infinity}', b'"result":"\\ud800"', b'"result":01',
    b'"result":' + b"[" * 100_000 + b"]" * 100_000, b'"result":{"a":1,}',
    b'"error":"text"', b'"error":{"code":"x"}',
    b'"result":{"type":"invokefunction","invocation_id":"00000000-0000-4000-8000-000000000000","x":NaN}',
]  # fmt: skip


@pytest.mark.parametrize("rest", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_passed_on_as_an_error(rest: bytes) -> None:
    connection = identified()
    text = b'{"type":"invocationresult","invocation_id":"%b","function_id":"f::g",%b}' % (ID.encode(), rest)
    (message,) = connection.receive_text(text)
    assert message.invocation_id == ID
    assert message.error.code == "payload_unreadable"
    assert message.error.message.startswith("The answer of f::g could not be read")
    assert sent(connection) == []
    assert len(connection.warnings) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "null",
        "{}",
        '{"type":"nope"}',
        '{"type":5}',
        '{"type":"registerfunction"}',
        '{"type":"registertrigger","id":"t","trigger_type":"x","function_id":"f"}',
        '{"type":"invocationresult","result":NaN}',
        "[" * 100_000,
    ],
)
def test_any_other_malformed_text_is_dropped_with_a_warning(text: str) -> None:
    connection = identified()
    assert receive(connection, text) == []
    assert sent(connection) == []
    assert len(connection.warnings) == 1


def test_unknown_fields_and_nulls_of_optional_fields_are_ignored() -> None:
    (message,) = receive(
        identified(),
        call(
            zzz=[1],
            action=None,
            metadata=None,
            namespace=None,
            traceparent=None,
            baggage=None,
            invocation_id=ID,
        ),
    )
    assert message.invocation_id == ID
    assert bytes(message.metadata) == b"null"


def test_payloads_keep_their_bytes() -> None:
    (message,) = receive(
        identified(),
        '{"type":"invokefunction","function_id":"f","data":{"n":12345678901234567890123,"f":1.50}}',
    )
    assert bytes(message.data) == b'{"n":12345678901234567890123,"f":1.50}'


OBSERVE = {"type": "observe", "id": "o", "source": {"function_id": "f"}, "target": {"function_id": "g"}}


def test_observers_are_held_back_behind_the_functions_that_they_name() -> None:
    connection = Connection()
    texts: list[dict[str, Any]] = [
        {"type": "registerfunction", "id": "f"},
        OBSERVE,
        {"type": "observe", "id": "bad"},
        {"type": "unobserve", "id": "o"},
    ]
    assert [receive(connection, text) for text in texts] == [[], [], [], []]
    kinds = [type(message) for message in connection.release()]
    assert kinds == [RegisterFunction, Observe, UnreadableObserve, Unobserve]


@pytest.mark.parametrize(
    "fault",
    [
        {"source": 1},
        {"source": {"function_id": "f", "on": "sometimes"}},
        {"source": {"function_id": "f", "capture": ["inputs"]}},
        {"target": {}},
        {"max_fires": "many"},
        {"max_in_flight": 1.5},
    ],
)
def test_an_observe_that_cannot_be_read_is_answered_in_its_turn(fault: dict[str, Any]) -> None:
    (message,) = receive(identified(), {**OBSERVE, **fault})
    assert isinstance(message, UnreadableObserve)
    assert message.id == "o"
    assert message.reason


def test_an_observe_without_an_id_is_dropped() -> None:
    connection = identified()
    assert receive(connection, '{"type":"observe","id":5}') == []
    assert receive(connection, '{"type":"observe","id":"o"') == []
    assert len(connection.warnings) == 2


def test_null_is_absent_in_what_newer_workers_send() -> None:
    nulls = dict.fromkeys(("args", "filters", "capture", "on", "deliver", "namespace"))
    source = {"function_id": "f", **nulls}
    more = dict.fromkeys(("metadata", "max_fires", "expires_in_ms", "max_in_flight"))
    (message,) = receive(identified(), {**OBSERVE, "source": source, **more})
    assert isinstance(message, Observe)
    assert (message.source.capture, message.max_fires) == (None, None)
    call = {"type": "invokefunction", "function_id": "f", "data": {}, "caller": None, "activation": None}
    (invoked,) = receive(identified(), {**call, "observe_depth": None})
    assert invoked.activation is None


def test_statistics_are_read_and_left_alone() -> None:
    connection = identified()
    receive(connection, {"type": "localinvocationstats", "window_ms": 1, "functions": []})
    assert sent(connection) == []
    assert connection.warnings == []


def test_a_long_call_that_cannot_be_read_is_answered_by_what_stands_at_its_ends() -> None:
    connection = identified()
    text = '{"type":"invokefunction","invocation_id":"%s","function_id":"f","data":["%s",NaN]}' % (
        ID,
        "x" * 1_000_000,
    )
    assert receive(connection, text.encode()) == []
    (answer,) = sent(connection)
    assert (answer["invocation_id"], answer["function_id"]) == (ID, "f")
    assert answer["error"]["code"] == "invalid_message"
