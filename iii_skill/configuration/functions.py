"""The `configuration::*` functions: ids, descriptions and request schemas."""

from __future__ import annotations

from typing import Any

from iii_skill.calls import FunctionInfo
from iii_skill.config.names import CONFIGURATION

WORKER_NAME = CONFIGURATION

_TEXT = {"type": "string"}


def _info(name: str, text: str, properties: dict[str, Any], *required: str) -> FunctionInfo:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return FunctionInfo(f"configuration::{name}", text, schema)


FUNCTIONS = (
    _info(
        "register",
        "Register a configuration entry with its JSON Schema; the value of a known entry is kept.",
        {
            "id": _TEXT,
            "name": _TEXT,
            "description": _TEXT,
            "schema": {},
            "initial_value": {},
            "metadata": {},
        },
        "description",
        "id",
        "name",
        "schema",
    ),
    _info("set", "Replace the value of an entry.", {"id": _TEXT, "value": {}}, "id", "value"),
    _info("get", "The value of an entry.", {"id": _TEXT, "raw": {"type": ["boolean", "null"]}}, "id"),
    _info("schema", "The schema of an entry.", {"id": _TEXT}, "id"),
    _info("list", "All entries without their values.", {}),
)
