"""The verbs of the control port, asked as any language can: HTTP and JSON, values exact to the byte."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.controlled import Control, controlled

from iii_skill.testing.control.verbs import VERBS
from iii_skill.testing.engine.faults import Faults

EXACT = b'{"big":9007199254740993,"huge":123456789012345678901234567890,"e":1E2,"one":1.0, "text":"\\u00e9"}'


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    with controlled(cwd=tmp_path_factory.mktemp("control")) as control:
        yield control


@pytest.fixture
def engine(control: Control) -> Iterator[str]:
    path = control.open()
    yield path
    control.ask(f"{path}/close")


def test_values_are_exact_to_the_byte(control: Control, engine: str) -> None:
    asked = b'{"scope":"a","key":"k","value":%b}' % EXACT
    assert control.raw(f"/engines{engine}/state/set", asked) == (200, b'{"result":null}')
    where = json.dumps({"scope": "a", "key": "k"}).encode()
    assert control.raw(f"/engines{engine}/state/get", where) == (200, b'{"result":%b}' % EXACT)
    for verb, before, after in (
        ("state/list", b'{"k":', b"}"),
        ("state/snapshot", b'{"a":{"k":', b"}}"),
    ):
        scope = b'{"scope":"a"}' if verb == "state/list" else b"{}"
        wanted = b'{"result":%b%b%b}' % (before, EXACT, after)
        assert control.raw(f"/engines{engine}/{verb}", scope) == (200, wanted)
    assert EXACT in control.raw(f"/engines{engine}/events/expect", b'{"scope":"a"}')[1]
    get = b'{"function":"state::get","payload":{"scope":"a","key":"k"}}'
    assert control.raw(f"/engines{engine}/call", get) == (200, b'{"result":%b}' % EXACT)
    assert EXACT in control.raw(f"/engines{engine}/calls/of")[1]


def test_a_snapshot_is_restored_exactly_and_only_what_differs_is_written(
    control: Control, engine: str
) -> None:
    contents = b'{"contents":{"a":{"k":%b,"one":1},"b":{"x":[]}}}' % EXACT
    assert control.raw(f"/engines{engine}/state/load", contents)[0] == 200
    kept = json.loads(control.raw(f"/engines{engine}/state/snapshot")[1])
    snapshot = control.raw(f"/engines{engine}/state/snapshot")[1]
    control.ask(f"{engine}/state/load", contents={"a": {"one": 1.0, "new": 2}, "c": {"y": 0}})
    control.ask(f"{engine}/state/delete", scope="b", key="x")
    seen = len(control.ask(f"{engine}/events/of"))
    inside = snapshot.removeprefix(b'{"result":')[:-1]
    assert control.raw(f"/engines{engine}/state/restore", b'{"contents":%b}' % inside)[0] == 200
    assert control.raw(f"/engines{engine}/state/snapshot")[1] == snapshot
    assert json.loads(snapshot) == kept
    changed = [(event["scope"], event["key"]) for event in control.ask(f"{engine}/events/of")[seen:]]
    assert sorted(changed) == [("a", "new"), ("a", "one"), ("b", "x"), ("c", "y")]


def test_what_is_not_there_is_no_result(control: Control, engine: str) -> None:
    control.ask(f"{engine}/state/set", scope="a", key="null", value=None)
    for key, answer in (("null", b'{"result":null}'), ("none", b"{}")):
        asked = json.dumps({"scope": "a", "key": key}).encode()
        assert control.raw(f"/engines{engine}/state/get", asked) == (200, answer)
    assert control.ask(f"{engine}/state/scopes") == ["a"]


def test_an_event_is_waited_for(control: Control, engine: str) -> None:
    writer = threading.Timer(
        0.2, control.ask, (f"{engine}/state/set",), {"scope": "a", "key": "k", "value": 7}
    )
    writer.start()
    event = control.ask(f"{engine}/events/expect", scope="a", value=7)
    writer.join()
    assert (event["type"], event["new_value"], "old_value" in event) == ("state:created", 7, False)
    control.ask(f"{engine}/state/set", scope="a", key="k", value=8)
    later = control.ask(f"{engine}/events/expect", scope="a", after=event["number"])
    assert (later["old_value"], later["new_value"]) == (7, 8)


def test_what_does_not_come_says_what_did(control: Control, engine: str) -> None:
    control.ask(f"{engine}/state/set", scope="shop", key="chair", value=3)
    status, code, text = control.refused(f"{engine}/events/expect", scope="shop", key="table", within=0.01)
    assert (status, code) == (409, "NOT_FULFILLED")
    assert "shop / chair  null -> 3" in text
    status, code, text = control.refused(f"{engine}/calls/expect", function="mail::send", within=0)
    assert (status, code, text.startswith("0 of 1")) == (409, "NOT_FULFILLED", True)


def test_every_fault_of_the_python_kit_is_a_verb() -> None:
    there = {name for name, _ in inspect.getmembers(Faults, inspect.isfunction) if name[0] != "_"}
    assert {f"faults/{name}" for name in there} <= VERBS.keys()
    assert {"fail", "delay", "lose_reply", "drop_connection", "restart", "clear"} <= there


def test_a_fault_strikes_and_counts(control: Control, engine: str) -> None:
    fault = control.ask(f"{engine}/faults/fail", function="state::get", code="busy", times=2)["fault"]
    get = {"function": "state::get", "payload": {"scope": "a", "key": "k"}}
    assert control.refused(f"{engine}/call", **get) == (409, "busy", "This call fails on purpose.")
    assert control.ask(f"{engine}/fault/hits", fault=fault) == 1
    control.ask(f"{engine}/fault/stop", fault=fault)
    assert control.ask(f"{engine}/call", **get) is None
    (struck, spared) = control.ask(f"{engine}/calls/of", function="state::get")
    assert (struck["fault"], struck["error"]["code"]) == ("fail state::get", "busy")
    assert (struck["answered"], "fault" in spared, "error" in spared) == (True, False, False)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"function": "x", "times": 0}, "at least once"),
        ({"function": "x", "probability": 2}, "at most 1"),
        ({"function": 5}, "$.function"),
        ({"function": "x", "often": 3}, "`often`"),
        ({}, "`function`"),
    ],
)
def test_a_wrong_fault_is_one_sentence(
    control: Control, engine: str, asked: dict[str, object], says: str
) -> None:
    status, code, text = control.refused(f"{engine}/faults/fail", **asked)
    assert (status, code) == (400, "BAD_REQUEST")
    assert says in text


def test_a_restart_keeps_ports_and_data(control: Control) -> None:
    told = control.ask("")
    engine = f"/{told['engine']}"
    control.ask(f"{engine}/state/set", scope="a", key="k", value={"n": 1})
    control.ask(f"{engine}/clock/advance", seconds=3600)
    assert control.ask(f"{engine}/faults/restart") is None
    assert control.ask(f"{engine}/state/get", scope="a", key="k") == {"n": 1}
    assert control.ask(f"{engine}/clock/now") > time.time() + 3500
    assert http_status(told["http_url"]) == 404
    control.ask(f"{engine}/close")
    with pytest.raises(ConnectionRefusedError):
        http_status(told["http_url"])


def http_status(url: str) -> int:
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.request("GET", "/nowhere")
        return connection.getresponse().status
    finally:
        connection.close()


def test_engines_know_nothing_of_each_other(control: Control) -> None:
    one, other = control.open(), control.open()
    control.ask(f"{one}/state/set", scope="a", key="k", value=1)
    assert control.ask(f"{other}/state/snapshot") == {}
    assert control.ask(f"{other}/events/of") == []
    for path in (one, other):
        control.ask(f"{path}/close")
    assert control.refused(f"{one}/state/snapshot")[:2] == (404, "NO_SUCH_ENGINE")


def test_who_waits_for_an_engine_that_closes_is_told(control: Control) -> None:
    engine = control.open()
    answers: list[tuple[int, str, str]] = []

    def wait() -> None:
        answers.append(control.refused(f"{engine}/events/expect", scope="never", within=60))

    waiter = threading.Thread(target=wait)
    waiter.start()
    while control.ask(f"{engine}/events/of"):
        time.sleep(0.01)
    time.sleep(0.1)
    control.ask(f"{engine}/close")
    waiter.join(30)
    # Closed before it was asked for, or while it waited.
    assert answers[0][:2] in [(410, "ENGINE_CLOSED"), (404, "NO_SUCH_ENGINE")]


def test_settling_names_what_is_left(control: Control, engine: str) -> None:
    control.ask(f"{engine}/settle")
    control.ask(f"{engine}/faults/delay", function="state::get", seconds=30)
    call = {"function": "state::get", "payload": {"scope": "a", "key": "k"}, "within": 0.2}
    late = threading.Thread(target=control.refused, args=(f"{engine}/call",), kwargs=call | {"within": 20})
    late.start()
    while not control.ask(f"{engine}/calls/of"):
        time.sleep(0.01)
    status, code, text = control.refused(f"{engine}/settle", within=0.1)
    assert (status, code) == (409, "NOT_SETTLED")
    assert "state::get" in text
    control.ask(f"{engine}/faults/restart")
    late.join(60)


def test_a_process_that_ends_before_it_registers_is_noticed(control: Control, engine: str) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"]) as process:
        status, code, text = control.refused(f"{engine}/ready", name="worker.py", pid=process.pid, within=60)
    assert (status, code, text) == (409, "WORKER_FAILED", "worker.py ended.")


def test_a_worker_that_registers_nothing_is_not_waited_for_for_ever(control: Control, engine: str) -> None:
    assert control.refused(f"{engine}/ready", name="it", functions=["a::b"], within=0.05) == (
        409,
        "WORKER_FAILED",
        "it did not register a::b within 0.05 s.",
    )


def test_what_happened_is_told_for_programs_and_for_people(control: Control, engine: str) -> None:
    control.ask(f"{engine}/state/set", scope="a", key="k", value=1)
    (line,) = map(json.loads, control.ask(f"{engine}/transcript").splitlines())
    assert (line["what"], line["key"], line["new_value"]) == ("event", "k", 1)
    assert "state:created  a / k  null -> 1" in control.ask(f"{engine}/report")
    control.ask(f"{engine}/faults/fail", function="state::gett")
    assert control.ask(f"{engine}/report").endswith("\nno call was struck by the fault fail state::gett")


def test_an_engine_on_files_has_a_directory_of_its_own(control: Control) -> None:
    one, other = control.open(adapter="file"), control.open(adapter="file")
    control.ask(f"{one}/state/set", scope="a", key="k", value=1)
    control.ask(f"{one}/faults/restart")
    assert control.ask(f"{one}/state/get", scope="a", key="k") == 1
    assert control.ask(f"{other}/state/snapshot") == {}
    for path in (one, other):
        control.ask(f"{path}/close")


def test_a_configuration_file_chooses_what_runs(control: Control, tmp_path: Path) -> None:
    file = tmp_path / "iii-config.yaml"
    file.write_text("workers:\n  - name: iii-state\n    config:\n      adapter:\n        name: memory\n")
    told = control.ask("", config=str(file))
    assert told["http_url"] is None
    control.ask(f"/{told['engine']}/close")
    file.write_text("workers: 5\n")
    status, code, text = control.refused("", config=str(file))
    assert (status, code) == (400, "BAD_REQUEST")
    assert "iii-config.yaml" in text


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"adapter": "nosuch"}, "nosuch"),
        ({"adapter_config": {"nosuch": 1}}, "nosuch"),
        ({"adapter": "file", "adapter_config": {"data_dir": "/dev/null/x"}}, "/dev/null/x"),
        ({"config": "/nowhere/iii-config.yaml"}, "/nowhere"),
        ({"adaptor": "memory"}, "adaptor"),
    ],
)
def test_an_engine_that_cannot_be_opened_says_why(
    control: Control, wanted: dict[str, object], says: str
) -> None:
    status, code, text = control.refused("", **wanted)
    assert (status, code) == (400, "BAD_REQUEST")
    assert says in text
