"""Configuration files of both generations become settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from iii_skill.adapter import NoConfig
from iii_skill.config import (
    Config,
    Cors,
    HttpSettings,
    Middleware,
    StateConfig,
    WorkerListener,
    adapter_settings,
    load_config,
)
from iii_skill.errors import ConfigurationError


def load(tmp_path: Path, text: str, **env: str) -> Config:
    path = tmp_path / "iii-config.yaml"
    path.write_text(text, "utf-8")
    return load_config(path, env)


def named(config: Config) -> list[tuple[str, str | None]]:
    """The workers that a plugin may bring: the name of each, and what the file calls it."""
    return [(section.name, section.given) for section in config.companions or ()]


def state(tmp_path: Path, adapter: str, **env: str) -> StateConfig:
    found = load(tmp_path, f"workers: [{{name: iii-state, config: {{adapter: {adapter}}}}}]", **env).state
    assert found is not None
    return found


def test_without_a_file_state_is_on_disk_and_both_ports_on_loopback() -> None:
    config = load_config(None, {})
    assert config == Config()
    assert config.worker == WorkerListener(host="127.0.0.1", port=49134, grace_ms=5000)
    assert config.http == HttpSettings(host="127.0.0.1", port=3111, default_timeout_ms=30000)
    assert config.state == StateConfig(adapter_name="file")


def test_current_generation_with_every_served_key(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
registration_namespace_grace_ms: 250
workers:
  - name: iii-worker-manager
    config: {port: 5001, host: 0.0.0.0, handshake_timeout_ms: 900}
  - name: iii-http
    config:
      port: 5002
      host: 127.0.0.2
      default_timeout: 1500
      cors: {allowed_origins: [http://a.test], allowed_methods: [get, POST]}
      middleware:
        - {function_id: mw::a, phase: preHandler, priority: -3}
        - function_id: mw::b
  - name: iii-state
    config:
      adapter: {name: kv, config: {store_method: file_based, file_path: ./data/state_store}}
      triggers_enabled: false
      max_value_bytes: 1000
""",
    )
    assert config.worker == WorkerListener(host="0.0.0.0", port=5001, handshake_timeout_ms=900, grace_ms=250)
    assert config.http == HttpSettings(
        host="127.0.0.2",
        port=5002,
        default_timeout_ms=1500,
        cors=Cors(allowed_origins=("http://a.test",), allowed_methods=("get", "POST")),
        middleware=(Middleware(function_id="mw::a", priority=-3), Middleware(function_id="mw::b")),
    )
    assert config.state is not None
    assert config.state.adapter_name == "file"
    assert config.state.adapter_config == {"data_dir": str(tmp_path / "data" / "state_store")}
    assert config.state.triggers_enabled is False
    assert config.state.max_value_bytes == 1000
    assert config.state.where == "iii-config.yaml: workers[2] (iii-state) config.adapter.config"
    assert config.notes == ()
    assert config.companions == ()


def test_old_generation_with_classes_and_a_top_level_port(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
port: 6001
modules:
  - class: modules::api::RestApiModule
    config: {port: 6002, concurrency_request_limit: 9}
  - class: modules::state::StateModule
    config:
      adapter:
        class: modules::state::adapters::KvStore
        config: {store_method: file_based, file_path: store, save_interval_ms: 500}
  - class: modules::cron::CronModule
  - class: modules::worker::WorkerModule
""",
    )
    assert config.worker.port == 6001
    assert config.http is not None
    assert config.http.port == 6002
    assert config.state is not None
    assert config.state.adapter_config == {"data_dir": str(tmp_path / "store")}
    assert named(config) == [("iii-cron", "modules::cron::CronModule")]
    assert len(config.notes) == 2
    assert "concurrency_request_limit has no effect" in config.notes[0]
    assert "save_interval_ms has no effect" in config.notes[1]


@pytest.mark.parametrize("text", ["", "# nothing\n", "workers:\n", "workers: []\n", "{}"])
def test_a_file_that_lists_nothing_runs_the_worker_port_only(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, text)
    assert config.worker == WorkerListener()
    assert (config.http, config.state) == (None, None)
    assert config.notes == ("iii-config.yaml: 'iii-state' is not listed, so `state::*` is not served.",)


def test_sections_of_other_workers_are_listed_once_and_not_checked(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
workers:
  - {name: iii-cron, config: {whatever: [1, 2]}}
  - {name: iii-queue, image: x/y, extra: 1}
  - {name: iii-cron}
  - {name: iii-engine-functions}
""",
    )
    assert named(config) == [("iii-cron", "iii-cron"), ("iii-queue", "iii-queue")]


