"""Real workers of real SDKs in processes, and what a worker that does not come up says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sdk import link_node_modules, once, python_sdk, rust_binary, tool
from support.served import wait_until

from iii_skill.testing.engine.local import LocalEngine
from iii_skill.testing.engine.readiness import WorkerFailed
from iii_skill.testing.engine.starting import Workers

HERE = Path(__file__).parent
SDK_WORKERS = HERE.parents[1] / "sdk" / "workers"
SDKS = ["python", "node"]


@pytest.fixture
def workers(engine: LocalEngine, tmp_path: Path) -> Iterator[Workers]:
    """Programs are looked for in the test's own directory."""
    workers = Workers(engine, [tmp_path])
    yield workers
    workers.stop()


def command(sdk: str, directory: Path) -> list[str]:
    """How the shop of that language is started."""
    if sdk == "python":
        shutil.copy(HERE / "shop.py", directory)
        return [str(python_sdk("0.25.0")), "shop.py"]
    link_node_modules(directory, "0.22.1")
    shutil.copy(HERE / "shop.mjs", directory)
    return [tool("node"), "shop.mjs"]


@pytest.fixture(params=SDKS)
def shop(request: pytest.FixtureRequest, workers: Workers, tmp_path: Path) -> object:
    """A shop that counts its stock down, and orders again when there is none left."""
    return workers(command(request.param, tmp_path))


def test_it_returns_when_all_is_registered(engine: LocalEngine, shop: object) -> None:
    assert shop.functions == {"shop::sell", "shop::reorder"}  # type: ignore[attr-defined]
    engine.state.set("shop", "chair", {"stock": 3})
    engine.http.post("/sell", {"id": "chair"}).expect(201, json={"stock": 2})
    event = engine.events.expect(scope="shop", key="chair", type="state:updated")
    assert (event.old_value, event.new_value) == ({"stock": 3}, {"stock": 2})


def test_a_worker_in_rust_is_a_program_as_any(engine: LocalEngine, workers: Workers) -> None:
    program = rust_binary("0.25.0", SDK_WORKERS / "worker.rs")
    worker = workers(program, env={"SDK_WORKER": "rust"})
    assert worker.functions == {"sdk::call", "sdk::fail", "sdk::changed"}
    asked = {"function_id": "state::set", "payload": {"scope": "a", "key": "k", "value": 1}}
    engine.http.post("/call", asked).expect(200)
    engine.events.expect(scope="a", key="k", value=1)


