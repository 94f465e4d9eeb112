"""Routes: what is registered, what is refused, and which path leads where."""

from __future__ import annotations

import json
import logging
import sys
from types import FrameType
from typing import Any

import pytest

from iii_skill.errors import TriggerRefused
from iii_skill.http.provider import HttpTriggers
from iii_skill.triggers import Trigger


def trigger(trigger_id: str, config: Any, function_id: str | None = None) -> Trigger:
    return Trigger(trigger_id, "http", function_id or f"t::{trigger_id}", json.dumps(config).encode())


def register(triggers: HttpTriggers, trigger_id: str, path: str, method: str = "GET") -> Trigger:
    registered = trigger(trigger_id, {"api_path": path, "http_method": method})
    triggers.register(registered)
    return registered


def served(triggers: HttpTriggers, path: str, method: str = "GET") -> str | None:
    place, _ = triggers.find(path)
    route = None if place is None else place.find(method)
    return None if route is None else route.subscriber.id


@pytest.mark.parametrize(
    "config",
    [None, {}, {"api_path": None}, {"api_path": 5}, {"path": "/x"}, [], "x", 1, {"api_path": ["/x"]}],
)
def test_api_path_must_be_a_string(config: Any) -> None:
    triggers = HttpTriggers()
    with pytest.raises(TriggerRefused, match=r"^api_path is required for http triggers$") as refused:
        triggers.register(trigger("a", config))
    assert refused.value.code == "trigger_registration_failed"
    assert len(triggers) == 0


@pytest.mark.parametrize(
    ("given", "served_as"),
    [("get", "GET"), ("PoSt", "POST"), (None, "GET"), (5, "GET"), (["POST"], "GET"), (True, "GET")],
)
def test_http_method_is_a_string_of_any_case_and_else_get(given: Any, served_as: str) -> None:
    triggers = HttpTriggers()
    triggers.register(trigger("a", {"api_path": "/x", "http_method": given}))
    assert served(triggers, "/x", served_as) == "a"


def test_a_method_that_is_no_string_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    HttpTriggers().register(trigger("a", {"api_path": "/x", "http_method": ["GET", "POST"]}))
    assert "http_method is no string, so GET is served" in caplog.text


def test_the_key_method_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    HttpTriggers().register(trigger("a", {"api_path": "/x", "method": "POST"}))
    assert "write `http_method`" in caplog.text


