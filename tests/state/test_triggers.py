"""The trigger types `state` and `configuration`: configurations, filters, replacement."""

from __future__ import annotations

from typing import Any

import pytest

from iii_skill.configuration.entries import ConfigurationEvent
from iii_skill.configuration.triggers import ConfigurationTriggers
from iii_skill.errors import TriggerRefused
from iii_skill.state.triggers import StateTriggers
from iii_skill.triggers import Trigger
from iii_skill.values import Change


def registered(trigger_id: str, config: bytes = b"{}") -> Trigger:
    """A trigger as the engine hands it over."""
    return Trigger(trigger_id, "state", "f", config)


def event(scope: str, key: str) -> Change:
    return Change(scope, key, None, b"1", 1)


def ids(triggers: StateTriggers, scope: str, key: str) -> set[str]:
    return {match.trigger.id for match in triggers.matching(event(scope, key))}


def test_filters_are_exact() -> None:
    triggers = StateTriggers()
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
    assert ids(triggers, "s", "k") == always | {"scope", "key", "both", "positional"}
    assert ids(triggers, "s", "kk") == always | {"scope"}
    assert ids(triggers, "S", "k") == always | {"key"}
    assert ids(triggers, "x", "") == always | {"empty"}
    assert len(triggers) == 7


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
    triggers = StateTriggers()
    triggers.register(registered("t", config))
    assert [match.condition_function_id for match in triggers.matching(event("s", "k"))] == [condition]


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
    triggers = StateTriggers()
    triggers.register(registered("t", b'{"scope":"s"}'))
    with pytest.raises(TriggerRefused) as caught:
        triggers.register(registered("t", config))
    assert caught.value.message == f"Failed to parse trigger config: {detail}"
    assert ids(triggers, "s", "k") == {"t"}


def test_a_new_registration_of_an_id_replaces_and_an_unregistered_one_is_silent() -> None:
    triggers = StateTriggers()
    triggers.register(registered("t", b'{"scope":"s"}'))
    triggers.register(registered("t", b'{"scope":"x"}'))
    assert ids(triggers, "s", "k") == set()
    assert ids(triggers, "x", "k") == {"t"}
    triggers.unregister(registered("t"))
    triggers.unregister(registered("unknown"))
    assert ids(triggers, "x", "k") == set()
    assert triggers.matching(event("x", "k")) == ()


def changed(entry_id: str, event_type: str) -> ConfigurationEvent:
    return ConfigurationEvent(entry_id, f"configuration:{event_type}", b"{}")


def test_configuration_triggers_filter_by_entry_and_event() -> None:
    triggers = ConfigurationTriggers()
    triggers.register(registered("all"))
    triggers.register(registered("one", b'{"configuration_id":"a","condition_function_id":"c"}'))
    triggers.register(registered("new", b'{"event_types":["configuration:registered"]}'))

    def told(entry_id: str, event_type: str) -> dict[str, Any]:
        found = triggers.matching(changed(entry_id, event_type))
        return {match.trigger.id: match.condition_function_id for match in found}

    assert told("a", "updated") == {"all": None, "one": "c"}
    assert told("b", "registered") == {"all": None, "new": None}
    triggers.unregister(registered("all"))
    assert told("b", "updated") == {}


@pytest.mark.parametrize("config", [b"null", b'{"event_types":"x"}', b'{"event_types":[1]}'])
def test_a_bad_configuration_trigger_is_refused(config: bytes) -> None:
    with pytest.raises(TriggerRefused):
        ConfigurationTriggers().register(registered("t", config))
