"""State management: a state worker for iii.

Every function has two faces. Called directly, the payload is its input and the answer is the plain
result, or `{"error", "code"}`. Over HTTP the input is the body plus the path values, and the answer is
`{"status_code", "headers", "body"}`. No value is read, changed and written back: every write is one
`state::` call that the host carries out in one step, so calls may run side by side.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from iii import InitOptions, register_worker

try:  # the Logger moved: SDK 0.20 and later, up to 0.18, 0.19
    from iii_helpers.observability import Logger
except ImportError:
    try:
        from iii import Logger  # type: ignore[attr-defined,no-redef]
    except ImportError:
        from iii_observability import Logger  # type: ignore[import-not-found,no-redef]

SCOPE = "products"
TRANSCRIPTS = "audio::transcripts"
SAFE_INTEGER = 2**53 - 1  # JavaScript readers lose digits beyond it

Json = dict[str, Any]
Handler = Callable[["State", Json], Awaitable[Json]]

log = Logger(service_name="state-management")


# What the handlers share: refusals, state calls, checks of the input.


class Refused(Exception):
    """The call is answered with an error: a status as HTTP has it, a code and details."""

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details


def invalid(field: str, rule: str) -> Refused:
    """The input breaks a rule; the message names the field."""
    return Refused(400, "INVALID_INPUT", f"{field} {rule}", field=field)


def not_found(what: str, key: str) -> Refused:
    """There is nothing under this key."""
    return Refused(404, "NOT_FOUND", f"{what} not found", id=key)


def code_of(error: Exception) -> str:
    """The code of a failed call: an attribute in today's SDK, a dictionary in 0.10."""
    if isinstance(error, TimeoutError):
        return "TIMEOUT"
    first = error.args[0] if error.args else None
    code = getattr(error, "code", None) or (first.get("code") if isinstance(first, dict) else None)
    return str(code or type(error).__name__)


class State:
    """The `state::` functions of the host; whatever goes wrong there becomes a Refused."""

    def __init__(self, iii: Any) -> None:
        self.iii = iii

    async def call(self, function: str, **payload: Any) -> Any:
        """Call `state::<function>`. After a timeout a write may have happened, and the answer says so."""
        try:
            return await self.iii.trigger_async({"function_id": f"state::{function}", "payload": payload})
        except Exception as error:
            code = code_of(error)
            log.error("state call failed", {"function": function, "code": code, "reason": str(error)})
            if code == "TIMEOUT":
                retry_safe = function in {"get", "list", "delete"}
                raise Refused(504, code, f"state::{function} timed out", retry_safe=retry_safe) from error
            status = 413 if code == "VALUE_TOO_LARGE" else 502
            raise Refused(status, code, f"state::{function} failed") from error

    async def update(self, scope: str, key: str, *ops: Json) -> Json:
        """Apply `ops` in one step; gives `old_value` and `new_value`."""
        result: Json = await self.call("update", scope=scope, key=key, ops=list(ops))
        return result

    async def record(self, key: str) -> Json:
        """The product with this id; anything else in the store counts as missing."""
        value = await self.call("get", scope=SCOPE, key=key)
        if not is_record(value, key):
            raise not_found("product", key)
        return dict(value)

    async def change(self, key: str, *ops: Json) -> Json:
        """Apply `ops` to an existing product and give its new value.

        An update creates a key that is missing, for instance one that was removed a moment ago. Whoever
        did that takes it away again; ids are never used twice, so this cannot hit a live record.
        """
        result = await self.update(SCOPE, key, *ops)
        old = result["old_value"]
        if not is_record(old, key):
            if old is None or (isinstance(old, dict) and "id" not in old):
                await self.call("delete", scope=SCOPE, key=key)
            raise not_found("product", key)
        refuse_errors(key, result)
        return dict(result["new_value"])


def refuse_errors(key: str, result: Json) -> None:
    """A value that an op does not fit, such as text where a number belongs, is a damaged record."""
    if errors := result.get("errors"):
        log.error("update skipped ops", {"key": key, "errors": errors})
        raise Refused(500, "CORRUPT_RECORD", "the stored value does not fit the change", id=key)