@pytest.mark.parametrize(
    ("path", "method"), [("/x", "TRACE"), ("/x", "fetch"), ("/x", "OPTIONS"), ("/a b", "GET"), ("/é", "GET")]
)
def test_a_route_that_never_runs_registers_with_a_warning(
    path: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    triggers = HttpTriggers()
    register(triggers, "a", path, method)
    assert "never runs" in caplog.text
    assert len(triggers) == 1


@pytest.mark.parametrize(
    ("path", "shown"), [("/u/{id}", "`:id`"), ("/u/{a}/x/{b}", "`:a`"), ("/files/{*rest}", "`:rest`")]
)
def test_a_parameter_that_no_function_gets_is_warned_of(
    path: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    triggers = HttpTriggers()
    for name in ("a", "b"):
        register(triggers, name, path, "POST")
    assert caplog.text.count("is not in path_params") == 1
    assert shown in caplog.text
    assert "t::a" in caplog.text


def test_the_same_route_again_and_again_costs_the_same_each_time(caplog: pytest.LogCaptureFixture) -> None:
    triggers = HttpTriggers()
    routes = [register(triggers, f"f{number}", "/x/:id") for number in range(20_000)]
    assert served(triggers, "/x/1") == "f19999"
    for route in routes[1:]:
        triggers.unregister(route)
    assert served(triggers, "/x/1") == "f0"
    assert len(caplog.records) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"])
def test_every_method_is_served(method: str, caplog: pytest.LogCaptureFixture) -> None:
    triggers = HttpTriggers()
    register(triggers, "a", "/x", method)
    assert served(triggers, "/x", method) == "a"
    assert caplog.text == ""


MATCHES = [
    # pattern, path, parameters (None: no match)
    ("/ds", "/ds", {}),
    ("ds", "/ds", {}),
    ("", "/", {}),
    ("/", "/", {}),
    ("//ds", "//ds", {}),
    ("//ds", "/ds", None),
    ("/ds", "//ds", None),
    ("/ds", "/DS", None),
    ("/ds", "/ds/", None),
    ("/ds/", "/ds/", {}),
    ("/ds/", "/ds", None),
    ("/pA", "/p%41", None),
    ("/p%41", "/p%41", {}),
    ("/a/./b", "/a/b", None),
    ("/u/:id", "/u/5", {"id": "5"}),
    ("/u/:id", "/u/a%20b", {"id": "a%20b"}),
    ("/u/:id", "/u/a%2Fb", {"id": "a%2Fb"}),
    ("/u/:id", "/u/", None),
    ("/u/:id", "/u", None),
    ("/u/:id", "/u/5/x", None),
    ("/u/:id/", "/u/5/", {"id": "5"}),
    ("/:v:action", "/5", {"v:action": "5"}),
    ("/a:id", "/a:id", {}),
    ("/a:id", "/a5", None),
    ("/{name}", "/5", {}),
    ("/f/{*rest}", "/f/a/b", {}),
    ("/f/{*rest}", "/f/a", {}),
    ("/f/{*rest}", "/f/", None),
    ("/f/{*rest}", "/f", None),
    ("/u/:id/p/:pid", "/u/1/p/2", {"id": "1", "pid": "2"}),
    ("/u/:id/p/:pid", "/u//p/x", {}),
    ("/u/:id/p/:pid", "/u/1/p/", None),
    ("/:a/:a", "/1/2", {"a": "2"}),
    ("/:a/{b}", "/1/2", {"a": "1"}),
]


@pytest.mark.parametrize(("pattern", "path", "parameters"), MATCHES)
def test_a_path_is_compared_raw(pattern: str, path: str, parameters: dict[str, str] | None) -> None:
    triggers = HttpTriggers()
    register(triggers, "a", pattern)
    place, found = triggers.find(path)
    assert (None if place is None else found) == parameters


@pytest.mark.parametrize("order", [("/a/b", "/a/:x"), ("/a/:x", "/a/b")])
def test_static_beats_parameter_in_any_order(order: tuple[str, str]) -> None:
    triggers = HttpTriggers()
    for path in order:
        register(triggers, path, path)
    assert served(triggers, "/a/b") == "/a/b"
    assert served(triggers, "/a/c") == "/a/:x"


def test_a_literal_that_leads_nowhere_falls_back_to_the_parameter() -> None:
    triggers = HttpTriggers()
    register(triggers, "literal", "/a/b/c")
    register(triggers, "parameter", "/a/:x/d")
    register(triggers, "rest", "/a/{*rest}")
    assert served(triggers, "/a/b/c") == "literal"
    assert served(triggers, "/a/b/d") == "parameter"
    assert served(triggers, "/a/b/e") == "rest"


def test_parameters_of_other_names_coexist_at_other_lengths() -> None:
    triggers = HttpTriggers()
    register(triggers, "short", "/cf/:a")
    register(triggers, "long", "/cf/:c/x")
    assert triggers.find("/cf/1")[1] == {"a": "1"}
    assert triggers.find("/cf/1/x")[1] == {"c": "1"}


def test_a_path_of_more_segments_than_routing_can_walk_is_refused() -> None:
    triggers = HttpTriggers()
    longest = "/" + "/".join(["s"] * 255) + "/:x"
    register(triggers, "a", longest)
    with pytest.raises(TriggerRefused, match="more than 256 segments"):
        register(triggers, "b", "/s" + longest)
    assert served(triggers, longest) == "a"


def test_another_parameter_name_at_the_same_place_is_refused() -> None:
    triggers = HttpTriggers()
    register(triggers, "a", "/cf/:a")
    with pytest.raises(TriggerRefused) as refused:
        register(triggers, "b", "cf/:b")
    assert refused.value.message == (
        "Route 'GET /cf/:b' conflicts with already-registered route 'GET /cf/:a': "
        "routes with identical structure but different path-parameter names are not supported"
    )
    assert served(triggers, "/cf/1") == "a"


def test_another_parameter_name_under_another_method_is_refused_and_harms_nobody() -> None:
    triggers = HttpTriggers()
    register(triggers, "a", "/a/:x")
    with pytest.raises(
        TriggerRefused, match="'POST /a/:y' conflicts with already-registered route 'GET /a/:x'"
    ):
        register(triggers, "b", "/a/:y", "POST")
    register(triggers, "c", "/c")
    assert served(triggers, "/a/1") == "a"
    assert served(triggers, "/c") == "c"


@pytest.mark.parametrize(
    "path",
    [
        "/w/*",
        "/w/*rest",
        "/q/:",
        ":",
        "/b/{",
        "/b/}",
        "/b/{}",
        "/b/a{id}",
        "/b/{a}b",
        "/{*rest}/x",
        "/{*}",
        "/:{x}",
        "/:*x",
    ],
)
def test_a_path_that_breaks_the_engine_is_refused(path: str) -> None:
    triggers = HttpTriggers()
    register(triggers, "good", "/good")
    with pytest.raises(TriggerRefused, match="cannot be served"):
        register(triggers, "bad", path)
    assert served(triggers, "/good") == "good"
    assert len(triggers) == 1


def test_of_one_method_and_path_the_last_one_wins_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    triggers = HttpTriggers()
    register(triggers, "a", "/x")
    register(triggers, "b", "x")
    assert served(triggers, "/x") == "b"
    assert "GET /x is registered twice: t::b serves it now instead of t::a" in caplog.text


def test_a_route_that_was_hidden_serves_again() -> None:
    triggers = HttpTriggers()
    register(triggers, "a", "/x")
    later = register(triggers, "b", "/x")
    triggers.unregister(later)
    assert served(triggers, "/x") == "a"


def test_unregistering_the_hidden_route_leaves_the_other() -> None:
    triggers = HttpTriggers()
    earlier = register(triggers, "a", "/x")
    register(triggers, "b", "/x")
    triggers.unregister(earlier)
    assert served(triggers, "/x") == "b"


def test_registering_an_id_again_moves_its_route(caplog: pytest.LogCaptureFixture) -> None:
    triggers = HttpTriggers()
    register(triggers, "a", "/old/:id")
    moved = register(triggers, "a", "/new")
    assert served(triggers, "/old/1") is None
    assert served(triggers, "/new") == "a"
    triggers.unregister(moved)
    assert served(triggers, "/new") is None
    assert len(triggers) == 0
    assert caplog.text == ""


def test_an_id_may_rename_its_own_parameter() -> None:
    triggers = HttpTriggers()
    register(triggers, "a", "/u/:id")
    register(triggers, "a", "/u/:name")
    assert triggers.find("/u/5")[1] == {"name": "5"}


def test_a_refused_move_leaves_the_former_route() -> None:
    triggers = HttpTriggers()
    register(triggers, "a", "/a/:x")
    register(triggers, "b", "/b")
    with pytest.raises(TriggerRefused):
        register(triggers, "b", "/a/:y")
    assert served(triggers, "/b") == "b"


def test_unregistering_what_is_unknown_is_fine() -> None:
    HttpTriggers().unregister(trigger("nobody", {"api_path": "/x"}))


def test_allow_lists_methods_in_one_order_and_head_with_get() -> None:
    triggers = HttpTriggers()
    register(triggers, "b", "/x", "POST")
    register(triggers, "a", "/x", "GET")
    place, _ = triggers.find("/x")
    assert place is not None
    assert place.allow == "GET,HEAD,POST"


def test_nothing_is_left_of_removed_routes() -> None:
    triggers = HttpTriggers()
    paths = ["/a/:x/b", "/a/:x/c", "/a/{*rest}", "/a/b", "/:q"]
    registered = [register(triggers, path, path) for path in paths]
    for entry in registered:
        triggers.unregister(entry)
    assert triggers._table._places == {}
    assert triggers._table._root.empty()
    assert triggers.find("/a/b")[0] is None


def test_finding_a_route_takes_the_same_steps_among_many() -> None:
    def steps(count: int) -> int:
        """Lines that run while two paths are looked up among `2 * count` routes."""
        triggers = HttpTriggers()
        logging.disable(logging.WARNING)
        for number in range(count):
            register(triggers, f"s{number}", f"/static/{number}")
            register(triggers, f"p{number}", f"/p{number}/:id")
        logging.disable(logging.NOTSET)
        seen = 0

        def trace(_frame: FrameType, _event: str, _argument: object) -> Any:
            nonlocal seen
            seen += 1
            return trace

        former = sys.gettrace()
        sys.settrace(trace)
        try:
            assert triggers.find("/p5/x")[0] is not None
            assert triggers.find("/static/5")[0] is not None
        finally:
            sys.settrace(former)
        return seen

    assert 10 < steps(3000) == steps(10)
