"""The configuration entry `iii-state`: the live settings of the state worker."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from iii_skill.calls import Call, FunctionInfo
from iii_skill.configuration.entries import ConfigurationEntry
from iii_skill.state.functions import WORKER_NAME
from iii_skill.state.settings import LiveSettings, StateSettings

log = logging.getLogger("iii_skill.state")

ON_CONFIG_CHANGE = FunctionInfo(
    "iii-state::on-config-change",
    "Read the configuration entry `iii-state` again.",
    {"type": "object"},
    {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
)

_INTERVAL = {"type": ["integer", "null"], "format": "uint64", "minimum": 100.0, "maximum": 3600000.0}
_TEXT = {"type": ["string", "null"]}


def _adapter(name: str, config: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "enum": [name]},
            "config": {"$ref": f"#/definitions/{config}"},
        },
    }


def _config(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


_DRAFT_4 = "http://json-schema.org/draft-04/schema#"
"""Later drafts take 100.0 for an integer, and the engine refuses it."""

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "adapter": {
            "description": "Checked for its shape only: this host takes its adapter when it starts.",
            "oneOf": [
                _adapter("kv", "KvAdapterConfig"),
                _adapter("redis", "RedisAdapterConfig"),
                _adapter("bridge", "BridgeAdapterConfig"),
            ],
        },
        "max_value_bytes": {
            "description": "The largest value that `state::set` takes, in bytes of compact JSON; null: any.",
            "type": ["integer", "null"],
            "format": "uint",
            "minimum": 1.0,
        },
        "save_interval_ms": {
            "description": "Has no effect here: a write is stored before it is answered.",
            **_INTERVAL,
        },
        "triggers_enabled": {
            "description": "False: writes fire no `state` triggers.",
            "type": ["boolean", "null"],
        },
    },
    "definitions": {
        "KvAdapterConfig": _config(
            file_path=_TEXT,
            save_interval_ms=_INTERVAL,
            store_method={"anyOf": [{"$ref": "#/definitions/KvStoreMethod"}, {"type": "null"}]},
        ),
        "KvStoreMethod": {"type": "string", "enum": ["in_memory", "file_based"]},
        "RedisAdapterConfig": _config(redis_url=_TEXT),
        "BridgeAdapterConfig": _config(bridge_url=_TEXT),
    },
}


def state_entry(settings: LiveSettings) -> ConfigurationEntry:
    """The entry; a new value replaces the live settings, what it leaves out falls back to the defaults."""

    def apply(value: Any) -> None:
        enabled = value.get("triggers_enabled")
        settings.current = StateSettings(
            triggers_enabled=True if enabled is None else enabled,
            max_value_bytes=value.get("max_value_bytes"),
        )
        if "adapter" in value:
            log.warning("the adapter in configuration '%s' is ignored: restart with --adapter", WORKER_NAME)

    current = settings.current
    value: dict[str, Any] = {"triggers_enabled": current.triggers_enabled}
    if current.max_value_bytes is not None:
        value["max_value_bytes"] = current.max_value_bytes
    return ConfigurationEntry(
        WORKER_NAME,
        "State",
        "Settings of the state functions that change while the host runs.",
        msgspec.Raw(msgspec.json.encode(SCHEMA)),
        msgspec.json.encode(value),
        apply=apply,
        strict_schema=msgspec.Raw(msgspec.json.encode({**SCHEMA, "$schema": _DRAFT_4})),
    )


def on_config_change(call: Call) -> None:
    """Settings are applied when they are set, so there is nothing left to read again."""
    call.succeed(b'{"ok":true}')
