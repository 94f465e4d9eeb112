"""`iii-skill attach`: state served inside an engine (our own host without state) by a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import websockets
from iii_state_memory import MemoryAdapter
from support.client import WAIT_S, RawClient, raw_client
from support.host import HostProcess, running_host
from support.postgres import postgres_server
from support.redis import redis_server

from iii_skill.adapter import NoConfig
from iii_skill.attach.state_worker import Attached
from iii_skill.engine_link import LinkOwner, connect
from iii_skill.protocol.unreached import Refused


class AttachProcess:
    """A running `iii-skill attach`."""

    def __init__(self, directory: Path, url: str, *args: str) -> None:
        self.log = directory / "attach.log"
        command = [sys.executable, "-m", "iii_skill", "attach", "--engine", url, "--ready-json", *args]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=log)
        self.ready: dict[str, Any] = {}

    def wait_ready(self) -> None:
        """Until it serves; a failure with its log when it ends before."""
        stream = self.process.stdout
        assert stream is not None
        assert select.select([stream], [], [], WAIT_S)[0], self.log.read_text()
        line = os.read(stream.fileno(), 4096)
        assert line, self.log.read_text()
        self.ready = json.loads(line)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


@contextmanager
def attached(directory: Path, url: str, *args: str, ready: bool = True) -> Iterator[AttachProcess]:
    process = AttachProcess(directory, url, *args)
    try:
        if ready:
            process.wait_ready()
        yield process
    finally:
        if process.process.poll() is None:
            process.stop(signal.SIGKILL)
        assert process.process.stdout is not None
        process.process.stdout.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[HostProcess]:
    with running_host(tmp_path, "--no-state") as engine:
        yield engine


async def eventually(client: RawClient, function_id: str, payload: Any) -> Any:
    """The result, asked for again while the state worker is away."""
    async with asyncio.timeout(60):
        while True:
            answer = await client.call(function_id, payload)
            if "error" not in answer:
                return answer.get("result")
            assert answer["error"]["code"] in ("function_not_found", "invocation_stopped"), answer
            await asyncio.sleep(0.02)


WHERE = {"scope": "s", "key": "k"}


async def test_every_state_function_answers_out_of_the_attached_adapter(
    engine: HostProcess, tmp_path: Path
) -> None:
    async with raw_client(engine.ws) as client:
        assert await client.code("state::get", WHERE) == "function_not_found"
        with attached(tmp_path, engine.ws, "--adapter", "file", "--data-dir", "data") as worker:
            assert worker.ready["data_dir"] == str(tmp_path / "data")
            big = 2**70
            assert await client.result("state::set", {**WHERE, "value": {"n": big}}) == {
                "new_value": {"n": big},
                "old_value": None,
            }
            ops = [{"type": "set", "path": "a", "value": None}]
            assert (await client.result("state::update", {**WHERE, "ops": ops}))["new_value"] == {
                "n": big,
                "a": None,
            }
            swapped = await client.result("state::compare-and-set", {**WHERE, "key": "new", "value": 1})
            assert swapped == {"swapped": True}
            assert await client.result("state::list_keys", {"scope": "s"}) == {"keys": ["k", "new"]}
            page = await client.result("state::list_entries", {"scope": "s", "limit": 1})
            assert page["total"] == 2
            rest = await client.result(
                "state::list_entries", {"scope": "s", "limit": 1, "cursor": page["next_cursor"]}
            )
            assert rest["entries"] == [["new", 1]]
            assert await client.result("state::delete", {**WHERE, "key": "new"}) == 1
            assert await client.code("state::set", {"scope": "s"}) == "deserialization_error"
            await client.result("state::set", {**WHERE, "key": "null", "value": None})
            stored = await client.call("state::get", {**WHERE, "key": "null"})
            missing = await client.call("state::get", {**WHERE, "key": "missing"})
            assert stored["result"] is None
            assert "result" not in missing
            assert worker.stop() == 0


async def test_triggers_are_taken_from_the_engine_and_fire_in_order(
    engine: HostProcess, tmp_path: Path
) -> None:
    async with raw_client(engine.ws) as client:
        seen: list[Any] = []
        done = asyncio.Event()

        def handler(event: Any) -> None:
            seen.append((event["event_type"], event["new_value"]))
            if len(seen) == 21:
                done.set()

        await client.register("h::seen", handler)
        await client.register("h::never", lambda _event: False)
        trigger = {"type": "registertrigger", "trigger_type": "state", "function_id": "h::seen"}
        await client.send({**trigger, "id": "t1", "config": {"scope": "s"}, "metadata": {"m": 1}})
        await client.send({**trigger, "id": "t2", "config": {"condition_function_id": "h::never"}})
        with attached(tmp_path, engine.ws, "--adapter", "memory"):
            await client.send({**trigger, "id": "t3", "config": {"scope": 5}})
            refused = await client.wait_for("triggerregistrationresult", id="t3")
            assert refused["error"]["code"] == "trigger_registration_failed"
            for number in range(20):
                await client.result("state::set", {**WHERE, "value": number})
            await client.result("state::delete", WHERE)
            await asyncio.wait_for(done.wait(), WAIT_S)
            await client.send({"type": "unregistertrigger", "id": "t1"})
            await client.result("state::set", {**WHERE, "value": "unseen"})
            await client.result("state::list", {"scope": "s"})
        kinds = ["state:created", *["state:updated"] * 19]
        assert seen == [*zip(kinds, range(20), strict=True), ("state:deleted", None)]


async def test_observers_of_changes_are_told_of_those_that_their_filters_let_through(
    engine: HostProcess, tmp_path: Path
) -> None:
    async with raw_client(engine.ws) as client:
        seen: list[Any] = []
        done = asyncio.Event()

        def handler(event: Any) -> None:
            seen.append(event["input"]["new_value"]["n"])
            if seen[-1] == 9:
                done.set()

        identity = {"name": "observer", "features": ["observe.v1", "observe.v2"]}
        await client.call("engine::workers::register", identity)
        await client.register("h::seen", handler)
        source = {"function_id": "state::on-changed", "filters": {"input.new_value.n": {"$gte": 5}}}
        observe = {"type": "observe", "source": source, "target": {"function_id": "h::seen"}}
        await client.send({**observe, "id": "o1"})
        assert (await client.wait_for("observeresult", id="o1"))["state"] == "pending"
        with attached(tmp_path, engine.ws, "--adapter", "memory"):
            assert (await client.wait_for("observerstatechanged", id="o1"))["state"] == "active"
            private = await client.code("state::on-changed", {})
            assert private == "FORBIDDEN"
            for number in range(10):
                await client.result("state::set", {**WHERE, "value": {"n": number}})
            await asyncio.wait_for(done.wait(), WAIT_S)
            assert seen == [5, 6, 7, 8, 9]
            await client.send({"type": "unobserve", "id": "o1"})
            await client.wait_for("observerstatechanged", id="o1", state="disposed")
            await client.result("state::set", {**WHERE, "value": {"n": 10}})
            await client.send({**observe, "id": "o2", "max_fires": 1})
            await client.wait_for("observerstatechanged", id="o2", state="active")
        changed = await client.wait_for("observerstatechanged", id="o2", state="pending")
        assert changed["reason"]["code"] == "OWNER_UNAVAILABLE"
        assert seen == [5, 6, 7, 8, 9]
        with attached(tmp_path, engine.ws, "--adapter", "memory"):
            await client.wait_for("observerstatechanged", id="o2", state="active")


@contextlib.asynccontextmanager
async def mute_handler(url: str, handler_timeout_s: float) -> AsyncIterator[tuple[Attached, RawClient]]:
    """State attached from this process, and a worker whose handler of all events answers nothing."""
    adapter = MemoryAdapter()
    await adapter.open(NoConfig())
    attached = Attached(url, adapter, handler_timeout_s=handler_timeout_s)
    running = asyncio.create_task(attached.run())
    try:
        async with raw_client(url) as client:
            await client.register("h::mute")
            trigger = {"type": "registertrigger", "trigger_type": "state", "function_id": "h::mute"}
            await client.send({**trigger, "id": "t", "config": {}})
            while await client.code("state::set", {"scope": "s"}) == "function_not_found":
                await asyncio.sleep(0.02)
            yield attached, client
            assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await attached.close()
        await adapter.close()


async def test_an_event_is_waited_for_until_its_handler_answers(engine: HostProcess) -> None:
    async with mute_handler(engine.ws, 600) as (attached, client):
        for number in range(3):
            await client.result("state::set", {**WHERE, "value": number})
        link = attached._link
        assert link is not None
        answer = {"type": "invocationresult", "function_id": "h::mute", "result": True}
        for _ in range(3):
            first = await client.wait_for("invokefunction", function_id="h::mute")
            assert link.waiting == 1
            assert [m for m in client.inbox if m["type"] == "invokefunction"] == []
            await client.send({**answer, "invocation_id": first["invocation_id"]})
        async with asyncio.timeout(60):
            while link.waiting:
                await asyncio.sleep(0.02)


async def test_an_event_that_no_handler_answers_is_forgotten_when_its_time_is_up(engine: HostProcess) -> None:
    async with mute_handler(engine.ws, 0.2) as (attached, client):
        for number in range(3):
            await client.result("state::set", {**WHERE, "value": number})
        first = await client.wait_for("invokefunction", function_id="h::mute")
        for _ in range(2):
            await client.wait_for("invokefunction", function_id="h::mute")
        link = attached._link
        assert link is not None
        async with asyncio.timeout(60):
            while link.waiting:
                await asyncio.sleep(0.02)
        late = {"type": "invocationresult", "function_id": "h::mute", "result": True}
        await client.send({**late, "invocation_id": first["invocation_id"]})
        assert await client.result("state::get", WHERE) == 2


def test_a_second_owner_is_refused_with_a_sentence(engine: HostProcess, tmp_path: Path) -> None:
    with attached(tmp_path, engine.ws, "--adapter", "memory"):
        second = AttachProcess(tmp_path, engine.ws, "--adapter", "memory")
        assert second.process.wait(WAIT_S) == 1
        assert second.process.stdout is not None
        second.process.stdout.close()
    log = second.log.read_text()
    assert "is served by worker 'iii-skill-state' already" in log
    assert "Take the worker `iii-state` out of the engine's config.yaml (or stop the other worker)" in log


def test_an_engine_that_serves_state_itself_is_left_alone(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "memory") as engine:
        second = AttachProcess(tmp_path, engine.ws, "--adapter", "memory")
        assert second.process.wait(WAIT_S) == 1
        assert second.process.stdout is not None
        second.process.stdout.close()
    log = second.log.read_text()
    assert "is served by worker 'iii-state' already" in log
    assert "start it with `iii-skill serve --no-state`, then attach again" in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_it_comes_back_after_the_engine_did(
    engine: HostProcess, tmp_path: Path, number: signal.Signals
) -> None:
    with attached(tmp_path, engine.ws, "--adapter", "file", "--data-dir", "data") as worker:
        async with raw_client(engine.ws) as client:
            await client.result("state::set", {**WHERE, "value": 1})
        engine.restart(number)
        async with raw_client(engine.ws) as client:
            assert await eventually(client, "state::get", WHERE) == 1
            seen = asyncio.Event()
            await client.register("h::seen", lambda _event: seen.set())
            await client.send(
                {
                    "type": "registertrigger",
                    "id": "t",
                    "trigger_type": "state",
                    "function_id": "h::seen",
                    "config": {},
                }
            )
            await client.result("state::set", {**WHERE, "value": 2})
            await asyncio.wait_for(seen.wait(), WAIT_S)
        assert worker.stop(signal.SIGINT) == 0
        assert "is lost; coming back" in worker.log.read_text()


async def test_acknowledged_writes_survive_the_kill_of_the_state_worker(
    engine: HostProcess, tmp_path: Path
) -> None:
    args = ("--adapter", "file", "--data-dir", "data")
    acked: list[int] = []
    async with raw_client(engine.ws) as client:
        with attached(tmp_path, engine.ws, *args) as worker:

            async def write(lane: int) -> None:
                for number in range(10_000):
                    answer = await client.call(
                        "state::set", {"scope": str(lane), "key": str(number), "value": number}
                    )
                    if "error" in answer:
                        assert answer["error"]["code"] in ("invocation_stopped", "function_not_found")
                        return
                    acked.append(lane)
                    if len(acked) == 300:
                        worker.process.kill()

            await asyncio.gather(*(write(lane) for lane in range(8)))
        with attached(tmp_path, engine.ws, *args):
            for lane in range(8):
                assert len(await client.result("state::list", {"scope": str(lane)})) >= acked.count(lane)


async def test_it_waits_for_an_engine_that_is_not_there_yet(tmp_path: Path) -> None:
    engine = HostProcess(tmp_path, "--no-state", "--token", "secret")
    url = f"ws://127.0.0.1:{engine._ports[1]}"
    with attached(tmp_path, url, "--adapter", "memory", "--token", "secret", ready=False) as worker:
        while "trying again" not in (worker.log.read_text() if worker.log.exists() else ""):
            await asyncio.sleep(0.02)
        try:
            engine.start()
            worker.wait_ready()
        finally:
            engine.kill()


def test_a_wrong_token_ends_it_with_what_to_do(tmp_path: Path) -> None:
    with (
        running_host(tmp_path, "--no-state", "--token", "secret") as engine,
        attached(tmp_path, engine.ws, "--adapter", "memory", "--token", "wrong", ready=False) as worker,
    ):
        assert worker.process.wait(WAIT_S) == 1
        assert "does not let this worker in (401): give its token with --token." in worker.log.read_text()


async def test_the_http_port_is_no_worker_port(tmp_path: Path) -> None:
    with running_host(tmp_path, "--no-state") as engine:
        url = engine.http.replace("http", "ws", 1)
        with attached(tmp_path, url, "--adapter", "memory", ready=False) as worker:
            while "it answers HTTP 404; a worker port is 49134 unless configured" not in (
                worker.log.read_text() if worker.log.exists() else ""
            ):
                await asyncio.sleep(0.02)


@contextlib.contextmanager
def shared_store(kind: str) -> Iterator[tuple[str, str]]:
    """The option that names a server of this kind, and its URL."""
    if kind == "redis":
        with redis_server() as server:
            yield "--redis-url", server.url
    else:
        with postgres_server() as database:
            yield "--database-url", database.url


@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_two_engines_share_one_store_through_attached_workers(kind: str, tmp_path: Path) -> None:
    """Users who outgrow one process: each engine fires its own triggers for the writes of both, once."""
    homes = [tmp_path / "a", tmp_path / "b"]
    for home in homes:
        home.mkdir()
    with (
        shared_store(kind) as store,
        running_host(homes[0], "--no-state") as first,
        running_host(homes[1], "--no-state") as second,
        attached(homes[0], first.ws, *store),
        attached(homes[1], second.ws, *store),
    ):
        async with raw_client(first.ws) as one, raw_client(second.ws) as two:
            seen: dict[str, list[int]] = {"one": [], "two": []}
            for name, client in (("one", one), ("two", two)):
                await client.register(
                    "h::seen", lambda event, name=name: seen[name].append(event["new_value"]["n"])
                )
                await client.send(
                    {
                        "type": "registertrigger",
                        "id": name,
                        "trigger_type": "state",
                        "function_id": "h::seen",
                        "config": {},
                    }
                )
                await client.result("state::list_groups", {})
            payload = {**WHERE, "ops": [{"type": "increment", "path": "n", "by": 1}]}
            await asyncio.gather(
                *(client.result("state::update", payload) for client in (one, two) for _ in range(50))
            )
            async with asyncio.timeout(WAIT_S):
                while min(len(values) for values in seen.values()) < 100:
                    await asyncio.sleep(0.02)
            assert seen == {"one": list(range(1, 101)), "two": list(range(1, 101))}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "foo", "ws://", "ws://127.0.0.1:none", "ws://a..b:1"])
def test_an_engine_that_is_no_websocket_url_is_refused_at_once(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "iii_skill", "attach", "--engine", url]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert "write it as ws://HOST:PORT" in ended.stderr
    assert list(tmp_path.iterdir()) == []


class Owner:
    """Whoever takes what an engine sends: here nobody."""

    def __init__(self, url: str) -> None:
        self.url = url


async def test_a_token_is_not_carried_to_where_an_answer_points() -> None:
    seen: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(elsewhere, "127.0.0.1", 0) as second:
        target = second.sockets[0].getsockname()[1]

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:{target}/\r\nContent-Length: 0\r\n\r\n"
            writer.write(head.encode())
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(redirect, "127.0.0.1", 0) as first:
            url = f"ws://127.0.0.1:{first.sockets[0].getsockname()[1]}"
            with pytest.raises(Refused, match="elsewhere"):
                await connect(cast(LinkOwner, Owner(url)), token="secret")
    assert seen == []


async def test_odd_messages_of_an_engine_are_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    odd = ["nonsense", "[]", '{"type":5}', '{"type":"invokefunction"}', '{"type":"unregistertrigger","id":1}']

    async def engine(socket: Any) -> None:
        await socket.send('{"type":"workerregistered","worker_id":"w","reattach_token":"t"}')
        for text in odd:
            await socket.send(text)
        await socket.send('{"type":"error","error":{"code":"C","message":"the end"}}')
        await socket.wait_closed()

    async with websockets.serve(engine, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with contextlib.suppress(Refused):
            link = await connect(cast(LinkOwner, Owner(url)), token=None)
            while link.refusal is None:
                await asyncio.sleep(0)
            link.leave()
    left_out = [record for record in caplog.records if "is left out" in record.getMessage()]
    assert len(left_out) == len(odd)
    assert not any(record.exc_info for record in caplog.records)
