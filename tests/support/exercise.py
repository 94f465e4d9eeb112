"""Use a generated worker as clients do: every function and route, wrong input, calls side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from support.scaffold import EXTRAS, RECORDS, SHAPES
from support.served import ServedHost, wait_until

WRONG = {
    "text": ["", "  ", "x" * 201, 5, None],
    "amount": [-1, 1.005, "9.5", True, None],
    "integer": [1.5, "1", True, None, 2**53],
    "boolean": [1, "true", None],
}
SAMPLES = {"text": " pen ", "amount": 9.95, "integer": 10, "boolean": True}
STORED = {**SAMPLES, "text": "pen"}
_NAMES = {
    "product": (
        "products",
        "products",
        {"name": "text", "price": "amount", "category": "text", "stock": "integer"},
    ),
    "custom": (
        "inventory-items",
        "shop:items",
        {"inventory_quantity": "integer", "is_available": "boolean", "title": "text", "unit_price": "amount"},
    ),
}


class Exercise:
    """One running worker and what it was generated for."""

    def __init__(self, host: ServedHost, combination: Mapping[str, Any], log: Path) -> None:
        self.host, self.log = host, log
        self.operations, self.http, self.trigger = (
            set(combination["operations"]),
            combination["http"],
            combination["trigger"],
        )
        self.companions = combination.get("with", ())
        assert combination["shape"] in SHAPES
        self.plural, self.scope, self.fields = _NAMES[combination["shape"]]
        self.updated = "price" if combination["shape"] == "product" else "unit_price"
        self.counter = "stock" if combination["shape"] == "product" else "inventory_quantity"

    def run(self) -> None:
        """Everything that the worker offers, in turn."""
        self.functions_are_all_there()
        for name in ("create", "get", "list", "delete", "update", "counter", *EXTRAS):
            if name in self.operations:
                getattr(self, f"{name}_works")()
        if {"delete", "update"} <= self.operations:
            self.no_ghost_stays()
        for name in self.companions:
            getattr(self, f"{name}_works")()
        if self.trigger:
            self.trigger_fires()
        assert (self.host.http is not None) == self.http

    def expected(self) -> set[str]:
        """The ids of all functions."""
        update, adjust = self.updated.replace("_", "-"), self.counter.replace("_", "-")
        ids = {
            "create": [f"{self.plural}::create"],
            "get": [f"{self.plural}::get"],
            "list": [f"{self.plural}::list-all"],
            "delete": [f"{self.plural}::remove"],
            "update": [f"{self.plural}::update-{update}"],
            "counter": [f"{self.plural}::adjust-{adjust}"],
            "flag": ["flags::set", "flags::get"],
            "session": ["transcripts::record-chunk"],
            "cache": ["cache::put", "cache::get", "cache::remove"],
            "claim": ["claims::take", "claims::get"],
            "hold": ["stocks::set", "stocks::get", "stocks::hold", "stocks::confirm"],
            "total": [f"{self.plural}::total"],
            "skeleton": ["visits::add"],
        }
        return {name for operation in self.operations for name in ids[operation]}

    def functions_are_all_there(self) -> None:
        prefixes = (
            "flags::",
            "cache::",
            "transcripts::",
            "claims::",
            "stocks::",
            "visits::",
            f"{self.plural}::",
        )
        own = [name for name in self.host.functions() if name.startswith(prefixes)]
        assert {name for name in own if "::on-" not in name} == self.expected()
        follows = f"{self.plural}::on-change-total"
        assert (follows in own) is ("total" in self.operations)
        assert bool([name for name in own if name.endswith("::on-change")]) == self.trigger
        heard = {
            "queue": {"on-created"},
            "cron": {"on-schedule"},
            "pubsub": {"on-change-announce", "on-announced"},
            "stream": {"on-change-stream"},
        }
        for companion, names in heard.items():
            there = {name for name in names if f"{self.plural}::{name}" in own}
            assert there == (names if companion in self.companions else set())
        payload = self.host.call(next(iter(self.expected())), "text")["result"]
        assert payload["code"] == "INVALID_INPUT"

    def call(self, function_id: str, payload: object) -> Any:
        """A direct call that the worker answers."""
        return self.host.call(function_id, payload)["result"]

    def ask(self, function_id: str, payload: Mapping[str, Any], method: str, path: str, ok: int = 200) -> Any:
        """The same by both faces in turn: gives the answer; over HTTP it must have the status `ok`."""
        if not self.http:
            return self.call(function_id, payload)
        status, body = self.host.request(method, path, None if method in ("GET", "DELETE") else payload)
        assert status == ok, (method, path, status, body)
        return body

    def side_by_side(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """All calls at once, from connections of their own."""
        start = threading.Barrier(len(calls))

        def run(call: Callable[[], Any]) -> Any:
            start.wait()
            return call()

        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(run, calls))

    def sample(self) -> dict[str, Any]:
        return {name: SAMPLES[kind] for name, kind in self.fields.items()}

    def create(self) -> dict[str, Any]:
        """A new record, by the worker or, when it does not create any, as it would be stored."""
        if "create" in self.operations:
            record: dict[str, Any] = self.call(f"{self.plural}::create", self.sample())
            return record
        stored = {name: STORED[kind] for name, kind in self.fields.items()}
        record = {"id": f"thing-{uuid4().hex}", **stored, "created_at": f"2026-01-01T{uuid4().hex}"}
        self.state("set", scope=self.scope, key=record["id"], value=record)
        return record

    def state(self, function: str, **payload: Any) -> Any:
        return self.host.call(f"state::{function}", payload).get("result")

    def create_works(self) -> None:
        create = f"{self.plural}::create"
        record = self.ask(create, self.sample(), "POST", f"/{self.plural}", 201)
        assert {name: record[name] for name in self.fields} == {
            name: STORED[kind] for name, kind in self.fields.items()
        }
        assert self.state("get", scope=self.scope, key=record["id"]) == record
        created = self.side_by_side([self.create] * 12)
        assert len({one["id"] for one in created}) == 12
        for name, kind in self.fields.items():
            for value in WRONG[kind]:
                refused = self.call(create, self.sample() | {name: value})
                assert (refused["code"], refused["field"]) == ("INVALID_INPUT", name), value
        if self.http:
            for body in ([1], "text", None):
                assert self.host.request("POST", f"/{self.plural}", body)[0] == 400

    def get_works(self) -> None:
        get, record = f"{self.plural}::get", self.create()
        assert self.ask(get, {"id": record["id"]}, "GET", f"/{self.plural}/{record['id']}") == record
        absent = uuid4().hex
        assert self.call(get, {"id": absent}) == {
            "error": self.call(get, {"id": absent})["error"],
            "code": "NOT_FOUND",
            "id": absent,
        }
        self.state("set", scope=self.scope, key=absent, value=0)
        assert self.call(get, {"id": absent})["code"] == "NOT_FOUND"
        self.state("delete", scope=self.scope, key=absent)
        if self.http:
            status, body = self.host.request("GET", f"/{self.plural}/{absent}")
            assert (status, body["error"]["code"]) == (404, "NOT_FOUND")
            for bad in ("%zz", "%2F", "a%20b", "x" * 65, "%F0%28", "%ff"):
                assert self.host.request("GET", f"/{self.plural}/{bad}")[0] == 400, bad
            encoded = record["id"].replace("-", "%2D")
            assert self.host.request("GET", f"/{self.plural}/{encoded}") == (200, record)

    def list_works(self) -> None:
        self.state("set", scope=self.scope, key="foreign", value=[1])
        mine = [self.create() for _ in range(3)]
        answer = self.ask(f"{self.plural}::list-all", {}, "GET", f"/{self.plural}")
        records = answer[self.plural.replace("-", "_")]
        assert answer["count"] == len(records)
        assert [record for record in records if record in mine] == sorted(
            mine, key=lambda record: (record["created_at"], record["id"])
        )
        self.pages_work(records)
        self.state("delete", scope=self.scope, key="foreign")

    def pages_work(self, records: list[dict[str, Any]]) -> None:
        """Pages hold every record once, also when the one that a page ended with is removed."""
        function, path, name = f"{self.plural}::list-all", f"/{self.plural}", self.plural.replace("-", "_")
        first = self.ask(function, {"limit": 2}, "GET", f"{path}?limit=2")
        assert (first["count"], first[name]) == (2, records[:2])
        last = first[name][-1]
        self.state("delete", scope=self.scope, key=last["id"])
        given = {"limit": "1000", "after": first["next"]}
        rest = self.ask(function, given, "GET", f"{path}?{urlencode(given)}")
        assert (rest[name], "next" in rest) == (records[2:], False)
        self.state("set", scope=self.scope, key=last["id"], value=last)
        for wrong in ({"limit": 0}, {"limit": "1e2"}, {"limit": 1.5}, {"limit": True}, {"after": ""}):
            assert self.call(function, wrong)["field"] == next(iter(wrong)), wrong
            if self.http:
                assert self.host.request("GET", f"{path}?{urlencode(wrong)}")[0] == 400, wrong
        assert self.call(function, {"limit": None, "after": None})["count"] == len(records)

    def delete_works(self) -> None:
        key = self.create()["id"]
        remove = f"{self.plural}::remove"
        answers = self.side_by_side([lambda: self.call(remove, {"id": key})] * 4)
        assert answers.count({"deleted": key}) == 1
        other = self.create()["id"]
        assert self.ask(remove, {"id": other}, "DELETE", f"/{self.plural}/{other}") == {"deleted": other}

    def update_works(self) -> None:
        path = self.updated.replace("_", "-")
        function, name = f"{self.plural}::update-{path}", "new" + self.updated.title().replace("_", "")
        key = self.create()["id"]
        wanted = {"id": key, self.updated: 1}
        assert self.ask(function, {"id": key, name: 1}, "PUT", f"/{self.plural}/{key}/{path}") == wanted
        assert self.call(function, {"id": key, name: -1})["field"] == name
        absent = uuid4().hex
        assert self.call(function, {"id": absent, name: 1})["code"] == "NOT_FOUND"
        assert "result" not in self.host.call("state::get", {"scope": self.scope, "key": absent})

    def no_ghost_stays(self) -> None:
        path = self.updated.replace("_", "-")
        name = "new" + self.updated.title().replace("_", "")
        for _ in range(4):
            key = self.create()["id"]
            update = {"id": key, name: 2}
            calls = [lambda update=update: self.call(f"{self.plural}::update-{path}", update)] * 4  # type: ignore[misc]
            removes = [lambda key=key: self.call(f"{self.plural}::remove", {"id": key})] * 2  # type: ignore[misc]
            answers = self.side_by_side([*calls, *removes])
            assert answers.count({"deleted": key}) == 1
        assert all("id" in record for record in self.state("list", scope=self.scope))

    def counter_works(self) -> None:
        path = self.counter.replace("_", "-")
        function = f"{self.plural}::adjust-{path}"
        words = self.counter.title().replace("_", "")
        key = self.create()["id"]
        answer = self.ask(function, {"id": key, "adjustment": -4}, "POST", f"/{self.plural}/{key}/{path}")
        assert answer == {"id": key, f"previous{words}": 10, f"new{words}": 6}
        amounts = [1] * 10 + [-1, -2, -3, -70] * 4
        answers = self.side_by_side(
            [lambda by=by: self.call(function, {"id": key, "adjustment": by}) for by in amounts]  # type: ignore[misc]
        )
        done = [by for by, answer in zip(amounts, answers, strict=True) if f"new{words}" in answer]
        left = self.state("get", scope=self.scope, key=key)[self.counter]
        assert left == 6 + sum(done) >= 0
        assert done.count(-70) == 0
        assert done.count(1) == 10
        refused = self.call(function, {"id": key, "adjustment": -1000})
        assert refused["code"] == f"INSUFFICIENT_{self.counter.upper()}"
        assert (refused["current"], refused["requested"]) == (left, -1000)
        for value in (0, 0.5, "1", None, True):
            assert self.call(function, {"id": key, "adjustment": value})["field"] == "adjustment"
        self.state("set", scope=self.scope, key="broken", value={"id": "broken", self.counter: "many"})
        assert self.call(function, {"id": "broken", "adjustment": 1})["code"] == "CORRUPT_RECORD"
        self.state("delete", scope=self.scope, key="broken")

    def flag_works(self) -> None:
        name = uuid4().hex
        assert self.call("flags::get", {"name": name})["enabled"] is False
        self.ask("flags::set", {"name": name, "enabled": True}, "PUT", f"/flags/{name}")
        assert self.ask("flags::get", {"name": name}, "GET", f"/flags/{name}")["enabled"] is True
        assert self.call("flags::set", {"name": name})["field"] == "enabled"

    def session_works(self) -> None:
        session = uuid4().hex
        chunk = {"sessionId": session, "author": "ann", "chunk": "hi"}
        first = self.ask("transcripts::record-chunk", chunk, "POST", f"/transcripts/{session}/chunks", 201)
        assert (first["sessionId"], first["count"]) == (session, 1)
        answers = self.side_by_side([lambda: self.call("transcripts::record-chunk", chunk)] * 8)
        assert sorted(answer["count"] for answer in answers) == list(range(2, 10))
        stored = self.state("get", scope="audio::transcripts", key=session)
        assert len(stored["chunks"]) == 9
        assert stored["metadata"] == {"author": "ann"}
        assert self.call("transcripts::record-chunk", chunk | {"author": 1})["field"] == "author"

    def cache_works(self) -> None:
        key = uuid4().hex
        value = {"any": [1, None, {"x": "y"}]}
        self.ask("cache::put", {"key": key, "value": value}, "PUT", f"/cache/{key}")
        assert self.ask("cache::get", {"key": key}, "GET", f"/cache/{key}")["value"] == value
        assert self.ask("cache::remove", {"key": key}, "DELETE", f"/cache/{key}") == {"deleted": key}
        assert self.call("cache::get", {"key": key})["code"] == "NOT_FOUND"
        assert self.call("cache::put", {"key": key})["field"] == "value"
        expired = {"key": key, "value": 1, "expires_at": "2020-01-01T00:00:00.000Z"}
        self.state("set", scope="cache", key=key, value=expired)
        assert self.call("cache::get", {"key": key})["code"] == "NOT_FOUND"

    def claim_works(self) -> None:
        name = uuid4().hex
        take, path = "claims::take", f"/claims/{name}"
        owners = [f"owner-{number}" for number in range(8)]
        answers = self.side_by_side(
            [lambda owner=owner: self.call(take, {"name": name, "owner": owner}) for owner in owners]  # type: ignore[misc]
        )
        winner = self.ask("claims::get", {"name": name}, "GET", path)
        assert [answer for answer in answers if "code" not in answer] == [winner]
        assert [answer["owner"] for answer in answers] == [winner["owner"]] * 8
        assert self.ask(take, {"name": name, "owner": winner["owner"]}, "PUT", path) == winner
        assert self.call(take, {"name": name, "owner": "late"})["code"] == "TAKEN"
        assert self.call("claims::get", {"name": uuid4().hex})["code"] == "NOT_FOUND"
        self.state("set", scope="claims", key=name, value={"tries": "many"})
        assert self.call(take, {"name": name, "owner": "x"})["code"] == "CORRUPT_RECORD"
        self.state("delete", scope="claims", key=name)

    def hold_works(self) -> None:
        key = uuid4().hex
        path = f"/stocks/{key}"
        stock = {"id": key, "total": 3, "free": 3}
        assert self.ask("stocks::set", {"id": key, "total": 3}, "PUT", path) == stock
        wanted = [{"id": key, "hold": f"h{number}"} for number in range(8)]
        answers = self.side_by_side([lambda want=want: self.call("stocks::hold", want) for want in wanted])  # type: ignore[misc]
        assert sorted(answer.get("code", "held") for answer in answers) == ["NOT_ENOUGH"] * 5 + ["held"] * 3
        assert self.ask("stocks::get", {"id": key}, "GET", path) == {**stock, "free": 0}
        first = next(answer["hold"] for answer in answers if "code" not in answer)
        held = self.ask("stocks::hold", {"id": key, "hold": first}, "PUT", f"{path}/holds/{first}")
        sold = self.ask(
            "stocks::confirm", {"id": key, "hold": first}, "POST", f"{path}/holds/{first}/confirm"
        )
        assert sold == {**held, "sold": True}
        value = self.state("get", scope="stocks", key=key)
        for hold in value["holds"]:
            hold["ends"] = 1
        self.state("set", scope="stocks", key=key, value=value)
        assert self.call("stocks::get", {"id": key})["free"] == 2
        over = next(hold["id"] for hold in value["holds"] if not hold["sold"])
        assert self.call("stocks::confirm", {"id": key, "hold": over})["code"] == "EXPIRED"
        assert self.call("stocks::confirm", {"id": key, "hold": first})["sold"] is True
        assert self.call("stocks::hold", {"id": key, "hold": "x", "seconds": 0})["field"] == "seconds"
        self.state("set", scope="stocks", key=key, value="text")
        assert self.call("stocks::hold", {"id": key, "hold": "x"})["code"] == "NOT_FOUND"
        assert self.call("stocks::set", {"id": key, "total": 1})["code"] == "CORRUPT_RECORD"
        self.state("delete", scope="stocks", key=key)

    def total_works(self) -> None:
        """The total comes to what is there, whoever wrote it, and foreign values add nothing."""
        function, path = f"{self.plural}::total", f"/{self.plural}/total"
        field = next(name for name, kind in self.fields.items() if kind in ("amount", "integer"))

        def counts(ids: Sequence[str]) -> bool:
            stored = [self.state("get", scope=self.scope, key=key) for key in ids]
            before, answer = self.state("list", scope=self.scope), self.ask(function, {}, "GET", path)
            parts = [value[field] for value in before if isinstance(value, dict) and "id" in value]
            assert answer["field"] == field
            return (answer["count"], round(answer["sum"], 2)) == (len(parts), round(sum(parts), 2)) and all(
                stored
            )

        keys = [self.create()["id"] for _ in range(3)]
        wait_until("the total", lambda: counts(keys))
        self.state("set", scope=self.scope, key="foreign", value={field: 5})
        records = [{"id": f"t{number}", field: number} for number in range(200)]
        writes = [
            lambda one=one: self.state("set", scope=self.scope, key=one["id"], value=one)  # type: ignore[misc]
            for one in records
        ]
        for start in range(0, len(writes), 20):
            self.side_by_side(writes[start : start + 20])
        wait_until("the total of many", lambda: counts([one["id"] for one in records[:3]]))
        for one in [*records, {"id": "foreign"}]:
            self.state("delete", scope=self.scope, key=one["id"])
        wait_until("the total of what is left", lambda: counts(keys))

    def queue_works(self) -> None:
        """Every record is processed once, also when its job comes again; what fails becomes a dead letter."""
        job, scope = f"{self.plural}::on-created", f"{self.scope}-jobs"
        keys = [record["id"] for record in self.side_by_side([self.create] * 8)]

        def marks() -> dict[str, Any]:
            return {mark["id"]: mark for mark in self.state("list", scope=scope) if "done_at" in mark}

        wait_until("the jobs", lambda: set(keys) <= marks().keys())
        before = marks()
        self.side_by_side([lambda: self.call(job, {"id": keys[0]})] * 4)
        assert marks()[keys[0]]["done_at"] == before[keys[0]]["done_at"]
        removed = uuid4().hex
        assert self.call(job, {"id": removed}) == {}
        assert self.state("get", scope=scope, key=removed) is None
        self.host.enqueue(self.plural, job, {"id": "no id"})
        dead = {"topic": self.plural}
        wait_until(
            "the dead letter", lambda: bool(self.host.call("engine::queue::dlq_messages", dead)["result"])
        )

    def cron_works(self) -> None:
        """The schedule is asked for, and what it does may be done at any time."""
        key, function = self.create()["id"], f"{self.plural}::on-schedule"
        lost = uuid4().hex
        self.state("set", scope=self.scope, key=lost, value={**SAMPLES, "id": lost, "created_at": "x"})
        assert self.call(function, {"scheduled_time": "2026-01-01T00:00:00+00:00"}) == {}
        ids = [one for one in self.state("list", scope=self.scope) if isinstance(one, dict) and "id" in one]
        counted = self.state("get", scope=f"{self.scope}-counts", key=self.plural)
        assert counted == {"id": self.plural, "count": len(ids), "at": "2026-01-01T00:00:00+00:00"}
        for place in (lost, key):
            self.state("delete", scope=self.scope, key=place)
        if "queue" in self.companions:
            jobs = f"{self.scope}-jobs"
            wait_until("the lost job", lambda: self.state("get", scope=jobs, key=lost) is not None)
            self.call(function, {"scheduled_time": "2026-01-01T00:05:00+00:00"})
            assert self.state("get", scope=jobs, key=key) is None

    def pubsub_works(self) -> None:
        key = uuid4().hex
        self.state("set", scope=self.scope, key=key, value={"seen": 1})
        wait_until(
            "the announcement",
            lambda: any("heard" in line and key in line for line in self.log.read_text().splitlines()),
        )
        self.state("delete", scope=self.scope, key=key)

    def stream_works(self) -> None:
        """The stream holds what the scope holds."""
        record = self.create()
        item = {"stream_name": self.plural, "group_id": "all", "item_id": record["id"]}
        wait_until("the item", lambda: self.host.call("stream::get", item).get("result") == record)
        self.state("delete", scope=self.scope, key=record["id"])
        wait_until("its end", lambda: self.host.call("stream::get", item).get("result") is None)

    def skeleton_works(self) -> None:
        key = uuid4().hex
        answers = self.side_by_side([lambda: self.call("visits::add", {"id": key})] * 8)
        assert sorted(answer["visits"] for answer in answers) == list(range(1, 9))
        assert self.ask("visits::add", {"id": key, "by": 2}, "POST", f"/visits/{key}") == {
            "id": key,
            "visits": 10,
        }
        assert self.state("get", scope="visits", key=key) == {"visits": 10}
        assert self.call("visits::add", {"id": key, "by": 1.5})["field"] == "by"
        self.state("set", scope="visits", key=key, value={"visits": "many"})
        assert self.call("visits::add", {"id": key})["code"] == "CORRUPT_RECORD"

    def trigger_fires(self) -> None:
        scope = self.scope if self.operations & set(RECORDS) else None
        if scope is None:
            first = next(name for name in EXTRAS if name in self.operations)
            scopes = {
                "flag": "flags",
                "session": "audio::transcripts",
                "cache": "cache",
                "claim": "claims",
                "hold": "stocks",
                "skeleton": "visits",
            }
            scope = scopes[first]
        key = uuid4().hex
        self.state("set", scope=scope, key=key, value={"seen": 1})
        wait_until("the state trigger", lambda: key in self.log.read_text())
        self.state("delete", scope=scope, key=key)


def exercise(host: ServedHost, combination: Mapping[str, Any], log: Path) -> None:
    """Use everything that the worker offers."""
    Exercise(host, combination, log).run()


def functions_of(combination: Mapping[str, Any]) -> set[str]:
    """The ids of all functions that the worker of this combination offers."""
    return Exercise(ServedHost("", None), combination, Path()).expected()
