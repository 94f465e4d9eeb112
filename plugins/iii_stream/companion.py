"""Stream: the functions `stream::*` over the store, and the events of what they did.

The items of a group are the keys of one scope, a JSON array of stream and group. Events of an item come in
the order of its changes; those of a store that hosts share come from its changes alone, so that every host
tells its own listeners of every write, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from iii_skill.companion import Call, Change, Companion, CompanionHost, Failure, Result, WebSocketPort
from iii_skill.errors import AdapterError, CallerError, IiiSkillError, ValueRefused
from iii_skill.readable import check_value
from iii_skill.serde.reader import Shape, anything, optional_string, read_input, string
from iii_skill.state.changes import UpdateOps
from iii_skill.state.op_input import read_ops

from .events import StreamEvent
from .providers import Providers
from .subscriptions import SubscriptionClient
from .triggers import (
    JoinTriggers,
    LeaveTriggers,
    StreamTriggers,
    changed_source,
    joined_source,
    left_source,
)

DEFAULT_PORT = 3112

_SENT = "sent"
"""The scope through which hosts of one store tell each other of events that are not kept."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode

_GROUP = {"stream_name": string, "group_id": string}
_ITEM = {**_GROUP, "item_id": string}
_SET = Shape("StreamSetInput", {**_ITEM, "data": anything})
_GET = Shape("StreamGetInput", _ITEM)
_DELETE = Shape("StreamDeleteInput", _ITEM)
_UPDATE = Shape("StreamUpdateInput", {**_ITEM, "ops": read_ops})
_LIST = Shape("StreamListInput", _GROUP)
_GROUPS = Shape("StreamListGroupsInput", {"stream_name": string})
_ALL = Shape("StreamListAllInput", {})
_SEND = Shape(
    "StreamSendInput", {**_GROUP, "id": optional_string, "type": string, "data": anything}, {"id": None}
)


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `iii-stream`. `adapter` is taken as in the engine's files and selects nothing here."""

    adapter: dict[str, Any] | None = None
    port: Annotated[int, Meta(ge=0, le=65535)] | None = None
    """The port for subscriptions; None: 3112, if it is free."""
    host: str | None = None
    """None: where the worker port listens."""
    auth_function: str | None = None
    """The function that is asked who may connect."""


