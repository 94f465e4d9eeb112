"""The trigger types `state` and `configuration`: configurations, filters, replacement."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

import pytest

from iii_skill.configuration.entries import ConfigurationEvent
from iii_skill.configuration.triggers import (
    ConfigurationTriggers,
    configuration_changed,
    configuration_source,
)
from iii_skill.errors import TriggerRefused
from iii_skill.sources import Source
from iii_skill.state.triggers import StateTriggers, state_changed, state_source
from iii_skill.triggers import Subscriber, Trigger
from iii_skill.values import Change


class Fired:
    """What was fired: lane, payload and condition by trigger."""

    def __init__(self) -> None:
        self.events: dict[str, tuple[Hashable, bytes, str | None]] = {}

    def __call__(
        self, trigger: Subscriber, lane: Hashable, payload: bytes, condition: str | None = None
    ) -> bool:
        self.events[trigger.id] = (lane, payload, condition)
        return True

    def of(self, source: Source, change: Change) -> dict[str, tuple[Hashable, bytes, str | None]]:
        """What one change fires."""
        self.events = {}
        state_changed(source, change)
        return self.events


def registered(trigger_id: str, config: bytes = b"{}") -> Trigger:
    """A trigger as the engine hands it over."""
    return Trigger(trigger_id, "state", "f", config)


def event(scope: str, key: str) -> Change:
    return Change(scope, key, None, b"1", 1)


class Kind:
    """The trigger type `state` with its source."""

    def __init__(self) -> None:
        self.fired = Fired()
        self.source = state_source()
        self.triggers = StateTriggers(self.source, self.fired)

    def ids(self, scope: str, key: str) -> set[str]:
        return set(self.fired.of(self.source, event(scope, key)))


def test_filters_are_exact() -> None:
    kind = Kind()
    triggers = kind.triggers
    for name, config in {
        "all": b"{}",
        "nulls": b'{"scope":null,"key":null,"condition_function_id":null,"zz":1}',
        "scope": b'{"scope":"s"}',
        "key": b'{"key":"k"}',
        "both": b'{"scope":"s","key":"k"}',
        "empty": b'{"key":""}',
        "positional": b'["s","k",null]',
    }.items():
        triggers.register(registered(name, config))
    always = {"all", "nulls"}
    assert kind.ids("s", "k") == always | {"scope", "key", "both", "positional"}
    assert kind.ids("s", "kk") == always | {"scope"}
    assert kind.ids("S", "k") == always | {"key"}
    assert kind.ids("x", "") == always | {"empty"}
    assert len(kind.source.listeners) == 7


@pytest.mark.parametrize(
    ("config", "condition"),
    [
        (b"{}", None),
        (b'{"condition_function_id":null}', None),
        (b'{"condition_function_id":""}', ""),
        (b'{"condition_function_id":"c"}', "c"),
    ],
)
def test_no_condition_differs_from_an_empty_one(config: bytes, condition: str | None) -> None:
    kind = Kind()
    triggers = kind.triggers
    triggers.register(registered("t", config))
    ((lane, payload, asked),) = kind.fired.of(kind.source, event("s", "k")).values()
    assert (lane, asked) == (("s", "k"), condition)
    assert json.loads(payload)["new_value"] == 1


@pytest.mark.parametrize(
    ("config", "detail"),
    [
        (b"null", "invalid type: null, expected struct StateTriggerConfig"),
        (b'"x"', 'invalid type: string "x", expected struct StateTriggerConfig'),
        (b'{"scope":5}', "invalid type: integer `5`, expected a string"),
        (b'{"scope":5,"key":true}', "invalid type: boolean `true`, expected a string"),
        (b'{"scope":5,"condition_function_id":[]}', "invalid type: sequence, expected a string"),
        (b"[]", "invalid length 0, expected struct StateTriggerConfig with 3 elements"),
        (b'["s","k",null,1]', "invalid length 4, expected fewer elements in array"),
    ],
)
def test_a_bad_configuration_leaves_the_old_trigger(config: bytes, detail: str) -> None:
    kind = Kind()
    triggers = kind.triggers
    triggers.register(registered("t", b'{"scope":"s"}'))
    with pytest.raises(TriggerRefused) as caught:
        triggers.register(registered("t", config))
    assert caught.value.message == f"Failed to parse trigger config: {detail}"
    assert kind.ids("s", "k") == {"t"}


def test_a_new_registration_of_an_id_replaces_and_an_unregistered_one_is_silent() -> None:
    kind = Kind()
    triggers = kind.triggers
    triggers.register(registered("t", b'{"scope":"s"}'))
    triggers.register(registered("t", b'{"scope":"x"}'))
    assert kind.ids("s", "k") == set()
    assert kind.ids("x", "k") == {"t"}
    triggers.unregister(registered("t"))
    triggers.unregister(registered("unknown"))
    assert kind.ids("x", "k") == set()


def test_a_write_costs_nothing_while_nobody_listens() -> None:
    kind = Kind()
    # The values are no JSON: nobody looks at them.
    assert kind.fired.of(kind.source, Change("s", "k", b"?", b"?", 1)) == {}
    kind.triggers.register(registered("t", b'{"scope":"s"}'))
    assert set(kind.fired.of(kind.source, Change("s", "k", b"?", b"?", 1))) == {"t"}


def changed(entry_id: str, event_type: str) -> ConfigurationEvent:
    kind = f"configuration:{event_type}"
    return ConfigurationEvent(entry_id, kind, json.dumps({"id": entry_id, "event_type": kind}).encode())


def test_configuration_triggers_filter_by_entry_and_event() -> None:
    fired, source = Fired(), configuration_source()
    triggers = ConfigurationTriggers(source, fired)
    triggers.register(registered("all"))
    triggers.register(registered("one", b'{"configuration_id":"a","condition_function_id":"c"}'))
    triggers.register(registered("new", b'{"event_types":["configuration:registered"]}'))

    def told(entry_id: str, event_type: str) -> dict[str, Any]:
        fired.events = {}
        configuration_changed(source, changed(entry_id, event_type))
        assert {lane for lane, _, _ in fired.events.values()} <= {entry_id}
        return {name: condition for name, (_, _, condition) in fired.events.items()}

    assert told("a", "updated") == {"all": None, "one": "c"}
    assert told("b", "registered") == {"all": None, "new": None}
    triggers.unregister(registered("all"))
    assert told("b", "updated") == {}


@pytest.mark.parametrize("config", [b"null", b'{"event_types":"x"}', b'{"event_types":[1]}'])
def test_a_bad_configuration_trigger_is_refused(config: bytes) -> None:
    with pytest.raises(TriggerRefused):
        ConfigurationTriggers(configuration_source(), Fired()).register(registered("t", config))
