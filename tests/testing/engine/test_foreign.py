"""The same tests against an engine that runs elsewhere: here a process of `iii-skill serve`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.sdk import link_node_modules, python_sdk, rust_binary

from iii_skill.errors import ConfigurationError, InvocationError
from iii_skill.testing.engine import foreign as foreign_engine
from iii_skill.testing.engine.foreign import ForeignEngine
from iii_skill.testing.engine.starting import Workers

pytest_plugins = ["pytester"]

HERE = Path(__file__).parent
SDK_WORKERS = HERE.parents[1] / "sdk" / "workers"
QUIET = ("-q", "-rs", "-p", "no:cacheprovider", "-p", "no:asyncio")


@contextmanager
def served(*options: str) -> Iterator[dict[str, Any]]:
    """A host in a process of its own; what its ready line says."""
    command = [sys.executable, "-m", "iii_skill", "serve", "--adapter", "memory", "--ready-json", *options]
    ports = ["--port", "0", "--http-port", "0"]
    with subprocess.Popen(
        [*command, *ports], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as host:
        assert host.stdout is not None
        try:
            yield {**json.loads(host.stdout.readline()), "pid": host.pid}
        finally:
            host.terminate()
        assert host.wait(timeout=15) in (0, -signal.SIGKILL)


@pytest.fixture(scope="module")
def host() -> Iterator[dict[str, Any]]:
    """One for all tests."""
    with served() as host:
        yield host


@pytest.fixture
def foreign(host: dict[str, Any]) -> Iterator[ForeignEngine]:
    """The engine as a test has it."""
    with ForeignEngine(host["ws"], http_url=host["http"]) as engine:
        yield engine


def run(pytester: pytest.Pytester, host: dict[str, Any], *more: str) -> pytest.RunResult:
    """The tests of this directory, against that engine."""
    options = ("--iii-real-engine", host["ws"], "--iii-real-engine-http", host["http"])
    return pytester.runpytest_subprocess(*QUIET, *options, *more)


@pytest.mark.parametrize("sdk", ["python", "node"])
def test_a_worker_does_there_what_it_does_here(foreign: ForeignEngine, tmp_path: Path, sdk: str) -> None:
    if sdk == "python":
        shutil.copy(HERE / "shop.py", tmp_path)
        command = [str(python_sdk("0.25.0")), "shop.py"]
    else:
        link_node_modules(tmp_path, "0.22.1")
        shutil.copy(HERE / "shop.mjs", tmp_path)
        command = ["node", "shop.mjs"]
    workers = Workers(foreign, [tmp_path])
    try:
        assert workers(command).functions == {"shop::sell", "shop::reorder"}
        foreign.state.set("shop", "chair", {"stock": 1})
        foreign.http.post("/sell", {"id": "chair"}).expect(201)
        event = foreign.events.expect(scope="shop", key="chair", type="state:updated")
        assert (event.old_value, event.new_value) == ({"stock": 1}, {"stock": 0})
        foreign.settle()
        assert foreign.state.list("orders") == {"chair": {"ordered": 1}}
        assert foreign.state.snapshot() == {
            "orders": {"chair": {"ordered": 1}},
            "shop": {"chair": {"stock": 0}},
        }
    finally:
        workers.stop()
    assert not foreign.functions() & {"shop::sell", "shop::reorder"}


def test_functions_of_the_test_stand_in_for_workers(foreign: ForeignEngine) -> None:
    heard: list[Any] = []

    async def note(event: Any) -> None:
        heard.append(event["new_value"])

    foreign.register_function("t::note", note)
    foreign.register_function("t::double", lambda payload: payload["n"] * 2)
    foreign.register_trigger("state", "t::note", {"scope": "a"})
    foreign.state.set("a", "k", 10**30)
    foreign.settle()
    assert heard == [10**30]
    assert foreign.call("t::double", {"n": 21}) == 42
    with pytest.raises(InvocationError) as caught:
        foreign.call("t::nothing")
    assert caught.value.code == "function_not_found"
    assert '"function_id":"t::note"' in foreign.transcript


def test_a_restored_snapshot_is_what_was(foreign: ForeignEngine) -> None:
    foreign.state.load({"a": {"k": 1, "gone": None}, "b": {"": [1.0, {}]}})
    before = foreign.state.snapshot()
    foreign.state.set("a", "k", 2)
    foreign.state.delete("b", "")
    foreign.state.restore(before)
    assert foreign.state.snapshot() == before == {"a": {"k": 1, "gone": None}, "b": {"": [1.0, {}]}}


def test_everything_is_as_it_was_after_a_test(host: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays to the byte, what came goes, what went comes back."""
    with ForeignEngine(host["ws"], http_url=None) as outside:
        there = {"a": {"kept": 9007199254740993, "changed": {"n": 1}, "null": None, "gone": "x"}}
        outside.state.load(there)
        monkeypatch.setattr(foreign_engine, "LEAVE_SECONDS", 0.3)
        with pytest.raises(ConfigurationError, match="Another test uses the engine"):
            ForeignEngine(host["ws"], http_url=None).start()
        monkeypatch.undo()
        outside.keep()
    with ForeignEngine(host["ws"], http_url=None) as engine:
        engine.state.set("a", "changed", {"n": 2})
        engine.state.set("a", "changed", {"n": 3})
        engine.state.set("a", "null", 0)
        engine.state.delete("a", "gone")
        engine.state.set("a", "new", 1)
        engine.state.set("a", "passing", 1)
        engine.state.delete("a", "passing")
        engine.state.set("new scope", "k", 1)
    with ForeignEngine(host["ws"], http_url=None) as engine:
        assert engine.state.snapshot() == there
        for key in there["a"]:
            engine.state.delete("a", key)
        engine.keep()


