"""The life of an observer: checks, states, announcements, acks, ends, connections that come and go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.observing import OLD, V1, Observing, Party, observing


def trio(scene: Observing, *, host: list[str] | None = None) -> tuple[Party, Party, Party]:
    """Host of the source `h::f`, owner of observers, worker of the target `t::g`."""
    source = scene.party("host", **({} if host is None else {"features": host}))
    owner, target = scene.party("owner"), scene.party("target")
    source.register("h::f")
    target.register("t::g")
    return source, owner, target


class TestStates:
    async def test_it_is_pending_until_the_host_of_the_source_took_it(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        observer_id = owner.observe("h::f", "t::g")
        assert owner.states() == [("pending", None)]
        assert host.ack() == [observer_id]
        assert owner.states() == [("active", None)]

    async def test_nobody_is_asked_for_functions_of_old_workers_and_of_the_host(
        self, scene: Observing
    ) -> None:
        _, owner, _ = trio(scene, host=OLD)
        owner.observe("h::f", "t::g")
        owner.observe("engine::functions::list", "t::g")
        assert owner.states() == [("active", None), ("active", None)]

    async def test_workers_start_in_any_order(self, scene: Observing) -> None:
        owner = scene.party("owner")
        owner.observe("h::f", "t::g")
        assert owner.states() == [("pending", None)]
        host = scene.party("host")
        host.register("h::f")
        host.ack()
        assert owner.states() == []
        scene.party("target").register("t::g")
        assert owner.states() == [("active", None)]

    async def test_a_target_that_goes_suspends_and_one_that_comes_back_activates(
        self, scene: Observing
    ) -> None:
        host, owner, target = trio(scene)
        owner.observe("h::f", "t::g")
        host.ack()
        target.leave()
        assert owner.states()[-1] == ("suspended", "TARGET_UNAVAILABLE")
        scene.party("target").register("t::g")
        assert owner.states() == [("active", None)]

    async def test_a_host_that_goes_leaves_it_pending_and_its_next_ack_activates(
        self, scene: Observing
    ) -> None:
        host, owner, _ = trio(scene)
        observer_id = owner.observe("h::f", "t::g")
        host.ack()
        host.leave()
        assert owner.states()[-1] == ("pending", "OWNER_UNAVAILABLE")
        again = scene.party("host")
        again.register("h::f")
        (told,) = again.take("functionregistered")
        assert [view["id"] for view in told["observers"]] == [observer_id]
        ack = {"type": "observerack", "function_id": "h::f", "id": observer_id, "revision": told["revision"]}
        again.send(ack)
        assert owner.states() == [("pending", None), ("active", None)]

    async def test_a_refusal_of_the_host_is_an_error_that_keeps_the_id(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        observer_id = owner.observe("h::f", "t::g")
        host.ack(refuse="OBSERVE_REJECTED")
        assert owner.states() == [("pending", None), ("error", "OBSERVE_REJECTED")]
        scene.party("thief").observe("h::f", "t::g", id=observer_id)
        owner.unobserve(observer_id)
        assert owner.states() == [("disposed", "UNOBSERVED")]
        # It was never told that the host knows it.
        assert host.take("observerremoved") == []

    async def test_a_late_refusal_ends_the_observation(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        observer_id = owner.observe("h::f", "t::g")
        (told,) = host.take("observeradded")
        ack = {"type": "observerack", "function_id": "h::f", "id": observer_id, "revision": told["revision"]}
        host.send(ack)
        host.send({**ack, "error": {"code": "TOO_MANY", "message": "no more"}})
        assert owner.states() == [("pending", None), ("active", None), ("error", "TOO_MANY")]
        (removed,) = host.take("observerremoved")
        assert removed["id"] == observer_id
        assert removed["revision"] > told["revision"]
        host.call("h::f", {})
        host.answer(host.calls()[0], result=1)
        assert scene.engine.watches == {}

    async def test_a_host_that_registers_again_may_change_its_mind(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        owner.observe("h::f", "t::g")
        host.ack(refuse="NOT_NOW")
        owner.states()
        host.register("h::f")
        host.ack()
        assert owner.states() == [("active", None)]

    async def test_an_ack_of_another_revision_or_another_worker_is_stale(self, scene: Observing) -> None:
        host, owner, target = trio(scene)
        observer_id = owner.observe("h::f", "t::g")
        (told,) = host.take("observeradded")
        ack = {"type": "observerack", "function_id": "h::f", "id": observer_id, "revision": told["revision"]}
        host.send({**ack, "revision": told["revision"] - 1})
        target.send(ack)
        assert owner.states() == [("pending", None)]
        host.send(ack)
        assert owner.states() == [("active", None)]

    async def test_the_same_connection_that_registers_again_disturbs_nobody(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        owner.observe("h::f", "t::g")
        host.ack()
        owner.states()
        host.register("h::f", description="better")
        assert owner.states() == []
        host.ack()
        assert owner.states() == []
        host.ack(refuse="x")
        assert owner.states() == []

    async def test_a_host_that_never_answers_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("iii_skill.observers.hosts.ACK_S", 0.02)
        async with observing() as scene:
            _, owner, _ = trio(scene)
            owner.observe("h::f", "t::g")
            seen: list[Any] = []
            await scene.until(lambda: seen.extend(owner.states()) or len(seen) == 2)
            assert seen == [("pending", None), ("error", "OWNER_TIMEOUT")]


class TestAnnouncements:
    async def test_every_registration_is_answered_with_all_who_observe(self, scene: Observing) -> None:
        owner = scene.party("owner")
        first = owner.observe("h::f", "t::g", filters={"input.n": {"$gt": 1}}, capture=[], on="complete")
        second = owner.observe("h::f", "t::h", metadata={"secret": 1}, max_fires=3, deliver="input")
        host = scene.party("host")
        host.register("h::f")
        (told,) = host.take("functionregistered")
        assert (told["id"], told["namespace"], told["local_dispatch"]) == ("h::f", "default", True)
        assert told["observers"] == [
            {
                "id": first,
                "args": {},
                "filters": {"$and": [{"input.n": {"$gt": 1}}]},
                "target": "t::g",
                "capture": [],
                "on": "complete",
            },
            {
                "id": second,
                "args": {},
                "filters": {},
                "target": "t::h",
                "capture": ["input", "output", "caller"],
                "on": "success",
            },
        ]
        host.register("h::f")
        (again,) = host.take("functionregistered")
        assert again["revision"] > told["revision"]

    async def test_functions_without_observers_are_answered_too(self, scene: Observing) -> None:
        host = scene.party("host", features=V1)
        host.register("h::f")
        host.register("h::url", invocation={"url": "https://example.com"})
        local = {m["id"]: m["local_dispatch"] for m in host.take("functionregistered")}
        assert local == {"h::f": True, "h::url": False}

    async def test_an_old_worker_is_told_nothing(self, scene: Observing) -> None:
        host, owner, target = trio(scene, host=OLD)
        old_owner = scene.party("old", features=OLD)
        owner.unobserve(owner.observe("h::f", "t::g"))
        assert host.received() == []
        assert [m["type"] for m in old_owner.received()] == []
        assert target.take("observeradded", "observerremoved") == []

    async def test_an_observer_of_an_owner_in_its_grace_is_listed(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        observer_id = owner.observe("h::f", "t::g")
        host.ack()
        owner.leave()
        host.leave()
        again = scene.party("host")
        again.register("h::f")
        assert again.ack() == [observer_id]

    async def test_a_worker_that_says_late_what_it_understands_is_old(self, scene: Observing) -> None:
        late = Party(scene.engine, identify=False)
        late.register("h::f")
        late.release()
        assert late.take("functionregistered") == []


CLOSED = {"type": "object", "properties": {"n": {}}, "additionalProperties": False}


class TestChecks:
    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"filters": {"input.n": 1}}, "INVALID_FILTER"),
            ({"filters": {"input.m": {"$eq": 1}}}, "INVALID_FILTER_PATH"),
            ({"args": {"topic": "a"}}, "INVALID_ARGS"),
            ({"max_fires": 0}, "INVALID_ARGS"),
            ({"expires_in_ms": -1}, "INVALID_ARGS"),
            ({"max_in_flight": 0}, "INVALID_ARGS"),
            ({"on": "never"}, "INVALID_ARGS"),
        ],
    )
    async def test_a_refused_one_is_not_kept(self, scene: Observing, fields: Any, code: str) -> None:
        host, owner, _ = trio(scene)
        host.register("h::f", request_format=CLOSED)
        host.take("functionregistered")
        observer_id = owner.observe("h::f", "t::g", id="o1", **fields)
        assert owner.states() == [("error", code)]
        owner.unobserve(observer_id)
        assert owner.received() == [], "the id is free: a late `disposed` would hit the next one"
        assert host.take("observeradded") == []
        owner.observe("h::f", "t::g", id="o1")
        assert owner.states() == [("pending", None)]

    async def test_source_and_target_differ(self, scene: Observing) -> None:
        _, owner, _ = trio(scene)
        owner.observe("h::f", "h::f")
        assert owner.states() == [("error", "SELF_TARGET")]
        owner.observe("h::f", "h::f", target_namespace="elsewhere")
        assert owner.states() == [("pending", None)]

    @pytest.mark.parametrize("how", [{"observable": False}, {"observe": {"allow": False}}])
    async def test_a_function_may_not_want_to_be_observed(self, scene: Observing, how: Any) -> None:
        host, owner, _ = trio(scene)
        owner.observe("h::g", "t::g")
        host.register("h::f", **how)
        owner.observe("h::f", "t::g")
        assert owner.states() == [("pending", None), ("error", "NOT_OBSERVABLE")]
        host.register("h::g", **how)
        assert owner.states() == [("error", "NOT_OBSERVABLE")]

    async def test_a_path_that_cannot_be_verified_is_warned_of(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        host.register("h::f", request_format={"title": "AnyValue"})
        owner.observe("h::f", "t::g", filters={"input.n": {"$eq": 1}})
        (answer,) = owner.take("observeresult")
        assert answer["warnings"] == ["input.n: request_format is open; path not verified"]

    @pytest.mark.parametrize(
        "declared",
        [
            {"args_format": {"type": "object", "required": ["topic"]}},
            {"observe": {"args_format": {"type": "object", "required": ["topic"]}}},
        ],
    )
    async def test_args_are_checked_before_the_host_hears_of_it(
        self, scene: Observing, declared: Any
    ) -> None:
        host, owner, _ = trio(scene)
        host.register("h::f", **declared)
        host.take("functionregistered")
        owner.observe("h::f", "t::g", args={})
        good = owner.observe("h::f", "t::g", args={"topic": "a"})
        bad = owner.observe("h::f", "t::g", id="same")
        owner.unobserve(bad)
        owner.observe("h::f", "t::g", id="same", args={"topic": "b"})
        answers: list[Any] = []
        await scene.until(lambda: answers.extend(owner.take("observeresult")) or len(answers) == 4)
        states = [(m["state"], m.get("error", {}).get("code")) for m in answers]
        bad_args = ("error", "INVALID_ARGS")
        assert states == [bad_args, ("pending", None), bad_args, ("pending", None)], "answers keep the order"
        assert host.ack() == [good, "same"]

    async def test_args_are_checked_against_a_source_that_comes_later(self, scene: Observing) -> None:
        owner = scene.party("owner")
        scene.party("target").register("t::g")
        bad = owner.observe("h::f", "t::g")
        good = owner.observe("h::f", "t::g", args={"topic": "a"})
        host = scene.party("host")
        host.register("h::f", args_format={"type": "object", "required": ["topic"]})
        told: list[str] = []
        await scene.until(lambda: told.extend(host.ack()) or told)
        assert told == [good]
        seen: list[Any] = []
        await scene.until(lambda: seen.extend(owner.take("observerstatechanged")) or len(seen) == 2)
        assert {m["id"]: m["state"] for m in seen} == {bad: "error", good: "active"}

    async def test_args_without_a_format_are_refused_when_the_source_comes(self, scene: Observing) -> None:
        host, owner = scene.party("host"), scene.party("owner")
        owner.observe("h::f", "t::g", args={"a": 1})
        host.register("h::f")
        assert owner.states() == [("pending", None), ("error", "INVALID_ARGS")]
        assert host.ack() == []

    async def test_a_format_that_is_no_schema_refuses_the_function_to_those_who_understand(
        self, scene: Observing
    ) -> None:
        new, older = scene.party("new"), scene.party("older", features=V1)
        new.register("n::f", args_format={"type": 5})
        older.register("o::f", observe={"args_format": {"type": 5}})
        rejected: list[Any] = []
        await scene.until(lambda: rejected.extend(new.take("registrationrejected")) or rejected)
        assert (rejected[0]["code"], rejected[0]["function_id"]) == ("INVALID_ARGS_FORMAT", "n::f")
        owner = scene.party("owner")
        owner.observe("o::f", "t::g", args={"anything": 1})
        answers: list[Any] = []
        await scene.until(lambda: answers.extend(owner.states()) or answers)
        assert answers == [("pending", None)], "a schema that cannot be read checks nothing"
        assert older.take("registrationrejected") == []

    async def test_an_observe_that_cannot_be_read_is_answered(self, scene: Observing) -> None:
        owner = scene.party("owner")
        owner.send({"type": "observe", "id": "x", "source": {"function_id": 1}})
        assert owner.states() == [("error", "INVALID_ARGS")]

    async def test_a_function_and_a_worker_have_limited_observers(
        self, scene: Observing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("iii_skill.observers.index.MOST_OBSERVERS", 2)
        owner, other = scene.party("owner"), scene.party("other")
        for source in ("h::a", "h::b", "h::c"):
            owner.observe(source, "t::g")
        assert owner.states()[-1] == ("error", "LIMIT_EXCEEDED")
        other.observe("h::a", "t::g")
        other.observe("h::a", "t::h")
        assert other.states() == [("pending", None), ("error", "LIMIT_EXCEEDED")]


class TestIds:
    async def test_an_id_of_another_live_worker_is_taken(self, scene: Observing) -> None:
        _, owner, _ = trio(scene)
        owner.observe("h::f", "t::g", id="same")
        thief = scene.party("thief")
        thief.observe("h::f", "t::g", id="same")
        assert thief.states() == [("error", "OBSERVER_ID_CONFLICT")]
        thief.unobserve("same")
        assert owner.states() == [("pending", None)]

    async def test_the_same_definition_again_is_answered_with_the_state(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        owner.observe("h::f", "t::g", id="same", filters={"input.a": {"$eq": 1}, "input.b": {"$eq": 2}})
        host.ack()
        owner.observe(
            "h::f", "t::g", id="same", filters={"$and": [{"input.b": {"$eq": 2}}, {"input.a": {"$eq": 1}}]}
        )
        owner.observe("h::f", "t::g", id="same", on="error")
        assert owner.states() == [
            ("pending", None),
            ("active", None),
            ("active", None),
            ("error", "OBSERVER_ID_CONFLICT"),
        ]

    async def test_unobserve_and_observe_back_to_back_work_in_order(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        for _ in range(3):
            owner.observe("h::f", "t::g", id="same")
            owner.unobserve("same")
        assert owner.states() == [("pending", None), ("disposed", "UNOBSERVED")] * 3
        assert len(host.take("observerremoved")) == 3

    async def test_only_the_owner_ends_it(self, scene: Observing) -> None:
        _, owner, target = trio(scene)
        observer_id = owner.observe("h::f", "t::g")
        target.unobserve(observer_id)
        target.unobserve("unknown")
        assert target.received()[1:] == []
        assert owner.shown(observer_id)["state"] == "pending"


class TestConnections:
    async def test_a_replay_takes_over_what_the_former_connection_held(self, scene: Observing) -> None:
        host, owner, target = trio(scene)
        observer_id = owner.observe("h::f", "t::g")
        host.ack()
        host.report("h::f", [observer_id], input=1, output=1)
        target.answer(target.calls()[0], result=None)
        owner.leave()
        assert target.shown(observer_id)["state"] == "suspended"
        host.report("h::f", [observer_id], input=2, output=2)
        assert target.calls() == []
        again = scene.party("owner")
        again.observe("h::f", "t::g", id=observer_id)
        assert again.states() == [("active", None)]
        host.report("h::f", [observer_id], input=3, output=3)
        assert again.shown(observer_id)["fires"] == 2

    async def test_reattach_retires_the_old_connection_before_the_replay(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        observer_id = owner.observe("h::f", "t::g")
        host.ack()
        again = Party(scene.engine, "owner", identify=False)
        again.send(
            {
                "type": "reattach",
                "previous_worker_id": owner.worker.id,
                "reattach_token": owner.greeting["reattach_token"],
            }
        )
        again.call("engine::workers::register", {"name": "owner", "features": ["observe.v2"]}, void=True)
        again.observe("h::f", "t::g", id=observer_id)
        assert again.states() == [("active", None)]

    async def test_another_definition_under_a_held_id_is_another_observer(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        owner.observe("h::f", "t::g", id="same")
        host.ack()
        owner.leave()
        again = scene.party("owner")
        again.observe("h::f", "t::g", id="same", on="error")
        assert again.states() == [("pending", None)]
        assert [m["id"] for m in host.take("observerremoved")] == ["same"]
        assert host.ack() == ["same"]

    async def test_a_replayed_error_is_answered_and_over(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        owner.observe("h::f", "t::g", id="same")
        host.ack(refuse="NO")
        owner.leave()
        again = scene.party("owner")
        again.observe("h::f", "t::g", id="same")
        assert again.states() == [("error", "NO")]
        assert again.shown("same")["code"] == "OBSERVER_NOT_FOUND"
        again.observe("h::f", "t::g", id="same")
        assert again.states() == [("pending", None)]

    async def test_an_owner_that_does_not_come_back_loses_it(self) -> None:
        async with observing(grace_s=0.02) as scene:
            host, owner, target = trio(scene)
            observer_id = owner.observe("h::f", "t::g")
            host.ack()
            owner.leave()
            removed: list[Any] = []
            await scene.until(lambda: removed.extend(host.take("observerremoved")) or removed)
            assert target.shown(observer_id)["code"] == "OBSERVER_NOT_FOUND"
            assert len(scene.observers) == 0

    async def test_all_three_parties_may_be_one_worker(self, scene: Observing) -> None:
        one = scene.party("one")
        one.register("h::f")
        one.register("t::g")
        observer_id = one.observe("h::f", "t::g")
        one.ack()
        assert one.states() == [("pending", None), ("active", None)]
        one.leave()
        again = scene.party("one")
        again.register("h::f")
        again.register("t::g")
        again.observe("h::f", "t::g", id=observer_id)
        again.ack()
        assert again.states()[-1] == ("active", None)

    async def test_nothing_is_left_of_observers_that_ended(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        for number in range(50):
            owner.observe("h::f", f"t::{number % 3}", filters={"input.n": {"$eq": number}})
        host.ack()
        for observer_id in [observer.id for observer in scene.observers]:
            owner.unobserve(observer_id)
        assert len(scene.observers) == 0
        assert scene.engine.watches == {}
        table = scene.observers._index
        assert [table._sources, table._targets, table._owners] == [{}, {}, {}]


class TestEnds:
    async def test_expiry_counts_from_the_beginning_across_connections(self, scene: Observing) -> None:
        host, owner, _ = trio(scene)
        observer_id = owner.observe("h::f", "t::g", expires_in_ms=60)
        host.ack()
        owner.leave()
        again = scene.party("owner")
        again.observe("h::f", "t::g", id=observer_id, expires_in_ms=60)
        seen: list[Any] = []
        await scene.until(lambda: seen.extend(again.states()) or len(seen) == 2)
        assert seen == [("active", None), ("disposed", "EXPIRED")]
        assert [m["id"] for m in host.take("observerremoved")] == [observer_id]

    async def test_an_expiry_beyond_all_timers_is_refused(self, scene: Observing) -> None:
        owner = scene.party("owner")
        owner.observe("h::f", "t::g", expires_in_ms=10**15)
        assert owner.states() == [("error", "INVALID_ARGS")]
        await asyncio.sleep(0)
