"""What a produced worker must do: for each behaviour its checks, each by name, each able to fail alone.

A check drives the worker through its functions on a real host. The races are decided by counting: 40 calls
at once must leave exactly what 40 calls leave, which a worker that reads, computes and writes back does not.
Where several processes are to run the same code, a second one does: what one keeps to itself, a lock or a
value, the other does not know. A worker that is started anew goes on with what it had stored.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from support.workers import Site, running_worker

MANY = 40


async def _nothing() -> None:
    """What is no process is not started anew."""


@dataclass(frozen=True)
class Subject:
    """A worker that runs on a host, or a file that is an answer."""

    site: Site = None  # type: ignore[assignment]
    file: Path = Path()
    computed: list[str] = field(default_factory=list)
    """The keys that `slow::compute` was asked for, in order."""
    command: Sequence[str] = ()
    cwd: Path = Path()
    namespace: str | None = None
    restart: Callable[[], Awaitable[None]] = field(kw_only=True, default=_nothing)
    """Ends the worker by SIGTERM and starts it anew."""

    @property
    def text(self) -> str:
        """The answer."""
        return self.file.read_text("utf-8")

    async def call(self, function_id: str, **payload: Any) -> Any:
        """The result of one function."""
        return await self.site.call(function_id, payload, namespace=self.namespace)

    async def together(self, function_id: str, payloads: Sequence[dict[str, Any]]) -> list[Any]:
        """The results of calls made at the same time."""
        return await asyncio.gather(*(self.call(function_id, **payload) for payload in payloads))

    @asynccontextmanager
    async def another_process(self) -> AsyncIterator[Subject]:
        """A second process of the worker, its functions in another namespace (Node's SDK 0.22 knows none)."""
        name = "second"
        async with running_worker(self.command, self.cwd, self.site, namespace=name):
            yield replace(self, namespace=name)

    async def keys(self, scope: str) -> list[str]:
        """The keys that the worker stored."""
        return list((await self.call("state::list_keys", scope=scope))["keys"])


Check = Callable[[Subject], Awaitable[None]]
BEHAVIOURS: dict[str, dict[str, Check]] = {}
BEFORE: dict[str, Check] = {}
"""What is done before the worker starts."""


def check(behaviour: str) -> Callable[[Check], Check]:
    """Add a check to a behaviour under its name without the behaviour's."""

    def add(function: Check) -> Check:
        name = function.__name__.removeprefix(f"{behaviour}_").replace("_", "-")
        BEHAVIOURS.setdefault(behaviour, {})[name] = function
        return function

    return add


def equal(found: object, expected: object) -> None:
    """Fail with both values."""
    if found != expected:
        raise AssertionError(f"got {json.dumps(found, default=str)}, expected {json.dumps(expected)}")


# Counter: hits::add {page, by}, hits::get {page}; POST /hits/:page; scope site::hits.


@check("counter")
async def counter_counts(subject: Subject) -> None:
    equal(await subject.call("hits::add", page="a"), {"page": "a", "count": 1})
    equal(await subject.call("hits::add", page="a", by=5), {"page": "a", "count": 6})
    equal(await subject.call("hits::get", page="a"), {"page": "a", "count": 6})


@check("counter")
async def counter_exact_under_concurrency(subject: Subject) -> None:
    answers = await subject.together("hits::add", [{"page": "busy"}] * MANY)
    equal(sorted(answer["count"] for answer in answers), list(range(1, MANY + 1)))
    equal(await subject.call("hits::get", page="busy"), {"page": "busy", "count": MANY})


@check("counter")
async def counter_missing_page_is_zero(subject: Subject) -> None:
    equal(await subject.call("hits::get", page="never"), {"page": "never", "count": 0})
    equal("never" in await subject.keys("site::hits"), False)


@check("counter")
async def counter_keeps_state_on_the_host(subject: Subject) -> None:
    await subject.call("hits::add", page="stored")
    equal("stored" in await subject.keys("site::hits"), True)
    await subject.restart()
    equal(await subject.call("hits::add", page="stored"), {"page": "stored", "count": 2})


@check("counter")
async def counter_answers_over_http(subject: Subject) -> None:
    equal(await subject.site.request("POST", "/hits/web"), (200, {"page": "web", "count": 1}))
    equal(await subject.site.request("POST", "/hits/web", {"by": 2}), (200, {"page": "web", "count": 3}))


# Sessions: sessions::open {user}, ::get {id}, ::put {id, field, value}, ::close {id}; scope auth::sessions.


@check("sessions")
async def sessions_open_read_and_put(subject: Subject) -> None:
    opened = await subject.call("sessions::open", user="ann")
    equal(opened, {"id": opened["id"], "user": "ann", "data": {}})
    put = await subject.call("sessions::put", id=opened["id"], field="theme", value="dark")
    equal(put, {"id": opened["id"], "user": "ann", "data": {"theme": "dark"}})
    equal(await subject.call("sessions::get", id=opened["id"]), put)
    equal(opened["id"] in await subject.keys("auth::sessions"), True)
    await subject.restart()
    equal(await subject.call("sessions::get", id=opened["id"]), put)


@check("sessions")
async def sessions_ids_never_collide(subject: Subject) -> None:
    opened = await subject.together("sessions::open", [{"user": f"u{n}"} for n in range(MANY)])
    equal(len({session["id"] for session in opened}), MANY)


@check("sessions")
async def sessions_keep_every_field_put_at_once(subject: Subject) -> None:
    session = await subject.call("sessions::open", user="bob")
    fields = [{"id": session["id"], "field": f"f{n}", "value": n} for n in range(MANY)]
    await subject.together("sessions::put", fields)
    found = await subject.call("sessions::get", id=session["id"])
    equal(found["data"], {f"f{n}": n for n in range(MANY)})


@check("sessions")
async def sessions_keep_false_zero_and_null(subject: Subject) -> None:
    session = await subject.call("sessions::open", user="")
    for name, value in (("off", False), ("zero", 0), ("none", None), ("empty", "")):
        await subject.call("sessions::put", id=session["id"], field=name, value=value)
    found = await subject.call("sessions::get", id=session["id"])
    equal(found["data"], {"off": False, "zero": 0, "none": None, "empty": ""})


@check("sessions")
async def sessions_unknown_id_is_not_found_and_not_created(subject: Subject) -> None:
    for function, payload in (
        ("sessions::get", {"id": "ghost"}),
        ("sessions::put", {"id": "ghost", "field": "a", "value": 1}),
        ("sessions::close", {"id": "ghost"}),
    ):
        equal(await subject.call(function, **payload), {"error": "NOT_FOUND"})
    equal("ghost" in await subject.keys("auth::sessions"), False)


@check("sessions")
async def sessions_close_once(subject: Subject) -> None:
    session = await subject.call("sessions::open", user="eve")
    answers = await subject.together("sessions::close", [{"id": session["id"]}] * 12)
    equal(answers.count({"closed": True}), 1)
    equal(answers.count({"error": "NOT_FOUND"}), 11)


# Flags: flags::set {name, on}, ::get {name, default}, ::stats {name}; scope app::flags.


@check("flags")
async def flags_set_and_get(subject: Subject) -> None:
    equal(await subject.call("flags::set", name="new-ui", on=True), {"name": "new-ui", "on": True})
    equal(
        await subject.call("flags::get", name="new-ui", default=False),
        {"name": "new-ui", "on": True, "found": True},
    )
    equal("new-ui" in await subject.keys("app::flags"), True)


@check("flags")
async def flags_stored_false_beats_the_default(subject: Subject) -> None:
    await subject.call("flags::set", name="dark", on=False)
    equal(
        await subject.call("flags::get", name="dark", default=True),
        {"name": "dark", "on": False, "found": True},
    )


@check("flags")
async def flags_missing_takes_the_default_and_is_not_created(subject: Subject) -> None:
    for default in (True, False):
        found = await subject.call("flags::get", name="nope", default=default)
        equal(found, {"name": "nope", "on": default, "found": False})
    equal("nope" in await subject.keys("app::flags"), False)


@check("flags")
async def flags_count_every_read(subject: Subject) -> None:
    await subject.call("flags::set", name="busy", on=True)
    await subject.together("flags::get", [{"name": "busy", "default": False}] * MANY)
    equal(await subject.call("flags::stats", name="busy"), {"name": "busy", "on": True, "reads": MANY})


@check("flags")
async def flags_set_keeps_the_count(subject: Subject) -> None:
    await subject.call("flags::set", name="kept", on=True)
    await subject.call("flags::get", name="kept", default=False)
    await subject.call("flags::set", name="kept", on=False)
    await subject.restart()
    equal(await subject.call("flags::stats", name="kept"), {"name": "kept", "on": False, "reads": 1})


# Cache: cache::get {key} (asks slow::compute {key} -> {value}), ::stats {}, ::forget {key}; scope app::cache.


@check("cache")
async def cache_computes_once(subject: Subject) -> None:
    equal(await subject.call("cache::get", key="text:a"), {"key": "text:a", "value": "A", "hit": False})
    equal(await subject.call("cache::get", key="text:a"), {"key": "text:a", "value": "A", "hit": True})
    await subject.restart()
    equal((await subject.call("cache::get", key="text:a"))["hit"], True)
    equal(subject.computed.count("text:a"), 1)
    equal("text:a" in await subject.keys("app::cache"), True)


@check("cache")
async def cache_keeps_null_zero_and_false(subject: Subject) -> None:
    for key, value in (("null:", None), ("zero:", 0), ("false:", False), ("empty:", "")):
        equal(await subject.call("cache::get", key=key), {"key": key, "value": value, "hit": False})
        equal(await subject.call("cache::get", key=key), {"key": key, "value": value, "hit": True})
        equal(subject.computed.count(key), 1)


@check("cache")
async def cache_forgets(subject: Subject) -> None:
    await subject.call("cache::get", key="text:f")
    equal(await subject.call("cache::forget", key="text:f"), {"forgotten": True})
    equal(await subject.call("cache::forget", key="text:f"), {"forgotten": False})
    equal((await subject.call("cache::get", key="text:f"))["hit"], False)


@check("cache")
async def cache_counts_hits_exactly(subject: Subject) -> None:
    await subject.call("cache::get", key="text:warm")
    before = await subject.call("cache::stats")
    await subject.together("cache::get", [{"key": "text:warm"}] * MANY)
    after = await subject.call("cache::stats")
    equal(after, {"hits": before["hits"] + MANY, "misses": before["misses"]})


# Cart: cart::add {user, sku, quantity}, ::remove {user, sku}, ::get {user}, ::checkout {user}; shop::carts.


@check("cart")
async def cart_add_get_and_remove(subject: Subject) -> None:
    equal(
        await subject.call("cart::add", user="ann", sku="pen", quantity=2),
        {"user": "ann", "items": {"pen": 2}},
    )
    await subject.call("cart::add", user="ann", sku="ink.blue", quantity=1)
    equal(
        await subject.call("cart::remove", user="ann", sku="pen"), {"user": "ann", "items": {"ink.blue": 1}}
    )
    equal(await subject.call("cart::get", user="ann"), {"user": "ann", "items": {"ink.blue": 1}})
    equal("ann" in await subject.keys("shop::carts"), True)
    await subject.restart()
    equal(await subject.call("cart::get", user="ann"), {"user": "ann", "items": {"ink.blue": 1}})


@check("cart")
async def cart_sums_additions_made_at_once(subject: Subject) -> None:
    await subject.together("cart::add", [{"user": "bob", "sku": "pen", "quantity": 2}] * MANY)
    equal(await subject.call("cart::get", user="bob"), {"user": "bob", "items": {"pen": 2 * MANY}})


@check("cart")
async def cart_unknown_is_empty_and_not_created(subject: Subject) -> None:
    equal(await subject.call("cart::get", user="nobody"), {"user": "nobody", "items": {}})
    equal(await subject.call("cart::checkout", user="nobody"), {"error": "EMPTY_CART"})
    equal("nobody" in await subject.keys("shop::carts"), False)


@check("cart")
async def cart_is_sold_once(subject: Subject) -> None:
    await subject.call("cart::add", user="eve", sku="pen", quantity=3)
    answers = await subject.together("cart::checkout", [{"user": "eve"}] * 12)
    equal(answers.count({"user": "eve", "items": {"pen": 3}}), 1)
    equal(answers.count({"error": "EMPTY_CART"}), 11)


# Migration: articles::view {id}, users::save {id, fields}, users::get {id}, jobs::claim {job, worker},
# recent::add {user, item}, recent::list {user}; scopes blog::views, blog::users, blog::claims, blog::recent.


@check("migration")
async def migration_views_are_exact(subject: Subject) -> None:
    answers = await subject.together("articles::view", [{"id": "a1"}] * MANY)
    equal(sorted(answer["views"] for answer in answers), list(range(1, MANY + 1)))
    equal("a1" in await subject.keys("blog::views"), True)


@check("migration")
async def migration_fields_saved_at_once_are_all_kept(subject: Subject) -> None:
    payloads = [{"id": "u1", "fields": {f"f{n}": n}} for n in range(MANY)]
    await subject.together("users::save", payloads)
    equal(await subject.call("users::get", id="u1"), {f"f{n}": n for n in range(MANY)})


@check("migration")
async def migration_missing_user_is_an_error_and_empty_fields_are_not(subject: Subject) -> None:
    equal(await subject.call("users::get", id="nobody"), {"error": "NOT_FOUND"})
    await subject.call("users::save", id="u2", fields={"name": "", "age": 0, "admin": False})
    equal(await subject.call("users::get", id="u2"), {"name": "", "age": 0, "admin": False})
    await subject.call("users::save", id="u3", fields={})
    equal(await subject.call("users::get", id="u3"), {})


@check("migration")
async def migration_job_is_claimed_once(subject: Subject) -> None:
    answers = await subject.together("jobs::claim", [{"job": "j1", "worker": f"w{n}"} for n in range(12)])
    equal(sorted(answer["claimed"] for answer in answers), [False] * 11 + [True])


@check("migration")
async def migration_recent_items_keep_order_and_all(subject: Subject) -> None:
    equal(await subject.call("recent::list", user="nobody"), {"items": []})
    for item in ("a", "b", ["c"]):
        await subject.call("recent::add", user="ann", item=item)
    await subject.restart()
    equal(await subject.call("recent::list", user="ann"), {"items": ["a", "b", ["c"]]})
    await subject.together("recent::add", [{"user": "bob", "item": n} for n in range(MANY)])
    equal(sorted((await subject.call("recent::list", user="bob"))["items"]), list(range(MANY)))