def test_the_plugin_runs_the_same_tests(pytester: pytest.Pytester, host: dict[str, Any]) -> None:
    """Twice in one run, with what an engine elsewhere cannot do skipped in one sentence."""
    pytester.makepyfile(
        """
        import pytest
        from iii_skill.config import Config

        @pytest.mark.parametrize("round", range(3))
        def test_alone(iii_engine, round):
            assert iii_engine.state.snapshot() == {}
            iii_engine.state.set("a", "k", round)
            assert iii_engine.events.expect(scope="a", key="k").new_value == round
            assert [event.new_value for event in iii_engine.events.all] == [round]

        def test_fault(iii_engine):
            iii_engine.faults.fail("state::get")

        def test_calls(iii_engine):
            iii_engine.calls.expect("state::get")

        def test_clock(iii_engine):
            iii_engine.clock.advance(1)

        def test_config(iii_engine):
            assert iii_engine.config

        class TestOwn:
            @pytest.fixture
            def iii_config(self):
                return Config()

            def test_own(self, iii_engine):
                assert iii_engine
        """
    )
    done = run(pytester, host)
    done.assert_outcomes(passed=3, skipped=5)
    for what in ("`iii_engine.faults.fail`", "`iii_engine.clock.advance`", "`iii_engine.config`"):
        done.stdout.fnmatch_lines(
            [f"SKIPPED*{what} needs an engine of the test's own: leave out --iii-real-engine"]
        )


@pytest.fixture(scope="module")
def rust_worker() -> Path:
    """Built before `pytester` gives the test a home of its own, in which cargo would find no toolchain."""
    return rust_binary("0.25.0", SDK_WORKERS / "worker.rs")


