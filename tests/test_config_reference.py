"""The annotated `references/iii-config.yaml` is true: it parses, starts a host, and leaves out no key."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec
import pytest
from support.client import raw_client
from support.host import HostFailed, free_port, running_host
from support.http import post

from iii_skill.config import Config, Cors, HttpSettings, Middleware, WorkerListener, load_config
from iii_skill.config.sections import AdapterSection, KvSection, StateSection, WorkerSection

REFERENCE = Path(__file__).parents[1] / "references" / "iii-config.yaml"


def old_generation() -> str:
    """The old form, which stands in the comments at the end."""
    comment = REFERENCE.read_text("utf-8").split("# The old generation", 1)[1]
    return "\n".join(line.removeprefix("#   ") for line in comment.splitlines()[2:])


def load(path: Path, **env: str) -> Config:
    return load_config(path, env)


def test_the_reference_says_what_it_says() -> None:
    config = load(REFERENCE)
    assert config.worker == WorkerListener()
    assert config.http == HttpSettings(
        cors=Cors(
            allowed_origins=("http://localhost:3000",),
            allowed_methods=("GET", "POST", "PUT", "DELETE", "OPTIONS"),
        )
    )
    assert config.state is not None
    assert config.state.adapter_name == "file"
    assert config.state.adapter_config == {"data_dir": str(REFERENCE.parent / "data" / "state_store")}
    assert config.state.max_value_bytes == 1048576
    assert config.notes == ()
    assert [section.name for section in config.companions or ()] == [
        "iii-cron",
        "iii-queue",
        "iii-stream",
        "iii-pubsub",
    ]


def test_the_old_generation_in_its_comments_means_the_same(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(old_generation(), "utf-8")
    config = load(path)
    assert config.worker == WorkerListener()
    assert config.http == HttpSettings()
    assert config.state is not None
    assert config.state.adapter_config == {"data_dir": str(tmp_path / "data" / "state_store")}


def keys(kind: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def test_every_key_that_the_host_reads_stands_in_the_reference() -> None:
    sections = (WorkerSection, HttpSettings, Cors, Middleware, StateSection, AdapterSection, KvSection)
    known = set().union(*map(keys, sections)) | {"registration_namespace_grace_ms", "workers", "modules"}
    text = REFERENCE.read_text("utf-8")
    assert {"port", "file_path", "save_interval_ms", "rbac", "default_timeout"} <= known
    assert sorted(key for key in known if not re.search(rf"\b{key}\b", text)) == []


@pytest.mark.parametrize("generation", ["current", "old"])
async def test_the_host_runs_it(tmp_path: Path, generation: str) -> None:
    ports = {"III_PORT": str(free_port()), "III_HTTP_PORT": str(free_port())}
    path = tmp_path / "iii-config.yaml"
    if generation == "current":
        shutil.copy(REFERENCE, path)
    else:
        text = old_generation().replace("49134", ports["III_PORT"]).replace("3111", ports["III_HTTP_PORT"])
        path.write_text(text, "utf-8")
    with running_host(tmp_path, "--config", str(path), env=ports, ports=False) as host:
        assert host.ws == f"ws://127.0.0.1:{ports['III_PORT']}"
        assert host.http == f"http://127.0.0.1:{ports['III_HTTP_PORT']}"
        assert host.ready["adapter"] == "file"
        assert host.ready["data_dir"] == str(tmp_path / "data" / "state_store")
        async with raw_client(host.ws) as client:
            saved = await client.result("state::set", {"scope": "a", "key": "b", "value": 1})
        assert saved == {"old_value": None, "new_value": 1}
        assert post(f"{host.http}/nope", {})[0] == 404
        assert host.sigterm() == 0
        assert host.complaints == []


def test_the_host_names_what_it_does_not_run_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "workers:\n- {name: iii-worker-manager, config: {port: 0}}\n"
        "- name: iii-observability\n- name: iii-bridge\n"
        "- {name: iii-state, config: {save_interval_ms: 500, adapter: {name: memory}}}\n"
    )
    with running_host(tmp_path, "--config", str(path), ports=False) as host:
        assert host.ready["http"] is None
        assert host.ready["adapter"] == "memory"
        # What is said after the ready line is complete when it has ended.
        assert host.sigterm() == 0
        complaints = host.complaints
    assert len(complaints) == 2
    assert "save_interval_ms has no effect here" in complaints[0]
    assert "iii-observability, iii-bridge" in complaints[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "workers: [{name: iii-http, config: {prot: 1}}]",
            "mine.yaml: workers[0] (iii-http) config: unknown key",
        ),
        (
            "workers: [{name: iii-state, config: {adapter: {name: nope}}}]",
            "There is no state adapter 'nope'. Installed adapters: file, memory, postgres, redis.",
        ),
        (
            "workers: [{name: iii-state, config: {adapter: {name: memory, config: {a: 1}}}}]",
            "workers[0] (iii-state) config.adapter.config: unknown key 'a'; known keys: history.",
        ),
        (
            "workers: [{name: iii-worker-manager, config: {host: 0.0.0.0, port: 0}},"
            " {name: iii-state, config: {adapter: {name: memory}}}]",
            "Listening on 0.0.0.0 lets other machines in: add --token",
        ),
    ],
)
def test_a_mistake_stops_the_start_with_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(HostFailed) as caught, running_host(tmp_path, "--config", str(path), ports=False):
        pass
    assert caught.value.code == 1
    assert message in caught.value.stderr
    assert "Traceback" not in caught.value.stderr
    assert len(caught.value.stderr.strip().splitlines()) == 1