@pytest.mark.parametrize("name", ["http", "iii-http"])
def test_the_newer_names_of_external_workers_stand_for_the_same_section(tmp_path: Path, name: str) -> None:
    config = load(tmp_path, f"workers: [{{name: {name}}}, {{name: state}}]")
    assert config.http == HttpSettings()
    assert config.state is not None


def test_json_is_fine(tmp_path: Path) -> None:
    config = load(tmp_path, '{\n\t"workers": [{"name": "iii-http", "config": {"port": 1}}]\n}')
    assert config.http == HttpSettings(port=1)


def test_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    adapter = "{name: other, config: {a: yes, b: 1:30, c: 2024-01-01, d: 1e3, e: ~, f: 0o7, g: on, h: 1_0}}"
    assert state(tmp_path, adapter).adapter_config == {
        "a": "yes",
        "b": "1:30",
        "c": "2024-01-01",
        "d": 1000.0,
        "f": "0o7",
        "g": "on",
        "h": "1_0",
    }


@pytest.mark.parametrize(
    ("adapter", "name", "settings"),
    [
        ("{name: kv}", "memory", {}),
        ("{}", "memory", {}),
        ("null", "memory", {}),
        ("{name: kv, config: {store_method: in_memory}}", "memory", {}),
        ("{name: kv, config: {store_method: file_based}}", "file", {"data_dir": "BASE/kv_store_data.db"}),
        ("{name: kv, config: {store_method: file_based, file_path: /x/../y}}", "file", {"data_dir": "/y"}),
        ("{name: file, config: {data_dir: here}}", "file", {"data_dir": "BASE/here"}),
        ("{name: file}", "file", {}),
        ("{name: redis, config: {redis_url: redis://h:1}}", "redis", {"redis_url": "redis://h:1"}),
        ("{class: modules::state::adapters::RedisAdapter}", "redis", {}),
        ("{name: postgres, config: {dsn: x, pool: 3}}", "postgres", {"dsn": "x", "pool": 3}),
    ],
)
def test_adapters_of_the_engine_become_ours_and_others_pass_through(
    tmp_path: Path, adapter: str, name: str, settings: dict[str, object]
) -> None:
    found = state(tmp_path, adapter)
    expected = {
        key: value.replace("BASE", str(tmp_path)) if isinstance(value, str) else value
        for key, value in settings.items()
    }
    assert (found.adapter_name, found.adapter_config) == (name, expected)


def test_state_without_an_adapter_says_that_it_is_in_memory(tmp_path: Path) -> None:
    config = load(tmp_path, "workers: [{name: iii-state}]")
    assert len(config.notes) == 1
    assert "state lives in memory" in config.notes[0]


def test_files_of_the_engine_in_the_data_directory_are_named(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "users.bin").write_bytes(b"x")
    config = load(
        tmp_path,
        "workers: [{name: iii-state, config: {adapter: "
        "{name: kv, config: {store_method: file_based, file_path: store}}}}]",
    )
    assert len(config.notes) == 1
    assert "*.bin" in config.notes[0]
    assert "iii-skill migrate" in config.notes[0]


@pytest.mark.parametrize(
    ("text", "env", "port"),
    [
        ("${P:3}", {}, 3),
        ("${P:3}", {"P": "4"}, 4),
        ("${P}", {"P": "4"}, 4),
        ("${P:}", {}, 3111),
        ("${P:7}", {"P": ""}, 3111),
        ("${A:1}${B:2}", {}, 12),
    ],
)
def test_variables_expand_before_yaml_is_read(
    tmp_path: Path, text: str, env: dict[str, str], port: int
) -> None:
    config = load(tmp_path, f"workers: [{{name: iii-http, config: {{port: {text}}}}}]", **env)
    assert config.http is not None
    assert config.http.port == port


def test_a_default_holds_colons_and_runs_to_the_first_brace(tmp_path: Path) -> None:
    found = state(tmp_path, "{name: redis, config: {redis_url: '${U:redis://h:6379/0}'}}")
    assert found.adapter_config == {"redis_url": "redis://h:6379/0"}


def test_the_environment_beats_the_file_for_the_grace(tmp_path: Path) -> None:
    text = "registration_namespace_grace_ms: 100"
    assert load(tmp_path, text).worker.grace_ms == 100
    assert load(tmp_path, text, III_NAMESPACE_GRACE_MS="7").worker.grace_ms == 7
    with pytest.raises(ConfigurationError, match="III_NAMESPACE_GRACE_MS: expected milliseconds, not '1s'"):
        load(tmp_path, text, III_NAMESPACE_GRACE_MS="1s")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    size: int = 1
    label: str = ""


