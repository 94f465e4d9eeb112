"""What an engine stored under `config/` counts in place of the blocks of the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.host import HostFailed, running_host

from iii_skill.config import Config, load_config
from iii_skill.errors import ConfigurationError

FILE = """
workers:
  - name: iii-http
  - name: iii-state
    config: {adapter: {name: file}, max_value_bytes: 5}
"""


def store(directory: Path, name: str, value: object, *, worker: str | None = None) -> Path:
    path = directory / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"id": worker or name, "name": name, "description": "d", "value": value}
    path.write_text(json.dumps(document))
    return path


def load(tmp_path: Path, text: str = FILE, **env: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_config(path, env)


def test_a_stored_value_wins_whole(tmp_path: Path) -> None:
    value = {"adapter": {"name": "redis", "config": {"redis_url": "redis://h:1"}}, "triggers_enabled": False}
    path = store(tmp_path / "config", "iii-state", value)
    config = load(tmp_path)
    assert config.state is not None
    assert (config.state.adapter_name, config.state.max_value_bytes) == ("redis", None)
    assert config.state.triggers_enabled is False
    assert config.stored == {"iii-state": path}
    assert config.state.where == "config/iii-state.yaml: value.adapter.config"


@pytest.mark.parametrize("worker", ["iii-http", "iii-state"])
def test_settings_that_an_engine_took_away_and_nobody_has_stop_the_start(tmp_path: Path, worker: str) -> None:
    comment = f"# '{worker}': value now lives in the configuration worker at ./config/{worker}.yaml."
    text = f"workers:\n  - name: {worker}\n    {comment} Edit it there.\n"
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    assert caught.value.message.startswith(
        f"config.yaml: an engine has moved the settings of '{worker}' into "
    )
    assert f"config/{worker}.yaml, which is not there" in caught.value.message
    assert load(tmp_path, text + "    config: {}\n").stored == {}
    store(tmp_path / "config", worker, {})
    assert list(load(tmp_path, text).stored) == [worker]


def test_settings_of_others_that_were_taken_away_are_named(tmp_path: Path) -> None:
    comment = "# 'iii-queue': value now lives in the configuration worker at ./config/iii-queue.yaml."
    config = load(tmp_path, f"workers:\n  - name: iii-queue\n    {comment}\n")
    assert "the settings of 'iii-queue' into config/iii-queue.yaml, which is not there" in config.notes[0]


def test_a_file_that_a_worker_does_not_list_is_not_read(tmp_path: Path) -> None:
    store(tmp_path / "config", "iii-worker-manager", {"port": 1})
    (tmp_path / "config" / "iii-queue.yaml").write_text("[broken")
    config = load(tmp_path)
    assert (config.stored, config.worker.port) == ({}, 49134)
    assert config.state is not None
    assert config.state.max_value_bytes == 5


@pytest.mark.parametrize(("listed", "stored"), [("iii-http", "http"), ("http", "iii-http"), ("http", "http")])
def test_both_names_of_a_worker_are_looked_for(tmp_path: Path, listed: str, stored: str) -> None:
    path = store(tmp_path / "config", stored, {"port": 7001, "cors": None})
    config = load(tmp_path, f"workers: [{{name: {listed}, config: {{port: 7002}}}}]")
    assert config.http is not None
    assert config.http.port == 7001
    assert config.stored == {"iii-http": path}


def test_its_own_name_comes_first_and_the_other_file_is_named(tmp_path: Path) -> None:
    store(tmp_path / "config", "iii-http", {"port": 7001})
    store(tmp_path / "config", "http", {"port": 7002})
    config = load(tmp_path, "workers: [{name: http}]")
    assert config.http is not None
    assert config.http.port == 7002
    assert config.notes[0] == "config/iii-http.yaml is not read, http.yaml stands for it."


def test_without_a_value_the_block_counts(tmp_path: Path) -> None:
    store(tmp_path / "config", "iii-state", None)
    config = load(tmp_path)
    assert config.stored == {}
    assert config.state is not None
    assert config.state.max_value_bytes == 5


def test_placeholders_are_filled_in_and_take_their_type(tmp_path: Path) -> None:
    store(tmp_path / "config", "iii-http", {"port": "${PORT:7001}", "host": "127.0.0.${LAST:3}"})
    config = load(tmp_path, PORT="7005")
    assert config.http is not None
    assert (config.http.port, config.http.host) == (7005, "127.0.0.3")
    store(tmp_path / "config", "iii-http", {"port": "${PORT}"})
    with pytest.raises(ConfigurationError, match=r"^config/iii-http\.yaml: the environment variable 'PORT'"):
        load(tmp_path)


@pytest.mark.parametrize(
    "adapter", [None, "{name: fs, config: {directory: settings}}", "{config: {directory: settings}}"]
)
def test_the_directory_is_the_one_that_the_worker_configuration_names(
    tmp_path: Path, adapter: str | None
) -> None:
    directory = tmp_path / ("config" if adapter is None else "settings")
    path = store(directory, "iii-http", {"port": 7001})
    entry = (
        "{name: configuration}"
        if adapter is None
        else f"{{name: configuration, config: {{adapter: {adapter}}}}}"
    )
    config = load(tmp_path, f"workers: [{{name: iii-http}}, {entry}]")
    assert config.stored == {"iii-http": path}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; restore it"),
        ("[broken", "column 1: did not find"),
        ("- 1", "expected a mapping with 'id' and 'value'"),
        ("\x00", "control characters are not allowed"),
        ('{"id": "other", "value": {}}', "'id' says 'other', which is another worker"),
        ('{"id": "iii-state", "value": {"prot": 1}}', ": value: unknown key 'prot'; known keys: adapter,"),
        ('{"id": "iii-state", "value": []}', ": value: expected a mapping, not a list."),
    ],
)
def test_a_broken_file_refuses_to_start_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    store(tmp_path / "config", "iii-state", {}).write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path)
    assert caught.value.message.startswith("config/iii-state.yaml:")
    assert message in caught.value.message


def test_a_host_says_which_file_counted_and_writes_none(tmp_path: Path) -> None:
    stored = [
        store(tmp_path / "config", "iii-http", {"port": 0, "host": "127.0.0.1"}),
        store(
            tmp_path / "config",
            "iii-state",
            {"adapter": {"name": "kv", "config": {"store_method": "file_based"}}},
        ),
    ]
    path = tmp_path / "config.yaml"
    path.write_text(
        "workers: [{name: iii-worker-manager, config: {port: 0}}, {name: iii-http}, {name: iii-state}]"
    )
    before = [one.read_bytes() for one in (path, *stored)]
    with running_host(tmp_path, "--config", str(path), ports=False) as host:
        assert host.ready["adapter"] == "file"
        assert host.ready["config_files"] == {
            "iii-http": str(tmp_path / "config" / "iii-http.yaml"),
            "iii-state": str(tmp_path / "config" / "iii-state.yaml"),
        }
        assert host.sigterm() == 0
    assert [one.read_bytes() for one in (path, *stored)] == before


def test_a_host_does_not_fall_back_to_memory_when_the_stored_adapter_is_missing(tmp_path: Path) -> None:
    store(tmp_path / "config", "iii-state", {"adapter": {"name": "mongodb", "config": {"url": "x"}}})
    path = tmp_path / "config.yaml"
    path.write_text("workers: [{name: iii-state}]")
    with pytest.raises(HostFailed) as caught, running_host(tmp_path, "--config", str(path), ports=False):
        pass
    assert (
        "config/iii-state.yaml: value.adapter.name: There is no state adapter 'mongodb'."
        in caught.value.stderr
    )


def test_a_companion_that_is_listed_runs_with_what_was_stored_for_it(tmp_path: Path) -> None:
    stored = store(tmp_path / "config", "iii-pubsub", {"adapter": {"name": "local"}})
    store(tmp_path / "config", "iii-observability", {"enabled": True})
    path = tmp_path / "config.yaml"
    manager = "{name: iii-worker-manager, config: {port: 0}}"
    path.write_text(
        f"workers: [{manager}, {{name: iii-pubsub, config: {{nonsense: 1}}}}, {{name: iii-observability}}]"
    )
    config = load_config(path, {})
    assert config.companions is not None
    assert config.companions[0].config == {"adapter": {"name": "local"}}
    with running_host(tmp_path, "--config", str(path), ports=False) as host:
        assert host.ready["config_files"] == {"iii-pubsub": str(stored)}
        assert host.sigterm() == 0
    assert "not served by this host, ignored: iii-observability" in host.stderr


def test_a_companion_that_is_not_listed_does_not_run(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.companions == ()
