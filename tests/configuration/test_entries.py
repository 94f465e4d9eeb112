"""`configuration::*` and the live settings of the entry `iii-state`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.calls import OneCall

from iii_skill.configuration.entries import (
    MAX_CALL_BYTES,
    MAX_TOTAL_BYTES,
    ConfigurationEvent,
    Configurations,
)
from iii_skill.configuration.placeholders import Exposed
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
        return json.loads(await asyncio.wait_for(call.answer, 30))

    async def error(self, name: str, payload: Any) -> tuple[str | None, str]:
        with pytest.raises(InvocationError) as caught:
            await self(name, payload)
        return caught.value.code, str(caught.value)

    async def register(self, entry_id: str = "my-app", **more: Any) -> Any:
        entry = {"id": entry_id, "name": "My app", "description": "d", "schema": PORT}
        return await self("register", {**entry, **more})


NewSite = Callable[..., Site]


@pytest.fixture
async def new_site() -> AsyncIterator[NewSite]:
    sites: list[Site] = []

    def make(**environment: str) -> Site:
        sites.append(Site(**environment))
        return sites[-1]

    yield make
    for site in sites:
        await site.configurations.close()


async def test_register_set_get_schema_list(new_site: NewSite) -> None:
    site = new_site()
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


async def test_a_known_entry_keeps_its_value_unless_a_new_one_comes(new_site: NewSite) -> None:
    site = new_site()
    await site.register(initial_value={"port": 1})
    assert (await site.register(name="new name"))["value"] == {"port": 1}
    assert (await site.register(initial_value={"port": 2}))["value"] == {"port": 2}


async def test_errors(new_site: NewSite) -> None:
    site = new_site()
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


async def test_placeholders_are_filled_in_when_they_are_read(new_site: NewSite) -> None:
    site = new_site(HOST="example", EMPTY="")
    value = {"port": "${PORT:7}", "url": "http://${HOST:x}:${P:1}", "e": "${EMPTY:x}", "list": ["${HOST}"]}
    await site.register()
    assert (await site("set", {"id": "my-app", "value": value}))["new_value"] == value
    assert (await site("get", {"id": "my-app", "raw": True}))["value"] == value
    filled = {"port": 7, "url": "http://example:1", "e": None, "list": ["example"]}
    assert (await site("get", {"id": "my-app"}))["value"] == filled
    await site("set", {"id": "my-app", "value": {"x": "${UNSET}"}})
    assert (await site.error("get", {"id": "my-app"}))[0] == "EXPAND_FAILED"


async def test_changes_are_told(new_site: NewSite) -> None:
    site = new_site(PORT="5")
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


async def test_the_state_entry_holds_the_live_settings(new_site: NewSite) -> None:
    site = new_site()
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


async def test_a_worker_cannot_take_the_state_entry_over(new_site: NewSite) -> None:
    site = new_site()
    with pytest.raises(InvocationError) as caught:
        await site.register("iii-state")
    assert caught.value.code == "NOT_PERMITTED"


async def test_an_adapter_in_the_state_entry_is_ignored_with_a_warning(
    new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = new_site()
    with caplog.at_level(logging.WARNING):
        await site("set", {"id": "iii-state", "value": {"adapter": {"name": "redis"}}})
    assert "restart with --adapter" in caplog.text


async def test_calls_are_worked_off_in_the_order_in_which_they_came(new_site: NewSite) -> None:
    site = new_site()
    answers = await asyncio.gather(
        site.register(),
        site("set", {"id": "my-app", "value": {"port": 1}}),
        site("get", {"id": "my-app"}),
        site("set", {"id": "my-app", "value": {"port": 2}}),
        site("get", {"id": "my-app"}),
    )
    assert [answers[2]["value"], answers[4]["value"]] == [{"port": 1}, {"port": 2}]


async def test_an_entry_keeps_its_value_when_the_new_one_is_not_judged(new_site: NewSite) -> None:
    site = new_site()
    levels = {f"d{n}": {"anyOf": [{"$ref": f"#/definitions/d{n + 1}"}] * 2} for n in range(40)}
    slow = {"$ref": "#/definitions/d0", "definitions": {**levels, "d40": {"type": "string"}}}
    await site.register(schema=slow)
    code, message = await site.error("set", {"id": "my-app", "value": 5})
    assert code == "SCHEMA_UNAVAILABLE"
    assert "takes too long" in message
    assert (await site("get", {"id": "my-app", "raw": True}))["value"] is None
    await site.register()
    assert (await site("set", {"id": "my-app", "value": {"port": 2}}))["new_value"] == {"port": 2}


async def test_what_a_call_and_all_entries_together_may_hold_is_bounded(new_site: NewSite) -> None:
    site = new_site()
    too_large = {"id": "my-app", "value": "x" * MAX_CALL_BYTES}
    assert (await site.error("set", too_large))[0] == "LIMIT_EXCEEDED"
    text = "x" * (MAX_CALL_BYTES - 1000)
    codes = []
    for number in range(MAX_TOTAL_BYTES // MAX_CALL_BYTES + 2):
        try:
            await site.register(f"app-{number}", schema=True, initial_value=text)
        except InvocationError as error:
            codes.append(error.code)
    assert set(codes) == {"LIMIT_EXCEEDED"}
    assert len((await site("list", {}))["configurations"]) in (
        MAX_TOTAL_BYTES // MAX_CALL_BYTES,
        MAX_TOTAL_BYTES // MAX_CALL_BYTES + 1,
    )
    await site("set", {"id": "app-0", "value": "small"})
    await site.register("now-it-fits", initial_value={"port": 1})


async def test_more_calls_than_may_wait_are_refused_at_once(new_site: NewSite) -> None:
    site = new_site()
    answers = await asyncio.gather(*(site("list", {}) for _ in range(300)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, InvocationError)]
    assert 0 < len(refused) < 300
    assert {error.code for error in refused} == {"LIMIT_EXCEEDED"}


async def test_a_worker_reads_only_variables_that_the_operator_exposes(new_site: NewSite) -> None:
    environment = {"III_SKILL_TOKEN": "t", "HOME": "/root", "APP_URL": "u", "APP_KEY": "k"}
    exposed = Exposed(environment, ("APP_*", "III_*"))
    assert dict(exposed) == {"APP_URL": "u", "APP_KEY": "k"}
    assert len(exposed) == 2
    site = new_site(**exposed)
    await site.register()
    for secret in ("III_SKILL_TOKEN", "HOME"):
        await site("set", {"id": "my-app", "value": {"x": f"${{{secret}}}"}})
        code, message = await site.error("get", {"id": "my-app"})
        assert code == "EXPAND_FAILED"
        assert f"'{secret}' is not set" in message
    await site("set", {"id": "my-app", "value": {"x": "${APP_URL}/${HOME:none}"}})
    assert (await site("get", {"id": "my-app"}))["value"] == {"x": "u/none"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["${X:1}"] * 20_000, "more than 10000 placeholders"),
        ("${" * 20_000, "more than 10000 placeholders"),
        ("${LONG}" * 5_000, "too large"),
    ],
    ids=["strings", "beginnings", "growth"],
)
async def test_what_placeholders_stand_for_is_bounded(new_site: NewSite, value: Any, reason: str) -> None:
    site = new_site(LONG="x" * 1000)
    await site.register(schema=True)
    await site("set", {"id": "my-app", "value": value})
    code, message = await site.error("get", {"id": "my-app"})
    assert code == "EXPAND_FAILED"
    assert reason in message
    assert (await site("get", {"id": "my-app", "raw": True}))["value"] == value


BOMB = "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    "default", ["a0: &a0 [x, x]\n" + BOMB, "[" * 50_000, "9" * 10_000, "1e999", "!!python/x y"]
)
async def test_a_default_is_a_plain_scalar_or_the_text_itself(new_site: NewSite, default: str) -> None:
    site = new_site()
    await site.register(schema=True, initial_value=f"${{X:{default}}}")
    assert (await site("get", {"id": "my-app"}))["value"] == default


async def test_a_value_is_kept_in_one_spelling(new_site: NewSite) -> None:
    site = new_site()
    await site.register(schema=True)
    call = OneCall(b'{"id":"my-app","value":{"a" : 1.50, "a":2, "b":"\\u0024{X:7}"}}', "w1", [])
    site.configurations.functions["configuration::set"](call)
    answer = await asyncio.wait_for(call.answer, 30)
    assert json.loads(answer)["new_value"] == {"a": 2, "b": "${X:7}"}
    assert answer.count(b'"a"') == 1
    assert (await site("get", {"id": "my-app"}))["value"] == {"a": 2, "b": 7}
