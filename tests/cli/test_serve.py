"""`iii-skill serve` as a process: ready line, signals, exit codes, one-sentence errors."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from support.client import raw_client
from support.host import WAIT_S, HostFailed, running_host

from iii_skill.cli.loop import MAX_FILES, raise_file_limit


def serve(directory: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it where it must fail at once."""
    command = [sys.executable, "-m", "iii_skill", "serve", "--port", "0", "--http-port", "0", *args]
    return subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def run(*command: str) -> None:
    """A command of the system that must work; mounting needs root."""
    subprocess.run(command, check=True, timeout=30)


def test_the_ready_line_is_one_line_of_json(tmp_path: Path) -> None:
    with running_host(tmp_path, "--port", "0", "--http-port", "0", ports=False) as host:
        assert host.ready == {
            "ready": True,
            "ws": host.ws,
            "http": host.http,
            "adapter": "file",
            "data_dir": str(tmp_path / ".iii" / "state"),
            "pid": host.process.pid,
            "companions": {
                "iii-cron": {},
                "iii-pubsub": {},
                "iii-queue": {},
                "iii-stream": host.ready["companions"]["iii-stream"],
            },
            "config_files": {},
        }
        assert host.sigterm() == 0
    assert (tmp_path / ".iii" / "state").stat().st_mode & 0o777 == 0o700


def test_the_human_line_names_everything(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "iii_skill",
        "serve",
        "--port",
        "0",
        "--http-port",
        "0",
        "--data-dir",
        "d",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert process.wait(WAIT_S) == 0
    assert "ws://127.0.0.1:" in line
    assert "http://127.0.0.1:" in line
    assert str(tmp_path / "d") in line


@pytest.mark.parametrize("adapter", ["memory", "file"])
async def test_state_survives_a_restart_only_where_it_is_promised(tmp_path: Path, adapter: str) -> None:
    with running_host(tmp_path, "--adapter", adapter) as host:
        for number in (signal.SIGTERM, signal.SIGKILL):
            async with raw_client(host.ws) as client:
                await client.result("state::set", {"scope": "s", "key": "k", "value": 1})
            host.restart(number)
            async with raw_client(host.ws) as client:
                expected = None if adapter == "memory" else 1
                assert await client.result("state::get", {"scope": "s", "key": "k"}) == expected


def test_a_second_host_on_one_store_is_refused_by_name_of_the_first(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        with pytest.raises(HostFailed, match=rf"process {host.pid}") as caught, running_host(tmp_path):
            pass
        assert caught.value.code == 1


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        failed = serve(tmp_path, "--adapter", "memory", "--port", port)
    assert failed.returncode == 1
    assert failed.stderr == (
        f"Error: Port {port} on 127.0.0.1 is taken by another program; choose another with --port N "
        "(--port 0 picks a free one).\n"
    )


async def test_functions_that_an_engine_lacks_can_be_hidden(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "memory", "--engine-functions-only") as host:
        async with raw_client(host.ws) as client:
            assert await client.code("state::list_keys", {"scope": "s"}) == "function_not_found"
            assert await client.result("state::list", {"scope": "s"}) == []


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--adapter", "nope"), "There is no state adapter 'nope'"),
        (("--adapter", "memory", "--adapter-config", "x=1"), "unknown key 'x'"),
        (("--adapter-config", "nonsense"), "is not KEY=VALUE"),
        (("--adapter", "memory", "--adapter-config", "history=9"), "settings of its own: history.keep=…"),
        (
            ("--adapter", "memory", "--adapter-config", "history.kep=9"),
            "history: unknown key 'kep'; known keys",
        ),
        (("--adapter", "memory", "--adapter-config", "history.keep=0"), "history.keep: must be from 1"),
        (("--adapter", "file", "--adapter-config", "data_dir.x=1"), "data_dir: expected text, not a mapping"),
        (("--adapter", "memory", "--adapter-config", "history..keep=9"), "names no setting"),
        (("--adapter", "file", "--adapter-config", "cache_bytes=many"), "cache_bytes"),
        (("--config", "nowhere.yaml"), "nowhere.yaml"),
        (("--adapter", "memory", "--host", "0.0.0.0"), "--token"),
        (("--port", "70000"), "65535"),
        (("--adapter", "memory", "--allowed-host", "http://iii"), "'http://iii' is no host name"),
        (("--no-state", "--data-dir", "d"), "--no-state serves no state, so --data-dir says nothing"),
        (("--adapter", "memory", "--token", "t", "--host", "192.0.2.1"), "no address of this machine"),
        (("--adapter", "memory", "--token", "t", "--host", "no.such.host.invalid"), "with --host"),
    ],
)
def test_mistakes_are_one_sentence_that_says_what_to_do(
    tmp_path: Path, args: tuple[str, ...], sentence: str
) -> None:
    failed = serve(tmp_path, *args)
    assert failed.returncode in (1, 2)
    assert sentence in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_unknown_adapter_of_a_file_is_named_with_its_place(tmp_path: Path) -> None:
    text = "workers: [{name: iii-state, config: {adapter: {name: nope}}}]"
    (tmp_path / "iii-config.yaml").write_text(text)
    failed = serve(tmp_path, "--config", "iii-config.yaml")
    place = "iii-config.yaml: workers[0] (iii-state) config.adapter.name"
    assert f"Error: {place}: There is no state adapter 'nope'." in failed.stderr