def test_adapter_settings_are_checked_with_their_place() -> None:
    assert adapter_settings(Settings, {"size": 3}, where="f: c") == Settings(size=3)
    assert adapter_settings(Settings, {"size": "3"}, where="f: c", from_text=True) == Settings(size=3)
    with pytest.raises(ConfigurationError, match=r"^f: c\.size: expected a whole number, not the text '3'\."):
        adapter_settings(Settings, {"size": "3"}, where="f: c")
    with pytest.raises(ConfigurationError, match=r"^f: c: unknown key 'siz'; known keys: size, label\.$"):
        adapter_settings(Settings, {"siz": 3}, where="f: c")
    with pytest.raises(ConfigurationError, match=r"^f: c: unknown key 'a'; this adapter has no settings\.$"):
        adapter_settings(NoConfig, {"a": 3}, where="f: c")


def test_what_runs_in_every_host_is_no_unserved_section(tmp_path: Path) -> None:
    text = "workers: [{name: iii-state, config: {adapter: {name: file}}}, {name: configuration%s}]"
    assert load(tmp_path, text % "").notes == ()
    config = load(tmp_path, text % ", config: {ttl_seconds: 1}")
    assert config.companions == ()
    assert config.notes == (
        "iii-config.yaml: workers[1] (configuration): runs in every host; its config has no effect here.",
    )


class Nested(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ratio: float = 1.0
    names: dict[str, int] = {}
    inner: Settings | None = None
    level: Annotated[int, msgspec.Meta(gt=0, le=9, description="How much.")] = 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": "x"}, "f: c.ratio: expected a number, not the text 'x'."),
        ({"names": {"a": "b"}}, "f: c.names[...]: expected a whole number, not text."),
        ({"inner": {"sise": 1}}, "f: c.inner: unknown key 'sise'; known keys: size, label."),
        ({"inner": {"size": []}}, "f: c.inner.size: expected a whole number, not a list."),
        ({"level": 10}, "f: c.level: must be at most 9, not 10."),
        ({"ratio": "x" * 100_000}, f"f: c.ratio: expected a number, not the text '{'x' * 80}…'."),
    ],
)
def test_settings_of_any_adapter_are_refused_in_the_words_of_the_file(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        adapter_settings(Nested, settings, where="f: c")
    assert caught.value.message == message


def test_null_is_as_good_as_absent_everywhere(tmp_path: Path) -> None:
    nothing: dict[str, object] = {"ratio": None, "names": {"a": None}, "inner": {"size": None}}
    assert adapter_settings(Nested, nothing, where="f: c") == Nested(inner=Settings())
    config = load(
        tmp_path,
        """
registration_namespace_grace_ms: ~
port: ~
modules: ~
workers:
  - {name: iii-worker-manager, config: {port: ~, host: ~, rbac: ~}, image: ~}
  - {name: iii-http, config: {port: ~, cors: ~, middleware: ~, concurrency_request_limit: ~}}
  - {name: iii-state, config: {adapter: {name: file, config: ~}, max_value_bytes: ~, triggers_enabled: ~}}
""",
    )
    assert (config.worker, config.http) == (WorkerListener(), HttpSettings())
    assert config.state is not None
    assert config.state.triggers_enabled
    assert config.notes == ()


def test_commands_that_the_engine_would_start_are_named(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
workers:
  - {name: iii-exec, config: {exec: [npm install, npm run dev], watch: ["*.ts"]}}
  - {class: "modules::shell::ExecModule", config: {exec: [bun run worker.ts]}}
  - {name: iii-exec}
""",
    )
    assert config.companions == ()
    yourself = "; this host starts none, so start it yourself."
    assert config.notes[:3] == (
        "iii-config.yaml: workers[0] (iii-exec): the engine would start `npm install && npm run dev`"
        + yourself,
        "iii-config.yaml: workers[1] (modules::shell::ExecModule): the engine would start `bun run worker.ts`"
        + yourself,
        f"iii-config.yaml: workers[2] (iii-exec): the engine would start commands{yourself}",
    )


def test_a_second_worker_port_is_left_out_and_does_not_stop_the_first(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
workers:
  - {name: iii-worker-manager, config: {port: 5001}}
  - {name: iii-worker-manager, config: {port: 5002, rbac: {auth_function_id: a}}}
""",
    )
    assert config.worker.port == 5001
    assert "workers[1] (iii-worker-manager): is a second worker port" in config.notes[0]
