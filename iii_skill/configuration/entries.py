"""`configuration::*`: entries with a schema that are read and replaced while the host runs.

Entries live as long as the host. The entry `iii-state` holds the live settings of the state worker.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from iii_skill.calls import Call, Handler
from iii_skill.configuration.placeholders import expanded
from iii_skill.configuration.schema import Schema
from iii_skill.errors import CallerError, InputError
from iii_skill.serde import reader
from iii_skill.serde.reader import Mismatch, Shape

log = logging.getLogger("iii_skill.state")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_id = re.compile(r"[a-z0-9_-]{1,64}")
_ABSENT: Any = object()


class ConfigurationEvent(msgspec.Struct, frozen=True):
    """What became of an entry; `payload` is what triggers of the type `configuration` get."""

    id: str
    event_type: str
    payload: bytes


class Entry(msgspec.Struct):
    """One entry: `value` is raw, with its placeholders; `apply` hears of every new one."""

    id: str
    name: str
    description: str
    schema: Schema
    value: Any = None
    metadata: Any = _ABSENT
    apply: Callable[[Any], None] | None = None

    def described(self) -> dict[str, Any]:
        """Everything but the value."""
        row = {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "schema": self.schema.document,
        }
        return row if self.metadata is _ABSENT else {**row, "metadata": self.metadata}


class Configurations:
    """The entries and the functions that work on them."""

    def __init__(
        self,
        publish: Callable[[ConfigurationEvent], None],
        *,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._publish = publish
        self._environment = environment
        self._entries: dict[str, Entry] = {}
        self.functions: dict[str, Handler] = {
            "configuration::register": _answering(self._register),
            "configuration::set": _answering(self._set),
            "configuration::get": _answering(self._get),
            "configuration::schema": _answering(self._schema),
            "configuration::list": _answering(self._list),
        }

    def add(self, entry: Entry) -> None:
        """Offer an entry of the host."""
        self._entries[entry.id] = entry

    def value(self, entry_id: str) -> Any:
        """The value of an entry with its placeholders filled in, checked against its schema."""
        entry = self._found(entry_id)
        value = expanded(entry.value, self._environment)
        _check(entry.schema, value)
        return value

    def _register(self, payload: bytes) -> Any:
        given = _read("configuration::register", _REGISTER, payload)
        entry_id = given["id"]
        if _id.fullmatch(entry_id) is None:
            raise _bad_id(entry_id)
        known = self._entries.get(entry_id)
        if known is not None and known.apply is not None:
            message = f"configuration '{entry_id}' belongs to this host and cannot be registered by a worker"
            raise CallerError(message, code="NOT_PERMITTED")
        entry = Entry(entry_id, given["name"], given["description"], Schema(_value(given["schema"])))
        if given["metadata"] is not _ABSENT:
            entry.metadata = _value(given["metadata"])
        if given["initial_value"] is not _ABSENT:
            entry.value = _value(given["initial_value"])
            _check(entry.schema, _lenient(entry.value, self._environment))
        elif known is not None:
            entry.value = known.value
        self._entries[entry_id] = entry
        old = None if known is None else known.value
        self._tell(entry, "registered" if known is None else "updated", old)
        return {**entry.described(), "value": entry.value}

    def _set(self, payload: bytes) -> Any:
        given = _read("configuration::set", _SET, payload)
        entry_id = given["id"]
        if _id.fullmatch(entry_id) is None:
            raise _bad_id(entry_id)
        entry = self._entries.get(entry_id)
        if entry is None:
            message = f"configuration '{entry_id}' is not registered; call configuration::register first"
            raise CallerError(message, code="NOT_REGISTERED")
        value = _value(given["value"])
        _check(entry.schema, _lenient(value, self._environment))
        old, entry.value = entry.value, value
        if entry.apply is not None:
            entry.apply(_lenient(value, self._environment))
        self._tell(entry, "updated", old)
        return {"old_value": old, "new_value": value}

    def _get(self, payload: bytes) -> Any:
        given = _read("configuration::get", _GET, payload)
        if given["raw"]:
            return {"id": given["id"], "value": self._found(given["id"]).value}
        return {"id": given["id"], "value": self.value(given["id"])}

    def _schema(self, payload: bytes) -> Any:
        return self._found(_read("configuration::schema", _SCHEMA, payload)["id"]).described()

    def _list(self, payload: bytes) -> Any:
        _read("configuration::list", _LIST, payload)
        return {"configurations": [self._entries[name].described() for name in sorted(self._entries)]}

    def _found(self, entry_id: str) -> Entry:
        entry = self._entries.get(entry_id)
        if entry is None:
            raise CallerError(f"configuration '{entry_id}' not found", code="NOT_FOUND")
        return entry

    def _tell(self, entry: Entry, what: str, old: Any) -> None:
        event_type = f"configuration:{what}"
        payload = {
            "type": "configuration",
            "event_type": event_type,
            "id": entry.id,
            "name": entry.name,
            "description": entry.description,
            "schema": entry.schema.document,
            "old_value": _lenient(old, self._environment),
            "new_value": _lenient(entry.value, self._environment),
        }
        if entry.metadata is not _ABSENT:
            payload["metadata"] = entry.metadata
        self._publish(ConfigurationEvent(entry.id, event_type, _encode(payload)))


def _answering(function: Callable[[bytes], Any]) -> Handler:
    def handler(call: Call) -> None:
        try:
            answer = _encode(function(call.data))
        except CallerError as error:
            call.fail(error)
        else:
            call.succeed(answer)

    return handler


def _lenient(value: Any, environment: Mapping[str, str]) -> Any:
    """The value filled in as far as it goes; what is not set stands as it is until it is read."""
    try:
        return expanded(value, environment)
    except CallerError:
        return value


def _check(schema: Schema, value: Any) -> None:
    errors = schema.errors(value)
    if errors:
        raise CallerError(f"schema validation failed: {'; '.join(errors)}", code="SCHEMA_INVALID")


def _bad_id(entry_id: str) -> CallerError:
    message = f"invalid configuration id '{entry_id}': must match [a-z0-9_-]{{1,64}}"
    return CallerError(message, code="INVALID_ID")


def _value(raw: msgspec.Raw) -> Any:
    return _decode(raw)


def _read(function_id: str, shape: Shape, payload: bytes) -> dict[str, Any]:
    try:
        return reader.read(shape, payload)
    except Mismatch as error:
        raise InputError(f"Failed to deserialize input for {function_id}: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"Failed to deserialize input for {function_id}: {error}") from None


_REGISTER = Shape(
    "RegisterConfigurationInput",
    {
        "id": reader.string,
        "name": reader.string,
        "description": reader.string,
        "schema": reader.anything,
        "initial_value": reader.anything,
        "metadata": reader.anything,
    },
    {"initial_value": _ABSENT, "metadata": _ABSENT},
    positional=False,
)
_SET = Shape("SetConfigurationInput", {"id": reader.string, "value": reader.anything}, positional=False)
_GET = Shape(
    "GetConfigurationInput",
    {"id": reader.string, "raw": reader.optional_flag},
    {"raw": None},
    positional=False,
)
_SCHEMA = Shape("GetConfigurationSchemaInput", {"id": reader.string}, positional=False)
_LIST = Shape("ListConfigurationsInput", {}, positional=False)
