"""Names that another live worker holds: refused, kept, and handed over when it goes, oldest first."""

from __future__ import annotations

import asyncio

import pytest
from support.peers import Peer

from iii_skill.engine.claims import MOST, Claims
from iii_skill.engine.engine import Engine
from iii_skill.introspection.functions import add_engine_functions


@pytest.fixture
def engine() -> Engine:
    engine = Engine()
    add_engine_functions(engine)
    return engine


def owner_of(engine: Engine, function_id: str) -> object:
    function = engine.functions.lookup(function_id, None)
    return None if function is None else function.owner


async def test_the_successor_of_a_dead_connection_gets_its_functions(engine: Engine) -> None:
    dead, successor = Peer(engine), Peer(engine)
    dead.register("w::f")
    successor.register("w::f")
    assert [m["type"] for m in successor.received()] == ["registrationrejected"]
    assert owner_of(engine, "w::f") is dead.worker
    dead.leave()
    assert owner_of(engine, "w::f") is successor.worker
    caller = Peer(engine)
    caller.call("w::f", {"a": 1})
    assert [m["function_id"] for m in successor.received()] == ["w::f"]


async def test_the_oldest_claim_comes_first_and_a_claimant_that_left_is_passed_over(engine: Engine) -> None:
    first, second, third, fourth = (Peer(engine) for _ in range(4))
    for peer in (first, second, third, fourth):
        peer.register("w::f")
    second.leave()
    first.send({"type": "unregisterfunction", "id": "w::f"})
    assert owner_of(engine, "w::f") is third.worker
    fourth.send({"type": "unregisterfunction", "id": "w::f"})
    third.leave()
    assert owner_of(engine, "w::f") is None


async def test_a_claim_is_the_latest_that_its_worker_made(engine: Engine) -> None:
    first, second = Peer(engine), Peer(engine)
    first.register("w::f")
    second.register("w::f", description="old")
    second.register("w::f", description="new")
    first.leave()
    function = engine.functions.lookup("w::f", None)
    assert function is not None
    assert function.description == "new"


async def test_a_reattached_worker_comes_before_those_that_wait(engine: Engine) -> None:
    old, waiting = Peer(engine), Peer(engine)
    old.register("w::f")
    waiting.register("w::f")
    again = Peer(engine)
    again.send(
        {
            "type": "reattach",
            "previous_worker_id": old.greeting["worker_id"],
            "reattach_token": old.greeting["reattach_token"],
        }
    )
    again.register("w::f")
    assert owner_of(engine, "w::f") is again.worker
    assert not [m for m in again.received() if m["type"] == "registrationrejected"]
    again.leave()
    assert owner_of(engine, "w::f") is waiting.worker


async def test_a_trigger_of_a_reconnected_worker_outlives_its_dead_connection(engine: Engine) -> None:
    provider, dead, again = Peer(engine), Peer(engine), Peer(engine)
    provider.send({"type": "registertriggertype", "id": "my:type", "description": "d"})
    dead.bind("my:type", "w::f", {"n": 1}, id="tr1")
    again.bind("my:type", "w::f", {"n": 2}, id="tr1")
    assert again.received() == []
    assert [m["config"] for m in provider.received()] == [{"n": 1}]
    dead.leave()
    messages = provider.received()
    assert [m["type"] for m in messages] == ["unregistertrigger", "registertrigger"]
    assert messages[1]["config"] == {"n": 2}


async def test_a_trigger_of_another_worker_is_neither_moved_nor_ended(engine: Engine) -> None:
    provider, user, thief = Peer(engine), Peer(engine), Peer(engine)
    provider.send({"type": "registertriggertype", "id": "my:type", "description": "d"})
    user.bind("my:type", "w::f", {"secret": 1}, id="tr1")
    provider.received()
    thief.bind("my:type", "w::f", {"other": 1}, id="tr1")
    thief.send({"type": "unregistertrigger", "id": "tr1"})
    thief.leave()
    assert provider.received() == []
    assert [t.owner_id for t in engine.triggers.placed()] == [user.worker.id]


async def test_claims_are_bounded(engine: Engine) -> None:
    claims: Claims[int, int] = Claims()
    worker = Peer(engine).worker
    for name in range(MOST + 10):
        claims.add(name, worker, name)
    assert claims.next(MOST - 1) == (worker, MOST - 1)
    assert claims.next(MOST + 5) is None


async def test_calls_of_a_caller_that_left_are_not_kept(engine: Engine) -> None:
    provider, caller, other = Peer(engine), Peer(engine), Peer(engine)
    provider.register("w::never")
    for _ in range(5):
        caller.call("w::never", {})
    kept = other.call("w::never", {})
    caller.leave()
    assert list(provider.worker.executing) == [kept]


async def test_calls_that_are_never_answered_end() -> None:
    engine = Engine(call_life_s=0.01)
    add_engine_functions(engine)
    provider, caller = Peer(engine), Peer(engine)
    provider.register("w::never")
    asked = caller.call("w::never", {})
    while not (answers := caller.received()):
        await asyncio.sleep(0.001)
    assert [(one["invocation_id"], one["error"]["code"]) for one in answers] == [(asked, "TIMEOUT")]
    assert provider.worker.executing == {}
    engine.close()


async def test_void_calls_are_not_kept(engine: Engine) -> None:
    provider, caller = Peer(engine), Peer(engine)
    provider.register("w::never")
    caller.call("w::never", {}, void=True)
    assert [m["function_id"] for m in provider.received()] == ["w::never"]
    assert provider.worker.executing == {}


async def test_triggers_are_bounded_in_bytes_and_ended_ones_make_room(engine: Engine) -> None:
    worker = Peer(engine)
    large = {"x": "y" * 900_000}
    for number in range(80):
        worker.bind("my:type", "w::f", large, id=f"tr{number}")
    refused = [message["id"] for message in worker.received()]
    assert 0 < len(refused) < 20
    worker.bind("my:type", "w::f", {}, id=refused[0])
    assert worker.received() == []
    worker.send({"type": "unregistertrigger", "id": "tr0"})
    worker.bind("my:type", "w::f", large, id=refused[1])
    assert worker.received() == []


async def test_a_schema_of_any_size_is_not_kept(engine: Engine) -> None:
    worker = Peer(engine)
    worker.register(
        "w::f", request_format={"type": "object", "description": "d" * 300_000}, description="kept"
    )
    function = engine.functions.lookup("w::f", None)
    assert function is not None
    assert (function.request_schema, function.description) == (None, "kept")