def test_a_worker_in_typescript_is_a_program_as_any(
    engine: LocalEngine, workers: Workers, tmp_path: Path
) -> None:
    modules = once("node-tsx", _install_typescript)
    (tmp_path / "node_modules").symlink_to(modules / "node_modules")
    typed = (HERE / "shop.mjs").read_text("utf-8")
    typed = typed.replace("(scope, key, path, by)", "(scope: string, key: string, path: string, by: number)")
    (tmp_path / "worker.ts").write_text(typed.replace("async (request)", "async (request: any)"))
    worker = workers("worker.ts")
    assert worker.functions == {"shop::sell", "shop::reorder"}
    engine.state.set("shop", "chair", {"stock": 1})
    engine.http.post("/sell", {"id": "chair"}).expect(201)
    engine.settle()
    assert engine.state.list("orders") == {"chair": {"ordered": 1}}
    worker.stop()
    # npx starts the program, and is gone before it.
    deadline = time.monotonic() + 20
    while engine.functions():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _install_typescript(target: Path) -> None:
    target.mkdir()
    packages = {"iii-sdk": "0.22.1", "tsx": "^4.20.0", "typescript": "^5.9.0"}
    (target / "package.json").write_text(json.dumps({"type": "module", "dependencies": packages}), "utf-8")
    npm = [tool("npm"), "install", "--no-audit", "--no-fund", "--silent"]
    done = subprocess.run(npm, cwd=target, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_crate_that_does_not_build_says_why(workers: Workers, tmp_path: Path) -> None:
    (tmp_path / "crate" / "src").mkdir(parents=True)
    (tmp_path / "crate" / "Cargo.toml").write_text('[package]\nname = "broken"\nversion = "0.1.0"\n')
    (tmp_path / "crate" / "src" / "main.rs").write_text("fn main() { nonsense }\n")
    tool("cargo")
    with pytest.raises(WorkerFailed, match="nonsense"):
        workers("crate")


def test_settling_waits_for_what_handlers_do(engine: LocalEngine, shop: object) -> None:
    engine.state.set("shop", "chair", {"stock": 1})
    engine.http.post("/sell", {"id": "chair"}).expect(201)
    engine.settle()
    assert engine.state.list("orders") == {"chair": {"ordered": 1}}
    assert engine.calls.expect("shop::reorder").payload["key"] == "chair"


def test_a_worker_without_retry_shows_a_fault_to_its_caller(engine: LocalEngine, shop: object) -> None:
    engine.state.set("shop", "chair", {"stock": 3})
    engine.faults.fail("state::update", code="busy")
    engine.http.post("/sell", {"id": "chair"}).expect(500)
    assert engine.state.get("shop", "chair") == {"stock": 3}


def test_a_worker_comes_back_after_a_restart(engine: LocalEngine, shop: object) -> None:
    engine.state.set("shop", "chair", {"stock": 3})
    engine.faults.restart()
    engine.ready(None, name="shop", before=set(), functions=["shop::sell", "shop::reorder"])
    engine.settle()
    engine.http.post("/sell", {"id": "chair"}).expect(201, json={"stock": 2})


def test_a_dropped_connection_loses_the_answer_and_comes_back(engine: LocalEngine, shop: object) -> None:
    engine.state.set("shop", "chair", {"stock": 3})
    fault = engine.faults.drop_connection("state::update")
    engine.http.post("/sell", {"id": "chair"}).expect(500)
    assert getattr(fault, "hits", None) == 1
    assert engine.state.get("shop", "chair") == {"stock": 2}
    engine.ready(None, name="shop", before=set(), functions=["shop::sell"])


def test_all_connections_are_dropped_at_once(engine: LocalEngine, shop: object) -> None:
    assert engine.faults.drop_connection() == 1
    engine.calls.expect("engine::workers::register", count=2)


def test_an_end_before_registration_says_what_was_written(workers: Workers, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("print('about to fail')\nraise SystemExit(3)\n")
    with pytest.raises(WorkerFailed, match=r"(?s)exit code 3.*about to fail"):
        workers("broken.py")


def test_a_worker_that_registers_nothing_is_not_waited_for_for_ever(workers: Workers, tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text("import time\nprint('I wait', flush=True)\ntime.sleep(60)\n")
    said, within = "", 0.25
    while "I wait" not in said:  # until it has had the time to write
        within *= 2
        with pytest.raises(
            WorkerFailed, match=rf"did not register any function within {within:g} s"
        ) as caught:
            workers("silent.py", within=within)
        said = str(caught.value)


def test_a_program_that_is_not_there_is_named(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"no worker worker.py in {tmp_path}"):
        workers("worker.py")


def test_a_killed_worker_is_reported_as_ended(workers: Workers, tmp_path: Path) -> None:
    worker = workers(command("python", tmp_path))
    worker.kill()
    assert worker.process.ended == -signal.SIGKILL


def test_what_a_worker_started_ends_with_it(workers: Workers, tmp_path: Path) -> None:
    python = str(python_sdk("0.25.0"))
    shutil.copy(HERE / "shop.py", tmp_path)
    worker = workers(["sh", "-c", f"{python} shop.py & echo child $!; wait"])
    child = int(worker.output.split("child ")[1].split()[0])
    worker.stop()
    stat = Path(f"/proc/{child}/stat")
    while stat.exists() and b") Z" not in stat.read_bytes():
        time.sleep(0.01)


def test_workers_leave_no_thread_and_no_descriptor(engine: LocalEngine, tmp_path: Path) -> None:
    def resources() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    start = command("python", tmp_path)
    before = resources()
    workers = Workers(engine, [tmp_path])
    workers(start)
    workers.stop()
    wait_until(f"the threads and descriptors {before}", lambda: resources() == before)
