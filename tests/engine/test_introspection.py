"""The `engine::*` functions that SDKs and consoles call."""

from __future__ import annotations

from typing import Any

import pytest
from support.peers import Peer

from iii_skill.engine.engine import Engine
from iii_skill.introspection.functions import add_engine_functions


@pytest.fixture
async def engine() -> Engine:
    engine = Engine()
    add_engine_functions(engine)
    return engine


@pytest.fixture
async def shop(engine: Engine) -> Peer:
    shop = Peer(engine, name="shop", runtime="node", version="0.22.1", pid=7, os="Linux", zzz=1)
    shop.register("shop::buy", description="Buy", request_format={"type": "object"}, metadata={"m": 1})
    shop.register("shop::hidden", metadata={"internal": True})
    shop.send(
        {"type": "registertriggertype", "id": "sale", "description": "A sale", "call_request_format": {}}
    )
    shop.bind("sale", "shop::buy", {"n": 1}, id="tr1", metadata={"x": 1})
    shop.received()
    return shop


async def test_identification_is_answered(engine: Engine) -> None:
    peer = Peer(engine, identify=False)
    assert peer.ask("engine::workers::register", {"name": "w"})["result"] == {"success": True}


async def test_two_live_workers_of_one_name_are_both_kept_with_a_warning(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Peer(engine, name="twin"), Peer(engine, name="twin")
    first.register("a::f")
    second.register("b::f")
    assert (first.closed, second.closed) == (None, None)
    assert "two live workers are named 'twin'" in caplog.text


@pytest.mark.parametrize("payload", [None, [], "x", 5])
async def test_payloads_must_be_objects(shop: Peer, payload: Any) -> None:
    error = shop.ask("engine::functions::list", payload)["error"]
    assert error["code"] == "deserialization_error"
    assert error["message"].startswith("Failed to deserialize input for engine::functions::list: ")


async def test_functions_are_listed_by_id_without_internal_ones(shop: Peer) -> None:
    rows = shop.ask("engine::functions::list", {"unknown": 1})["result"]["functions"]
    assert rows == [
        {
            "function_id": "shop::buy",
            "namespace": "default",
            "worker_name": "shop",
            "description": "Buy",
            "metadata": {"m": 1},
        }
    ]
    everything = shop.ask("engine::functions::list", {"include_internal": True})["result"]["functions"]
    ids = [row["function_id"] for row in everything]
    assert {"shop::hidden", "engine::functions::list"} <= set(ids)
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"prefix": "shop::"}, True),
        ({"prefix": "x"}, False),
        ({"search": "BUY"}, True),
        ({"worker": "shop"}, True),
        ({"workers": ["other"]}, False),
    ],
)
async def test_functions_can_be_filtered(shop: Peer, filters: dict[str, Any], found: bool) -> None:
    rows = shop.ask("engine::functions::list", filters)["result"]["functions"]
    assert bool(rows) is found


async def test_function_info_has_schemas_and_triggers(shop: Peer) -> None:
    info = shop.ask("engine::functions::info", {"function_id": "shop::buy"})["result"]
    assert info["request_schema"] == {"type": "object"}
    assert info["registered_triggers"] == [{"id": "tr1", "trigger_type": "sale", "config": {"n": 1}}]
    several = shop.ask("engine::functions::info", {"function_ids": ["shop::buy", "nope"]})["result"][
        "functions"
    ]
    assert several[1] == {"function_id": "nope", "error": "not_found"}
    missing = shop.ask("engine::functions::info", {"function_id": "nope"})["error"]
    assert missing == {"code": "NOT_FOUND", "message": "Function 'nope' is not registered."}
    for bad in ({}, {"function_ids": ["x"] * 33}):
        assert shop.ask("engine::functions::info", bad)["error"]["code"] == "deserialization_error"


async def test_workers_are_listed_with_what_they_said(shop: Peer) -> None:
    workers = shop.ask("engine::workers::list", {})["result"]["workers"]
    row = next(row for row in workers if row["name"] == "shop")
    assert (row["runtime"], row["version"], row["status"], row["function_count"]) == (
        "node",
        "0.22.1",
        "connected",
        2,
    )
    builtin = next(row for row in workers if row["name"] == "iii-engine-functions")
    assert (builtin["runtime"], builtin["isolation"]) == ("engine", "in-process")
    only_engine = shop.ask("engine::workers::list", {"runtime": "engine"})["result"]["workers"]
    assert "shop" not in {row["name"] for row in only_engine}


async def test_worker_info(shop: Peer) -> None:
    info = shop.ask("engine::workers::info", {"name": "shop"})["result"]
    assert info["worker"]["pid"] == 7
    assert [row["function_id"] for row in info["functions"]] == ["shop::buy", "shop::hidden"]
    assert [row["id"] for row in info["registered_triggers"]] == ["tr1"]
    assert [row["id"] for row in info["trigger_types"]] == ["sale"]
    builtin = shop.ask("engine::workers::info", {"name": "iii-engine-functions"})["result"]
    assert builtin["worker"]["internal"] is True
    missing = shop.ask("engine::workers::info", {"name": "nobody"})["error"]
    assert missing == {"code": "NOT_FOUND", "message": "Worker 'nobody' is not connected."}


async def test_trigger_types_and_instances(shop: Peer) -> None:
    types = shop.ask("engine::triggers::list", {"prefix": "sa"})["result"]["triggers"]
    assert types == [{"id": "sale", "namespace": "default", "worker_name": "shop", "description": "A sale"}]
    assert shop.ask("engine::triggers::info", {"id": "sale"})["result"]["instance_count"] == 1
    missing = shop.ask("engine::triggers::info", {"id": "none"})["error"]["message"]
    assert missing == "Trigger type 'none' is not registered in namespace 'default'."
    shop.bind("parked", "shop::buy", {}, id="tr2")
    rows = shop.ask("engine::registered-triggers::list", {})["result"]["registered_triggers"]
    assert [(row["id"], row["config"], row["worker_name"]) for row in rows] == [("tr1", {"n": 1}, "shop")]
    info = shop.ask("engine::registered-triggers::info", {"id": "tr1"})["result"]
    assert info["metadata"] == {"x": 1}
    assert info["function"]["function_id"] == "shop::buy"


async def test_channels_are_created(shop: Peer) -> None:
    ends = shop.ask("engine::channels::create", {})["result"]
    assert ends["writer"]["direction"] == "write"
    assert ends["reader"]["channel_id"] == ends["writer"]["channel_id"]