def is_record(value: Any, key: str) -> bool:
    """A stored value counts only when it is an object that carries its own id."""
    return isinstance(value, dict) and value.get("id") == key


def timestamp(moment: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SS.mmmZ`: as text it sorts in order of time."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """The time in UTC."""
    return timestamp(datetime.now(UTC))


def identifier(data: Json, field: str) -> str:
    """1 to 64 letters, digits, underscores and hyphens."""
    value = data.get(field)
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise invalid(field, "must be 1 to 64 letters, digits, '_' or '-'")
    return value


def text(data: Json, field: str) -> str:
    """Text of 1 to 200 characters without blanks around it."""
    value = data.get(field)
    if not isinstance(value, str) or not 1 <= len(value.strip()) <= 200:
        raise invalid(field, "must be text of 1 to 200 characters")
    return value.strip()


def amount(data: Json, field: str) -> int | float:
    """A number from 0 with at most 2 decimals, kept as it came."""
    value = data.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise invalid(field, "must be a number of 0 or more")
    if int(Decimal(repr(value)).as_tuple().exponent) < -2:
        raise invalid(field, "must not have more than 2 decimals")
    return value


def integer(data: Json, field: str, low: int = -SAFE_INTEGER, high: int = SAFE_INTEGER) -> int:
    """A whole number between `low` and `high`."""
    value = data.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise invalid(field, f"must be a whole number from {low} to {high}")
    return value


# The functions.


@dataclass(frozen=True)
class Function:
    """A handler and how it is reached."""

    id: str
    handler: Handler
    method: str
    path: str
    status: int


FUNCTIONS: list[Function] = []


def function(id: str, method: str, path: str, status: int = 200) -> Callable[[Handler], Handler]:
    """Publish the handler below under `id`, and over HTTP at `method` and `path`."""

    def publish(handler: Handler) -> Handler:
        FUNCTIONS.append(Function(id, handler, method, path, status))
        return handler

    return publish


@function("products::create", "POST", "/products", status=201)
async def create_product(state: State, data: Json) -> Json:
    """Store a new product. Its id is random: nobody else writes this key."""
    data = {"stock": 0, **data}
    record = {
        "id": f"prod-{uuid.uuid4().hex}",
        "name": text(data, "name"),
        "price": amount(data, "price"),
        "category": text(data, "category"),
        "stock": integer(data, "stock", low=0),
        "created_at": now(),
    }
    await state.call("set", scope=SCOPE, key=record["id"], value=record)
    return record


@function("products::get", "GET", "/products/:id")
async def get_product(state: State, data: Json) -> Json:
    """One product."""
    return await state.record(identifier(data, "id"))


@function("products::list-all", "GET", "/products")
async def list_products(state: State, data: Json) -> Json:
    """Every product, oldest first, or a page of `limit` behind `after`, the last `next`."""
    limit, after = page_of(data)
    values = await state.call("list", scope=SCOPE)
    records = [value for value in values if isinstance(value, dict) and isinstance(value.get("id"), str)]
    rest = sorted((record for record in records if place_of(record) > after), key=place_of)
    page = rest[:limit]
    answer = {"count": len(page), "products": page}
    return answer if len(page) == len(rest) else answer | {"next": place_of(page[-1])}


def place_of(record: Json) -> str:
    """Where a record stands in the list; it keeps its place when others are removed."""
    return f"{record.get('created_at')}~{record['id']}"


def page_of(data: Json) -> tuple[int | None, str]:
    """`limit` and `after`. A query has digits where a direct call has a number."""
    limit, after = data.get("limit"), data.get("after")
    if isinstance(limit, str) and re.fullmatch(r"[0-9]{1,4}", limit):
        limit = int(limit)
    if limit is not None and (type(limit) is not int or not 1 <= limit <= 1000):
        raise invalid("limit", "must be a whole number from 1 to 1000")
    if after is not None and (not isinstance(after, str) or "~" not in after):
        raise invalid("after", "must be the `next` of a page")
    return limit, after or ""


@function("products::remove", "DELETE", "/products/:id")
async def remove_product(state: State, data: Json) -> Json:
    """Remove a product. Of several calls at once the one that got the old value did it."""
    key = identifier(data, "id")
    if not is_record(await state.call("delete", scope=SCOPE, key=key), key):
        raise not_found("product", key)
    return {"deleted": key}


@function("products::update-price", "PUT", "/products/:id/price")
async def update_price(state: State, data: Json) -> Json:
    """Set the price of a product."""
    key, value = identifier(data, "id"), amount(data, "newPrice")
    record = await state.change(
        key,
        {"type": "set", "path": "price", "value": value},
        {"type": "set", "path": "updated_at", "value": now()},
    )
    return {"id": key, "price": record["price"]}


@function("products::adjust-stock", "POST", "/products/:id/stock")
async def adjust_stock(state: State, data: Json) -> Json:
    """Add to the stock of a product, or take from it what is there.

    The increment decides: calls that run side by side cannot take more than there is. One that went below
    zero is taken back; the look beforehand only spares others from meeting such a moment.
    """
    key, adjustment = identifier(data, "id"), integer(data, "adjustment")
    if adjustment == 0:
        raise invalid("adjustment", "must not be 0")
    if adjustment < 0:
        refuse_below_zero((await state.record(key)).get("stock", 0), adjustment)
    change = {"type": "increment", "path": "stock", "by": adjustment}
    stamp = {"type": "set", "path": "last_stock_change", "value": now()}
    value = (await state.change(key, change, stamp))["stock"]
    if adjustment < 0 and value < 0:
        await state.change(key, change | {"by": -adjustment})
        refuse_below_zero(value - adjustment, adjustment)
    return {
        "id": key,
        "previousStock": value - adjustment,
        "newStock": value,
    }


def refuse_below_zero(current: Any, adjustment: int) -> None:
    """Refuse to take more than there is; a value that is no number is left to the increment."""
    if isinstance(current, int | float) and current + adjustment < 0:
        code, message = "INSUFFICIENT_STOCK", "the stock is not sufficient"
        raise Refused(409, code, message, current=current, requested=adjustment)


@function("transcripts::record-chunk", "POST", "/transcripts/:sessionId/chunks", status=201)
async def record_chunk(state: State, data: Json) -> Json:
    """Add a piece of speech to the transcript of a session: one call, and every chunk keeps its place."""
    session, author, chunk = identifier(data, "sessionId"), text(data, "author"), text(data, "chunk")
    at = time.time_ns() // 1_000_000
    result = await state.update(
        TRANSCRIPTS,
        session,
        {"type": "merge", "path": ["metadata"], "value": {"author": author}},
        {"type": "append", "path": ["chunks"], "value": {"at": at, "author": author, "text": chunk}},
    )
    refuse_errors(session, result)
    return {"sessionId": session, "timestamp": at, "count": len(result["new_value"]["chunks"])}


async def on_change(event: Json) -> Json:
    """The host calls this after every change in SCOPE, with the old and the new value."""
    log.info("changed", {"event": event["event_type"], "key": event["key"]})
    return {}


# The worker.


class Worker:
    """Answers calls with the functions above and knows how many are running."""

    def __init__(self, iii: Any) -> None:
        self.iii = iii
        self.state = State(iii)
        self.running = 0
        self.triggers: list[Any] = []
        self.functions: list[Any] = []

    def register(self) -> None:
        """Publish what follows changes, then every function and its route."""
        self.watch("products::on-change", SCOPE, on_change)
        for entry in FUNCTIONS:
            self.functions.append(self.iii.register_function(entry.id, self.answering(entry)))
            config = {"api_path": entry.path, "http_method": entry.method}
            route = {"type": "http", "function_id": entry.id, "config": config}
            self.triggers.append(self.iii.register_trigger(route))

    def watch(self, id: str, scope: str, handler: Callable[[Json], Awaitable[Json]]) -> None:
        """Have the host call `handler` after every change in the scope."""
        self.functions.append(self.iii.register_function(id, handler))
        watch = {"type": "state", "function_id": id, "config": {"scope": scope}}
        self.triggers.append(self.iii.register_trigger(watch))

    def answering(self, entry: Function) -> Callable[[Any], Awaitable[Json]]:
        """What the SDK calls: the handler with its input checked and its outcome in the caller's form."""

        async def answer(payload: Any) -> Json:
            http = isinstance(payload, dict) and "path_params" in payload and "method" in payload
            read = http_input if http else direct_input
            self.running += 1
            try:
                result = await entry.handler(self.state, read(payload))
            except Refused as refused:
                if http:
                    error = {"code": refused.code, "message": str(refused), **refused.details}
                    return {"status_code": refused.status, "body": {"error": error}}
                return {"error": str(refused), "code": refused.code, **refused.details}
            finally:
                self.running -= 1
            return http_answer(entry, result) if http else result

        return answer

    def finish(self, seconds: float) -> None:
        """Take back what was published, let running calls end and their answers leave, then disconnect."""
        for trigger in self.triggers:
            trigger.unregister()
        self.round_trip()
        for function in self.functions:
            function.unregister()
        deadline, quiet = time.monotonic() + seconds, 0
        while quiet < 3 and time.monotonic() < deadline:
            self.round_trip()
            quiet = 0 if self.running else quiet + 1
        self.iii.shutdown()

    def round_trip(self) -> None:
        """Ask the host something: it keeps the order, so whatever was sent before has arrived."""
        payload = {"scope": SCOPE, "key": "none"}
        with contextlib.suppress(Exception):
            self.iii.trigger({"function_id": "state::get", "payload": payload, "timeout_ms": 1000})
        time.sleep(0.02)


def direct_input(payload: Any) -> Json:
    """The payload of a direct call."""
    if not isinstance(payload, dict):
        raise invalid("payload", "must be an object")
    return payload


def http_input(request: Json) -> Json:
    """Body and path values of a request, and the query of a GET; path values win.

    The host has decoded the query and leaves the percent signs of a path as they came.
    """
    body = request.get("body")
    if body is None and request["method"] in {"GET", "DELETE"}:
        body = {}
    if not isinstance(body, dict):
        raise invalid("body", "must be a JSON object")
    query = request.get("query_params") if request["method"] == "GET" else None
    path = {name: decoded(name, value) for name, value in request["path_params"].items()}
    return {**(query or {}), **body, **path}


def decoded(name: str, value: str) -> str:
    """A path value with its percent signs resolved."""
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise invalid(name, "must be percent-encoded UTF-8") from None


def http_answer(entry: Function, result: Json) -> Json:
    """The envelope that the host turns into a response; what was created gets its address."""
    answer = {"status_code": entry.status, "body": result}
    if entry.status == 201 and "id" in result:
        answer["headers"] = {"location": f"{entry.path}/{result['id']}"}
    return answer


def main() -> None:
    """Connect, register and serve until SIGINT or SIGTERM."""
    handler = logging.StreamHandler()
    form = "%(asctime)s %(levelname)s %(message)s %(data)s"
    handler.setFormatter(logging.Formatter(form, defaults={"data": ""}))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    os.environ.setdefault("OTEL_ENABLED", "false")  # SDKs up to 0.24.4 send telemetry to a fixed address
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    os.environ["no_proxy"] = f"{direct},127.0.0.1,localhost,::1"  # no proxy leads to this machine
    url = os.environ.get("III_URL") or os.environ.get("III_ENGINE_URL") or "ws://127.0.0.1:49134"

    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        signal.signal(number, lambda *_: os._exit(0))  # still connecting: there is nothing to finish
    worker = Worker(register_worker(url, InitOptions(worker_name=os.environ.get("III_WORKER_NAME"))))
    for number in signals:
        signal.signal(number, lambda *_: stop.set())
    worker.register()
    log.info("ready", {"functions": [entry.id for entry in FUNCTIONS]})
    stop.wait()
    worker.finish(seconds=10)


if __name__ == "__main__":
    main()