@pytest.mark.timeout(900)
def test_a_worker_in_rust_is_tested_on_it(
    rust_worker: Path, pytester: pytest.Pytester, host: dict[str, Any]
) -> None:
    """Calls, events and a trigger of the real Rust SDK, by the plugin's fixtures; nothing stays behind."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture
        def worker(iii_worker):
            return iii_worker({str(rust_worker)!r}, env={{"SDK_WORKER": "rust"}})

        @pytest.mark.parametrize("round", range(2))
        def test_calls_and_events(iii_engine, worker, round):
            assert worker.functions == {{"sdk::call", "sdk::fail", "sdk::changed"}}
            assert iii_engine.state.snapshot() == {{}}
            payload = {{"scope": "watched", "key": "k", "value": round}}
            asked = {{"function_id": "state::set", "payload": payload}}
            iii_engine.http.post("/call", asked).expect(200)
            event = iii_engine.events.expect(scope="watched", key="k")
            assert (event.type, event.new_value) == ("state:created", round)
            iii_engine.settle()
            assert '"event"' in worker.output

        def test_a_failure_has_its_code(iii_engine, worker):
            with pytest.raises(Exception) as error:
                iii_engine.call("sdk::fail", {{}})
            assert error.value.code
        """
    )
    run(pytester, host).assert_outcomes(passed=3)


def test_a_failing_test_shows_what_happened_there(pytester: pytest.Pytester, host: dict[str, Any]) -> None:
    pytester.makepyfile(
        """
        def test_wrong(iii_engine):
            iii_engine.state.set("shop", "chair", 1)
            iii_engine.events.expect(scope="shop", key="chair")
            iii_engine.events.expect(scope="shop", key="table", within=0.3)
        """
    )
    done = run(pytester, host)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["*no event*", "*iii engine at ws://*", "*state:created*shop / chair*null -> 1"]
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--iii-real-engine", "http://127.0.0.1:1"), "*takes a URL such as ws://127.0.0.1:49134, not*"),
        (("--iii-real-engine", "ws://127.0.0.1:x"), "*takes a URL such as*"),
        (("--iii-real-engine", "ws://127.0.0.1:1"), "*No iii engine answers at ws://127.0.0.1:1*"),
        (
            ("--iii-real-engine", "ws://127.0.0.1:1", "-n", "2"),
            "*takes one test at a time*",
        ),
    ],
)
def test_a_wrong_engine_is_one_sentence(
    pytester: pytest.Pytester, options: tuple[str, ...], says: str
) -> None:
    pytester.makepyfile("def test_it(iii_engine):\n    pass\n")
    done = pytester.runpytest_subprocess(*QUIET, *options)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([says])


def test_an_engine_without_pages_says_so() -> None:
    """As a real engine, which gives values without their keys."""
    with (
        served("--engine-functions-only") as host,
        ForeignEngine(host["ws"], http_url=host["http"]) as engine,
    ):
        engine.state.set("a", "k", 1)
        assert engine.state.get("a", "k") == 1
        with pytest.raises(pytest.skip.Exception, match="which this engine does not give, needs"):
            engine.state.list("a")


def test_an_engine_that_dies_is_one_sentence() -> None:
    """Calls fail, and the end of the test says what it could not take back."""
    with served() as host:
        engine = ForeignEngine(host["ws"], http_url=None).start()
        engine.state.set("shop", "k", 1)
        engine.events.expect(scope="shop")
        os.kill(host["pid"], signal.SIGKILL)
        with pytest.raises(InvocationError) as caught:
            engine.state.get("shop", "k")
        assert caught.value.code == "not_connected"
        with pytest.raises(RuntimeError, match="still holds what the test has changed, in the scopes shop"):
            engine.stop()
        engine.stop()


def test_a_token_is_presented(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "quite-a-secret-0123456789"
    monkeypatch.setenv("III_SKILL_TOKEN", secret)
    with served() as host:
        with pytest.raises(ConfigurationError, match="does not let this worker in"):
            ForeignEngine(host["ws"], http_url=None).start()
        with ForeignEngine(host["ws"], http_url=None, token=secret) as engine:
            engine.state.set("a", "k", 1)
            assert engine.state.get("a", "k") == 1
