"""`configuration::*`: entries with a schema that are read and replaced while the host runs.

Entries live as long as the host. The entry `iii-state` holds the live settings of the state worker. Calls
are worked off one after another, in the order in which they came: a value may wait for its schema's verdict.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from iii_skill.calls import Call, Handler
from iii_skill.configuration.placeholders import ExpandFailed, expanded
from iii_skill.errors import CallerError, IiiSkillError, InputError
from iii_skill.serde import reader
from iii_skill.serde.reader import Shape, read_input

MAX_CALL_BYTES = 256 * 1024
"""One call of `configuration::*`: settings are small, and a value is looked through in one go."""
MAX_TOTAL_BYTES = 16 * 1024 * 1024
"""All entries that workers registered, keys and values."""
MAX_PLACEHOLDERS = 10_000
MAX_WAITING = 256
_OVERHEAD = 1024
"""What an entry of a few bytes takes."""

if TYPE_CHECKING:
    from iii_skill.json_schema import SchemaChecker

log = logging.getLogger("iii_skill.configuration")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_id = re.compile(r"[a-z0-9_-]{1,64}")
_ABSENT: Any = object()

_Function: TypeAlias = Callable[[bytes], Awaitable[Any]]


class ConfigurationEvent(msgspec.Struct, frozen=True):
    """What became of an entry; `payload` is what triggers of the type `configuration` get."""

    id: str
    event_type: str
    payload: bytes


class ConfigurationEntry(msgspec.Struct):
    """One entry. `value` is encoded, with its placeholders; `apply` gets every new one, filled in."""

    id: str
    name: str
    description: str
    schema: msgspec.Raw
    value: bytes = b"null"
    metadata: Any = _ABSENT
    apply: Callable[[Any], None] | None = None
    strict_schema: msgspec.Raw | None = None
    """What values are judged by in place of the schema that is shown."""
    fitting: bytes | None = None
    """The filled-in value that was last found to fit the schema."""
    size: int = 0
    """What it counts for in MAX_TOTAL_BYTES."""

    def described(self) -> dict[str, Any]:
        """Everything but the value."""
        row = {"id": self.id, "name": self.name, "description": self.description, "schema": self.schema}
        return row if self.metadata is _ABSENT else {**row, "metadata": self.metadata}


class LimitExceeded(CallerError):
    """An entry, a call or their number is larger than the host takes."""

    code = "LIMIT_EXCEEDED"


class Configurations:
    """The entries and the functions that work on them. Close it with the host."""

    def __init__(
        self,
        publish: Callable[[ConfigurationEvent], None],
        *,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._publish = publish
        self._environment = environment
        self._entries: dict[str, ConfigurationEntry] = {}
        self._total = 0
        self._waiting: deque[tuple[str, _Function, Call]] = deque()
        self._working: asyncio.Task[None] | None = None
        functions: dict[str, _Function] = {
            "configuration::register": self._register,
            "configuration::set": self._set,
            "configuration::get": self._get,
            "configuration::schema": self._schema,
            "configuration::list": self._list,
        }
        self.functions = {name: self._in_turn(name, function) for name, function in functions.items()}

    @functools.cached_property
    def schemas(self) -> SchemaChecker:
        """What judges values, made when the first schema comes: most hosts never see one."""
        from iii_skill.json_schema import SchemaChecker

        return SchemaChecker()

    def add(self, entry: ConfigurationEntry) -> None:
        """Offer an entry of the host, whose value fits."""
        entry.fitting = entry.value
        self._entries[entry.id] = entry

    async def close(self) -> None:
        """End the process that checks schemas."""
        if "schemas" in self.__dict__:
            await self.schemas.close()

    def _in_turn(self, function_id: str, function: _Function) -> Handler:
        def handler(call: Call) -> None:
            if len(call.data) > MAX_CALL_BYTES:
                call.fail(LimitExceeded(f"{function_id} takes at most {MAX_CALL_BYTES} bytes in a call"))
            elif len(self._waiting) >= MAX_WAITING:
                call.fail(LimitExceeded(f"{MAX_WAITING} calls of configuration::* are waiting; try again"))
            else:
                self._waiting.append((function_id, function, call))
                if self._working is None:
                    self._working = asyncio.get_running_loop().create_task(self._work())

        return handler

    async def _work(self) -> None:
        try:
            while self._waiting:
                await _answer(*self._waiting.popleft())
                await asyncio.sleep(0)  # Calls that need no check would keep everybody else waiting.
        finally:
            self._working = None

    async def _register(self, payload: bytes) -> Any:
        given = read_input("configuration::register", _REGISTER, payload)
        entry_id = given["id"]
        if _id.fullmatch(entry_id) is None:
            raise _bad_id(entry_id)
        known = self._entries.get(entry_id)
        if known is not None and known.apply is not None:
            message = f"configuration '{entry_id}' belongs to this host and cannot be registered by a worker"
            raise CallerError(message, code="NOT_PERMITTED")
        entry = ConfigurationEntry(entry_id, given["name"], given["description"], given["schema"].copy())
        if given["metadata"] is not _ABSENT:
            entry.metadata = given["metadata"].copy()
        if given["initial_value"] is not _ABSENT:
            entry.value = _compact(given["initial_value"])
            entry.fitting = await self._fitting(entry, entry.value)
        else:
            await self.schemas.check_schema(bytes(entry.schema))
            if known is not None:
                entry.value = known.value
        self._keep(entry, entry.value)
        old = b"null" if known is None else known.value
        self._report(entry, "registered" if known is None else "updated", old)
        return {**entry.described(), "value": msgspec.Raw(entry.value)}

    async def _set(self, payload: bytes) -> Any:
        given = read_input("configuration::set", _SET, payload)
        entry_id = given["id"]
        if _id.fullmatch(entry_id) is None:
            raise _bad_id(entry_id)
        entry = self._entries.get(entry_id)
        if entry is None:
            message = f"configuration '{entry_id}' is not registered; call configuration::register first"
            raise CallerError(message, code="NOT_REGISTERED")
        value = _compact(given["value"])
        fitting = await self._fitting(entry, value)
        self._keep(entry, value)
        old, entry.value, entry.fitting = entry.value, value, fitting
        if entry.apply is not None:
            entry.apply(_decode(fitting))
        self._report(entry, "updated", old)
        return {"old_value": msgspec.Raw(old), "new_value": msgspec.Raw(value)}

    async def _get(self, payload: bytes) -> Any:
        given = read_input("configuration::get", _GET, payload)
        entry = self._found(given["id"])
        if given["raw"]:
            return {"id": entry.id, "value": msgspec.Raw(entry.value)}
        value = self._filled(entry.value)
        # The environment may have changed since the value was set, and a value was perhaps never given.
        if value != entry.fitting:
            entry.fitting = await self._fitting(entry, entry.value)
        return {"id": entry.id, "value": msgspec.Raw(value)}

    async def _schema(self, payload: bytes) -> Any:
        return self._found(read_input("configuration::schema", _SCHEMA, payload)["id"]).described()

    async def _list(self, payload: bytes) -> Any:
        read_input("configuration::list", _LIST, payload)
        return {"configurations": [self._entries[name].described() for name in sorted(self._entries)]}

    def _found(self, entry_id: str) -> ConfigurationEntry:
        entry = self._entries.get(entry_id)
        if entry is None:
            raise CallerError(f"configuration '{entry_id[:100]}' not found", code="NOT_FOUND")
        return entry

    def _filled(self, value: bytes) -> bytes:
        """The value with its placeholders filled in; ExpandFailed for a variable without any value."""
        if b"${" not in value:
            return value
        if value.count(b"${") > MAX_PLACEHOLDERS:
            raise ExpandFailed(f"the value holds more than {MAX_PLACEHOLDERS} placeholders")
        return _encode(expanded(_decode(value), self._environment))

    def _lenient(self, value: bytes) -> bytes:
        """The value filled in as far as it goes; what is not set stands as it is until it is read."""
        try:
            return self._filled(value)
        except ExpandFailed:
            return value

    async def _fitting(self, entry: ConfigurationEntry, value: bytes) -> bytes:
        """The filled-in value when it fits the schema of the entry."""
        filled = self._lenient(value)
        errors = await self.schemas.errors(bytes(entry.strict_schema or entry.schema), filled)
        if errors:
            raise CallerError(f"schema validation failed: {'; '.join(errors)}", code="SCHEMA_INVALID")
        return filled

    def _keep(self, entry: ConfigurationEntry, value: bytes) -> None:
        """Put the entry with this value into the table, unless it would be too much."""
        parts = (entry.schema, value, b"" if entry.metadata is _ABSENT else entry.metadata)
        size = _OVERHEAD + len(entry.name) + len(entry.description) + sum(map(len, map(bytes, parts)))
        known = self._entries.get(entry.id)
        total = self._total + size - (0 if known is None else known.size)
        if total > MAX_TOTAL_BYTES:
            raise LimitExceeded(f"all configurations together may have {MAX_TOTAL_BYTES} bytes at most")
        self._total, entry.size = total, size
        self._entries[entry.id] = entry

    def _report(self, entry: ConfigurationEntry, what: str, old: bytes) -> None:
        event_type = f"configuration:{what}"
        payload = {
            "type": "configuration",
            "event_type": event_type,
            "id": entry.id,
            "name": entry.name,
            "description": entry.description,
            "schema": entry.schema,
            "old_value": msgspec.Raw(self._lenient(old)),
            "new_value": msgspec.Raw(self._lenient(entry.value)),
        }
        if entry.metadata is not _ABSENT:
            payload["metadata"] = entry.metadata
        self._publish(ConfigurationEvent(entry.id, event_type, _encode(payload)))


async def _answer(function_id: str, function: _Function, call: Call) -> None:
    try:
        answer = _encode(await function(call.data))
    except CallerError as error:
        call.fail(error)
    except RecursionError:
        call.fail(InputError(f"The payload of {function_id} is nested too deep."))
    except Exception as error:
        log.exception("%s failed", function_id)
        call.fail(IiiSkillError(f"{function_id} failed: {type(error).__name__}: {error}"))
    else:
        call.succeed(answer)


def _compact(value: msgspec.Raw) -> bytes:
    """The value encoded anew: what was repeated in it or written in another way is gone."""
    return _encode(_decode(value))


def _bad_id(entry_id: str) -> CallerError:
    message = f"invalid configuration id '{entry_id[:100]}': must match [a-z0-9_-]{{1,64}}"
    return CallerError(message, code="INVALID_ID")


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
