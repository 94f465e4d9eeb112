"""Use a generated worker as clients do: every function and route, wrong input, calls side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
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
            "skeleton": ["visits::add"],
        }
        return {name for operation in self.operations for name in ids[operation]}

    def functions_are_all_there(self) -> None:
        prefixes = ("flags::", "cache::", "transcripts::", "claims::", "visits::", f"{self.plural}::")
        own = [name for name in self.host.functions() if name.startswith(prefixes)]
        assert {name for name in own if not name.endswith("::on-change")} == self.expected()
        assert bool([name for name in own if name.endswith("::on-change")]) == self.trigger
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
        self.state("delete", scope=self.scope, key="foreign")

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
