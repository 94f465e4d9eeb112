"""Triggers of a type that a function has taken over become observers of it."""

from __future__ import annotations

from typing import Any

import pytest
from support.observing import OLD, V1, Observing, Party

TYPE = {"type": "registertriggertype", "id": "my:type", "description": "d"}
FORMAT = {"type": "object"}


def taken_over(scene: Observing) -> Party:
    """A worker whose function stands for the trigger type `my:type`."""
    host = scene.party("host", features=V1)
    host.register("h::on-my", observe={"legacy_trigger_type": "my:type", "args_format": FORMAT})
    return host


async def test_a_trigger_of_an_old_worker_becomes_an_observer(scene: Observing) -> None:
    user = scene.party("user", features=OLD)
    user.register("u::f")
    user.bind("my:type", "u::f", {"x": 1}, id="tr1", metadata={"m": 1})
    host = taken_over(scene)
    (told,) = host.take("functionregistered")
    assert told["observers"] == []
    (added,) = host.take("observeradded")
    assert added["observer"] == {
        "id": "tr1",
        "args": {"x": 1},
        "filters": {},
        "target": "u::f",
        "capture": ["input", "output", "caller"],
        "on": "success",
        "legacy": {"trigger_type": "my:type", "config": {"x": 1}},
    }
    ack = {"type": "observerack", "function_id": "h::on-my", "id": "tr1", "revision": added["revision"]}
    host.send(ack)
    host.report("h::on-my", ["tr1"], input={"event": 1})
    (call,) = user.calls()
    assert (call["data"]["input"], call["metadata"]) == ({"event": 1}, {"m": 1})
    assert user.take("observeresult", "observerstatechanged") == [], "it knows of no such messages"
    user.send({"type": "unregistertrigger", "id": "tr1"})
    assert [m["id"] for m in host.take("observerremoved")] == ["tr1"]


async def test_one_that_comes_later_is_taken_at_once_and_ends_with_its_worker(scene: Observing) -> None:
    host = taken_over(scene)
    user = scene.party("user", features=OLD)
    user.bind("my:type", "u::f", None, id="tr1")
    assert host.ack() == ["tr1"]
    user.leave()
    assert [m["id"] for m in host.take("observerremoved")] == ["tr1"]
    assert len(scene.observers) == 0


async def test_a_live_provider_comes_first(scene: Observing) -> None:
    host, user, provider = taken_over(scene), scene.party("user", features=OLD), scene.party("provider")
    user.bind("my:type", "u::f", {}, id="tr1")
    assert host.ack() == ["tr1"]
    provider.send(TYPE)
    assert [m["id"] for m in provider.take("registertrigger")] == ["tr1"]
    assert [m["id"] for m in host.take("observerremoved")] == ["tr1"]
    provider.leave()
    assert host.ack() == ["tr1"]


async def test_a_host_that_leaves_parks_the_triggers_for_the_next_one(scene: Observing) -> None:
    host, user = taken_over(scene), scene.party("user", features=OLD)
    user.bind("my:type", "u::f", {"x": 1}, id="tr1")
    host.leave()
    assert len(scene.observers) == 0
    assert taken_over(scene).ack() == ["tr1"]


@pytest.mark.parametrize("config", [[1], "text"])
async def test_settings_of_any_shape_are_args(scene: Observing, config: Any) -> None:
    host, user = taken_over(scene), scene.party("user", features=OLD)
    user.bind("my:type", "u::f", config, id="tr1")
    (added,) = host.take("observeradded")
    assert added["observer"]["args"] == config


async def test_what_the_function_refuses_is_refused(scene: Observing) -> None:
    host = scene.party("host", features=V1)
    host.register("h::on-my", observe={"legacy_trigger_type": "my:type"})
    user = scene.party("user", features=OLD)
    user.bind("my:type", "u::f", {"x": 1}, id="tr1")
    (refused,) = user.take("triggerregistrationresult")
    assert refused["error"]["code"] == "INVALID_ARGS"