class Stream(Companion):
    """The worker `iii-stream`."""

    name = "iii-stream"
    aliases = ("stream",)
    description = "Items in groups, and the events of their changes."
    config_type = StreamSettings
    on_by_default = True

    async def start(self, host: CompanionHost, settings: StreamSettings) -> None:
        """Offer functions, sources and trigger types."""
        self._host, self._store = host, host.store
        self._providers = Providers(host)
        self.changed, self.joined, self.left = changed_source(), joined_source(), left_source()
        self.asked = JoinTriggers()
        self.listeners: list[Callable[[StreamEvent, bytes], None]] = []
        """Who else hears of every event: the open sockets."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sent = 0
        self._follower: asyncio.Task[None] | None = None
        if self._store.shared:
            self._follower = self._store.follow(self._heard, log=host.log)
        for name, handler, description in (
            ("set", self._set, "Store an item and tell of it."),
            ("get", self._get, "An item; no result when there is none."),
            ("delete", self._delete, "Remove an item and tell of it."),
            ("update", self._update, "Apply ops to an item in one atomic step and tell of it."),
            ("list", self._list, "All items of a group, in order of first insertion."),
            ("list_groups", self._list_groups, "The groups of a stream."),
            ("list_all", self._list_all, "All streams with their groups."),
            ("send", self._send, "Tell of an event; nothing is stored."),
        ):
            host.add_handler(f"stream::{name}", self._guarded(handler), description=description)
        for source in (self.changed, self.joined, self.left):
            host.add_source(source)
        for provider in (StreamTriggers(host, self.changed), self.asked, LeaveTriggers(host, self.left)):
            host.add_trigger_type(provider)
        self._port = WebSocketPort(
            name="iii-stream",
            port=DEFAULT_PORT if settings.port is None else settings.port,
            host=settings.host,
            chosen=settings.port is not None,
            handler=lambda request: SubscriptionClient(host, self, request, settings.auth_function),
        )
        host.serve_websocket(self._port)

    def ready(self) -> dict[str, Any]:
        """Where clients subscribe."""
        return {} if self._port.url is None else {"url": self._port.url}

    async def stop(self) -> None:
        """Follow nothing any more."""
        if self._follower is not None:
            self._follower.cancel()
        for task in self._tasks:
            task.cancel()

    # Functions.

    def _guarded(self, handler: Callable[[Call], None]) -> Callable[[Call], None]:
        def guarded(call: Call) -> None:
            try:
                handler(call)
            except IiiSkillError as error:
                call.fail(error)

        return guarded

    def _set(self, call: Call) -> None:
        given = read_input(call.function_id, _SET, call.data, refusal=ValueRefused)
        value = bytes(given["data"])
        check_value(value)
        if self._providers.has("set", given["stream_name"]):
            self._begin(call, self._set_by_provider(call, given))
            return
        self._write(
            call,
            given,
            self._store.set(_scope(given), given["item_id"], value),
            "STREAM_SET_ERROR",
            lambda change: (
                b'{"old_value":%b,"new_value":%b}' % (change.old or b"null", change.new or b"null")
            ),
        )

    def _delete(self, call: Call) -> None:
        given = read_input(call.function_id, _DELETE, call.data)
        if self._providers.has("delete", given["stream_name"]):
            self._begin(call, self._delete_by_provider(call, given))
            return
        self._write(
            call,
            given,
            self._store.delete(_scope(given), given["item_id"]),
            "STREAM_DELETE_ERROR",
            lambda change: b'{"old_value":%b}' % (change.old or b"null"),
        )

    def _update(self, call: Call) -> None:
        given = read_input(call.function_id, _UPDATE, call.data, refusal=ValueRefused)
        ops = UpdateOps(given["ops"], check_old=False)

        def change(old: bytes | None) -> bytes:
            # An item that is not there begins as an empty object, and exists afterwards whatever the ops do.
            return ops(b"{}" if old is None else old)

        def answer(change: Change) -> bytes:
            if not ops.errors:
                return _old_and_new(change)
            return b'{"errors":%b,%b' % (_encode(ops.errors), _old_and_new(change)[1:])

        self._write(
            call,
            given,
            self._store.update(_scope(given), given["item_id"], change),
            "STREAM_UPDATE_ERROR",
            answer,
        )

    def _get(self, call: Call) -> None:
        given = read_input(call.function_id, _GET, call.data)
        if self._providers.has("get", given["stream_name"]):
            self._begin(call, self._providers.ask("get", call, given["stream_name"]))
            return
        self._store.settle(
            self._store.get(_scope(given), given["item_id"]),
            call,
            # A stored null is a result, a missing item is none.
            lambda call, value: call.reply(Result(value)),
            _failed("STREAM_GET_ERROR"),
            key=(_scope(given), given["item_id"]),
        )

    def _list(self, call: Call) -> None:
        given = read_input(call.function_id, _LIST, call.data)
        if self._providers.has("list", given["stream_name"]):
            self._begin(call, self._providers.ask("list", call, given["stream_name"]))
            return
        self._store.settle(
            self._store.list(_scope(given)),
            call,
            lambda call, rows: call.succeed(b"[%b]" % b",".join([value for _, value in rows])),
            _failed("STREAM_LIST_ERROR"),
        )

    def _list_groups(self, call: Call) -> None:
        name = read_input(call.function_id, _GROUPS, call.data)["stream_name"]
        if self._providers.has("list_groups", name):
            self._begin(call, self._providers.ask("list_groups", call, name))
            return

        async def answer() -> bytes:
            return _encode(sorted(group for stream, group in await self._groups() if stream == name))

        self._begin(call, answer())

    def _list_all(self, call: Call) -> None:
        read_input(call.function_id, _ALL, call.data)

        async def answer() -> bytes:
            found: dict[str, list[str]] = {}
            for stream, group in sorted(await self._groups()):
                found.setdefault(stream, []).append(group)
            rows = [{"id": stream, "groups": groups} for stream, groups in found.items()]
            return _encode({"stream": rows, "count": len(rows)})

        self._begin(call, answer())

    def _send(self, call: Call) -> None:
        given = read_input(call.function_id, _SEND, call.data, refusal=ValueRefused)
        data = b'{"type":%b,"data":%b}' % (_encode(given["type"]), bytes(given["data"]))
        check_value(data)
        event = StreamEvent(given["stream_name"], given["group_id"], given["id"], "event", data, self._now())
        if not self._store.shared:
            call.succeed(b"null")
            self._tell(event)
            return
        # The other hosts hear of it through the store: a record that is there for a moment.
        self._sent += 1
        key = f"{event.timestamp_ms}-{self._sent}-{id(self)}"
        value = _encode([event.stream, event.group, event.item, msgspec.Raw(data)])

        async def pass_on() -> bytes:
            await self._store.read(self._store.set(_SENT, key, value))
            await self._store.read(self._store.delete(_SENT, key))
            return b"null"

        self._begin(call, pass_on())

    async def snapshot(self, stream: str, group: str, item: str | None) -> bytes:
        """The items of a group as an array, or one item or null."""
        named: dict[str, Any] = {"stream_name": stream, "group_id": group}
        verb = "list" if item is None else "get"
        if item is not None:
            named["item_id"] = item
        if self._providers.has(verb, stream):
            value = await self._providers.ask(verb, Call("", _encode(named)), stream)
        elif item is None:
            rows = await self._store.read(self._store.list(_scope(named)))
            return b"[%b]" % b",".join([value for _, value in rows])
        else:
            value = await self._store.read(self._store.get(_scope(named), item))
        return value or b"null"

    async def _groups(self) -> list[tuple[str, str]]:
        scopes = [scope for scope in await self._store.scopes() if scope.startswith("[")]
        return [(stream, group) for stream, group in map(_decode, scopes)]

    def _write(
        self, call: Call, given: dict[str, Any], answer: Any, code: str, shown: Callable[[Change], bytes]
    ) -> None:
        def done(call: Call, change: Change) -> None:
            call.succeed(shown(change))
            if not self._store.shared:
                self._changed(given["stream_name"], given["group_id"], change)

        self._store.settle(answer, call, done, _failed(code), key=(_scope(given), given["item_id"]))

    def _begin(self, call: Call, work: Any) -> None:
        """Answer a call with what a coroutine gives."""

        async def run() -> None:
            try:
                call.reply(Result(await work))
            except IiiSkillError as error:
                call.fail(error)
            except Exception as error:
                extra = {"traceparent": call.traceparent}
                self._host.log.exception("%s failed", call.function_id, extra=extra)
                text = f"{call.function_id} failed inside the host: {error}"
                call.reply(Failure("internal_error", text))

        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Streams whose items a function of a worker keeps.

    async def _set_by_provider(self, call: Call, given: dict[str, Any]) -> bytes:
        value, found = await self._providers.change("set", call, given["stream_name"], ("new_value",))
        kind = "create" if bytes(found.get("old_value", b"null")) == b"null" else "update"
        self._tell(self._event(given, kind, bytes(found["new_value"])))
        return value

    async def _delete_by_provider(self, call: Call, given: dict[str, Any]) -> bytes:
        value, found = await self._providers.change("delete", call, given["stream_name"], ())
        old = bytes(found.get("old_value", b"null"))
        if old != b"null":
            self._tell(self._event(given, "delete", old))
        return value

    # Events.

    def _event(self, given: dict[str, Any], kind: str, data: bytes) -> StreamEvent:
        return StreamEvent(given["stream_name"], given["group_id"], given["item_id"], kind, data, self._now())

    def _changed(self, stream: str, group: str, change: Change) -> None:
        """Tell of a change of the store; the deletion of nothing is none."""
        if change.new is None and change.old is None:
            return
        if change.new is None:
            kind, data = "delete", change.old
        else:
            kind, data = "create" if change.old is None else "update", change.new
        assert data is not None
        self._tell(StreamEvent(stream, group, change.key, kind, data, self._now()))

    def _tell(self, event: StreamEvent) -> None:
        if not self.changed.listeners and not self.listeners:
            return
        payload = event.encode()
        for listener in tuple(self.listeners):
            listener(event, payload)
        if self.changed.listeners:
            self.changed.happened(event.order, payload, event.plain)

    async def _heard(self, change: Change) -> None:
        """Tell the listeners of this host what any host of the store did."""
        if change.scope.startswith("["):
            stream, group = _decode(change.scope)
            self._changed(stream, group, change)
        elif change.scope == _SENT and change.new is not None:
            stream, group, item, data = _decode(change.new, type=tuple[str, str, str | None, msgspec.Raw])
            self._tell(StreamEvent(stream, group, item, "event", bytes(data), self._now()))

    def _now(self) -> int:
        return self._host.clock.now_ms()


def _scope(given: dict[str, Any]) -> str:
    return _encode([given["stream_name"], given["group_id"]]).decode()


def _old_and_new(change: Change) -> bytes:
    return b'{"old_value":%b,"new_value":%b}' % (change.old or b"null", change.new or b"null")


def _failed(code: str) -> Callable[[Call, BaseException], None]:
    def failed(call: Call, error: BaseException) -> None:
        if isinstance(error, CallerError):
            call.fail(error)
        else:
            text = error.message if isinstance(error, AdapterError) else f"{type(error).__name__}: {error}"
            call.reply(Failure(code, text))

    return failed