CURRENT = """
workers:
  - name: iii-worker-manager
    config: {port: ${WS:1}, host: 127.0.0.1}
  - name: iii-http
    config: {port: ${HTTP:2}, host: 127.0.0.1, default_timeout: 5000}
  - name: iii-state
    config:
      adapter: {name: kv, config: {store_method: file_based, file_path: ./store}}
      max_value_bytes: 100
  - name: iii-bridge
"""

OLD = """
port: ${WS:1}
modules:
  - class: modules::api::RestApiModule
    config: {port: ${HTTP:2}, host: 127.0.0.1}
  - class: modules::state::StateModule
    config:
      adapter:
        class: modules::state::adapters::KvStore
        config: {store_method: file_based, file_path: ./store}
      max_value_bytes: 100
  - class: modules::bridge_client::BridgeClientModule
"""


@pytest.mark.parametrize("text", [CURRENT, OLD], ids=["workers", "modules"])
async def test_both_generations_of_the_configuration_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "iii-config.yaml").write_text(text)
    args = ("--config", "iii-config.yaml")
    with running_host(tmp_path, *args, ports=False, env={"WS": "0", "HTTP": "0"}) as host:
        assert host.ready["adapter"] == "file"
        assert host.ready["data_dir"] == str(tmp_path / "store")
        async with raw_client(host.ws) as client:
            await client.result("state::set", {"scope": "s", "key": "k", "value": 1})
            code = await client.code("state::set", {"scope": "s", "key": "k", "value": "x" * 200})
            assert code == "VALUE_TOO_LARGE"
        assert host.sigterm() == 0
    assert host.stderr.lower().count("not served by this host, ignored:") == 1
    assert "bridge" in host.stderr


def test_a_configuration_without_state_or_http_serves_neither(tmp_path: Path) -> None:
    (tmp_path / "iii-config.yaml").write_text("workers:\n  - {name: iii-worker-manager, config: {port: 0}}\n")
    with running_host(tmp_path, "--config", "iii-config.yaml", ports=False) as host:
        assert (host.ready["adapter"], host.ready["http"]) == (None, None)


async def test_a_full_disk_ends_the_host_with_an_error_and_no_false_ack(tmp_path: Path) -> None:
    store = tmp_path / "small"
    store.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(store))
    try:
        with running_host(tmp_path, "--data-dir", str(store / "state")) as host:
            acked = 0
            async with raw_client(host.ws) as client:
                while True:
                    answer = await client.call(
                        "state::set", {"scope": "s", "key": f"k{acked}", "value": "x" * 100_000}
                    )
                    if "error" in answer:
                        break
                    acked += 1
                assert answer["error"]["code"] == "SET_ERROR"
            assert host.process.wait(WAIT_S) == 1
            assert "the store failed" in host.stderr
        run("mount", "-o", "remount,size=50m", str(store))
        with running_host(tmp_path, "--data-dir", str(store / "state")) as host:
            async with raw_client(host.ws) as client:
                assert len(await client.result("state::list", {"scope": "s"})) >= acked > 0
    finally:
        run("umount", "-l", str(store))


def test_http_answers_on_its_port_and_nowhere_else(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "memory") as host:
        request = urllib.request.Request(host.http + "/nothing")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        with caught.value as answer:
            assert answer.code == 404
            assert json.load(answer)["error"]["code"] == "NOT_FOUND"


def test_as_many_connections_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed - 1, hard))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (allowed, hard)
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (allowed, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_workers_beside_state_run_unless_they_are_left_out(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "memory", "--without", "cron") as host:
        assert "iii-pubsub" in host.ready["companions"]
        assert "iii-cron" not in host.ready["companions"]


def test_a_file_runs_the_workers_that_it_lists(tmp_path: Path) -> None:
    (tmp_path / "iii-config.yaml").write_text(
        "workers:\n  - name: iii-worker-manager\n  - name: iii-state\n"
        "  - name: cron\n    config: {adapter: {name: kv}}\n  - name: iii-bridge\n"
    )
    with running_host(tmp_path, "--config", "iii-config.yaml") as host:
        assert host.ready["companions"] == {"iii-cron": {}}
        assert host.sigterm() == 0
    assert "not served by this host, ignored: iii-bridge" in host.stderr
