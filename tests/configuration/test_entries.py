"""`configuration::*` and the live settings of the entry `iii-state`."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from support.calls import OneCall

from iii_skill.configuration.entries import ConfigurationEvent, Configurations
from iii_skill.configuration.state_entry import state_entry
from iii_skill.errors import InvocationError
from iii_skill.state.settings import LiveSettings, StateSettings

PORT = {"type": "object", "properties": {"port": {"type": "integer"}}}


class Site:
    """Configuration functions with a state entry; `events` holds what was published."""

    def __init__(self, **environment: str) -> None:
        self.events: list[ConfigurationEvent] = []
        self.settings = LiveSettings(StateSettings(max_value_bytes=7))
        self.configurations = Configurations(self.events.append, environment=environment)
        self.configurations.add(state_entry(self.settings))

    async def __call__(self, name: str, payload: Any) -> Any:
        call = OneCall(json.dumps(payload).encode(), "w1", [])
        self.configurations.functions[f"configuration::{name}"](call)
        return json.loads(await asyncio.wait_for(call.answer, 5))

    async def error(self, name: str, payload: Any) -> tuple[str | None, str]:
        with pytest.raises(InvocationError) as caught:
            await self(name, payload)
        return caught.value.code, str(caught.value)

    async def register(self, entry_id: str = "my-app", **more: Any) -> Any:
        entry = {"id": entry_id, "name": "My app", "description": "d", "schema": PORT}
        return await self("register", {**entry, **more})


async def test_register_set_get_schema_list() -> None:
    site = Site()
    registered = await site.register(metadata={"m": 1})
    about = {"id": "my-app", "name": "My app", "description": "d", "schema": PORT, "metadata": {"m": 1}}
    assert registered == {**about, "value": None}
    assert await site("set", {"id": "my-app", "value": {"port": 1}}) == {
        "old_value": None,
        "new_value": {"port": 1},
    }
    assert await site("get", {"id": "my-app"}) == {"id": "my-app", "value": {"port": 1}}
    assert await site("schema", {"id": "my-app"}) == about
    listed = await site("list", {})
    assert [entry["id"] for entry in listed["configurations"]] == ["iii-state", "my-app"]
    assert listed["configurations"][1] == about


async def test_a_known_entry_keeps_its_value_unless_a_new_one_comes() -> None:
    site = Site()
    await site.register(initial_value={"port": 1})
    assert (await site.register(name="new name"))["value"] == {"port": 1}
    assert (await site.register(initial_value={"port": 2}))["value"] == {"port": 2}


async def test_errors() -> None:
    site = Site()
    await site.register()
    bad_id = "invalid configuration id 'My App': must match [a-z0-9_-]{1,64}"
    unknown = "configuration 'x' is not registered; call configuration::register first"
    invalid = 'schema validation failed: "1" is not of type "integer"'
    null = 'schema validation failed: null is not of type "object"'
    missing = "Failed to deserialize input for configuration::get: missing field `id`"
    assert await site.error("set", {"id": "My App", "value": 1}) == ("INVALID_ID", bad_id)
    assert await site.error("set", {"id": "x", "value": 1}) == ("NOT_REGISTERED", unknown)
    assert await site.error("set", {"id": "my-app", "value": {"port": "1"}}) == ("SCHEMA_INVALID", invalid)
    assert await site.error("get", {"id": "my-app"}) == ("SCHEMA_INVALID", null)
    assert await site.error("get", {"id": "x"}) == ("NOT_FOUND", "configuration 'x' not found")
    assert await site.error("get", {}) == ("deserialization_error", missing)
    code, _ = await site.error("list", None)
    assert code == "deserialization_error"
    for bad in ({"entry_id": "Bad"}, {"schema": {"type": "no"}}, {"initial_value": 5}):
        with pytest.raises(InvocationError) as caught:
            await site.register(**bad)
        assert caught.value.code in ("INVALID_ID", "SCHEMA_INVALID")


async def test_placeholders_are_filled_in_when_they_are_read() -> None:
    site = Site(HOST="example", EMPTY="")
    value = {"port": "${PORT:7}", "url": "http://${HOST:x}:${P:1}", "e": "${EMPTY:x}", "list": ["${HOST}"]}
    await site.register()
    assert (await site("set", {"id": "my-app", "value": value}))["new_value"] == value
    assert (await site("get", {"id": "my-app", "raw": True}))["value"] == value
    filled = {"port": 7, "url": "http://example:1", "e": None, "list": ["example"]}
    assert (await site("get", {"id": "my-app"}))["value"] == filled
    await site("set", {"id": "my-app", "value": {"x": "${UNSET}"}})
    assert (await site.error("get", {"id": "my-app"}))[0] == "EXPAND_FAILED"


async def test_changes_are_told() -> None:
    site = Site(PORT="5")
    await site.register(metadata=1)
    await site("set", {"id": "my-app", "value": {"port": "${PORT}"}})
    await site.error("set", {"id": "my-app", "value": 5})
    assert [(event.id, event.event_type) for event in site.events] == [
        ("my-app", "configuration:registered"),
        ("my-app", "configuration:updated"),
    ]
    assert json.loads(site.events[1].payload) == {
        "type": "configuration",
        "event_type": "configuration:updated",
        "id": "my-app",
        "name": "My app",
        "description": "d",
        "schema": PORT,
        "metadata": 1,
        "old_value": None,
        "new_value": {"port": 5},
    }


async def test_the_state_entry_holds_the_live_settings() -> None:
    site = Site()
    assert (await site("get", {"id": "iii-state"}))["value"] == {
        "triggers_enabled": True,
        "max_value_bytes": 7,
    }
    await site("set", {"id": "iii-state", "value": {"triggers_enabled": False}})
    assert site.settings.current == StateSettings(triggers_enabled=False, max_value_bytes=None)
    await site("set", {"id": "iii-state", "value": {"triggers_enabled": None, "max_value_bytes": 9}})
    assert site.settings.current == StateSettings(triggers_enabled=True, max_value_bytes=9)
    await site.error("set", {"id": "iii-state", "value": {"max_value_bytes": 0}})
    assert site.settings.current == StateSettings(triggers_enabled=True, max_value_bytes=9)


async def test_a_worker_cannot_take_the_state_entry_over() -> None:
    site = Site()
    with pytest.raises(InvocationError) as caught:
        await site.register("iii-state")
    assert caught.value.code == "NOT_PERMITTED"


async def test_an_adapter_in_the_state_entry_is_ignored_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site()
    with caplog.at_level(logging.WARNING):
        await site("set", {"id": "iii-state", "value": {"adapter": {"name": "redis"}}})
    assert "restart with --adapter" in caplog.text
