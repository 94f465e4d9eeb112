"""Every mistake in a configuration file is refused with one sentence that names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from iii_skill.config import load_config
from iii_skill.errors import ConfigurationError

FILE = "iii-config.yaml"


def worker(name: str, config: str) -> str:
    return f"workers: [{{name: {name}, config: {config}}}]"


MISTAKES = [
    ("prot: 1", "unknown key 'prot'; known keys: registration_namespace_grace_ms, workers, modules, port."),
    ("[]", "expected a mapping, not a list."),
    ("just text", "expected a mapping, not the text 'just text'."),
    ("workers: {a: 1}", f"{FILE}: workers: expected a list, not a mapping."),
    ("workers: [iii-http]", "workers[0]: expected a mapping with 'name', not the text 'iii-http'."),
    ("workers: [{config: {}}]", "workers[0]: has no 'name' (or, in old files, 'class')."),
    ("workers: [{name: 3}]", "workers[0].name: expected text, not the number 3."),
    ("workers: [{name: a, class: b}]", "workers[0]: has both 'name' and 'class'; keep 'name'."),
    (
        "workers: [{name: iii-http, confg: {}}]",
        "workers[0] (iii-http): unknown key 'confg'; known keys: name,",
    ),
    (
        "workers: [{name: iii-cron}, {name: iii-http, config: {prot: 1}}]",
        "workers[1] (iii-http) config: unknown key 'prot'; known keys: port, host, default_timeout,",
    ),
    ("workers: [{name: http}, {name: iii-http}]", "workers[1] (iii-http): 'iii-http' is listed twice"),
    (worker("iii-http", "[]"), "workers[0] (iii-http) config: expected a mapping, not a list."),
    (
        worker("iii-http", "{port: '47111'}"),
        "config.port: expected a whole number, not the text '47111'.",
    ),
    (worker("iii-http", "{port: true}"), "config.port: expected a whole number, not true."),
    (worker("iii-http", "{port: 1.5}"), "config.port: expected a whole number, not the number 1.5."),
    (worker("iii-http", "{port: 65536}"), "config.port: must be from 0 to 65535, not 65536."),
    (worker("iii-http", "{host: 1}"), "config.host: expected text, not the number 1."),
    (worker("iii-http", "{host: ''}"), "config.host: must not be empty."),
    (worker("iii-http", "{default_timeout: 0}"), "config.default_timeout: must be at least 1, not 0."),
    (worker("iii-http", "{cors: {origins: []}}"), "config.cors: unknown key 'origins'"),
    (
        worker("iii-http", "{cors: {allowed_origins: '*'}}"),
        "allowed_origins: expected a list, not the text '*'.",
    ),
    (
        worker("iii-http", "{cors: {allowed_origins: [1]}}"),
        "allowed_origins[0]: expected text, not the number 1",
    ),
    (worker("iii-http", "{middleware: [{}]}"), "config.middleware[0]: has no 'function_id'."),
    (
        worker("iii-http", "{middleware: [{function_id: a, phase: x}]}"),
        "middleware[0].phase: must be preHandler, not the text 'x'.",
    ),
    (worker("iii-worker-manager", "{rbac: {}}"), "config.rbac: this host does not enforce it"),
    (worker("iii-worker-manager", "{middleware_function_id: a}"), "config.middleware_function_id: this host"),
    (
        "port: 1\nworkers: [{name: iii-worker-manager, config: {port: 2}}]",
        "the top-level 'port' says 1; keep",
    ),
    (worker("iii-state", "{max_value_bytes: 0}"), "config.max_value_bytes: must be at least 1, not 0."),
    (worker("iii-state", "{save_interval_ms: 99}"), "save_interval_ms: must be from 100 to 3600000, not 99."),
    (
        worker("iii-state", "{triggers_enabled: 'yes'}"),
        "triggers_enabled: expected true or false, not the text",
    ),
    (worker("iii-state", "{adapter: kv}"), "config.adapter: expected a mapping, not the text 'kv'."),
    (
        worker("iii-state", "{adapter: {config: {}}}"),
        "config.adapter: has no 'name' (or, in old files, 'class').",
    ),
    (worker("iii-state", "{adapter: {name: kv, conf: 1}}"), "config.adapter: unknown key 'conf'"),
    (
        worker("iii-state", "{adapter: {class: Nope}}"),
        "config.adapter.class: 'Nope' is unknown; known classes: modules::state::adapters::KvStore,",
    ),
    (
        worker("iii-state", "{adapter: {name: kv, config: {store_method: disk}}}"),
        "config.adapter.config.store_method: must be file_based or in_memory, not the text 'disk'.",
    ),
    (
        worker("iii-state", "{adapter: {name: kv, config: {path: x}}}"),
        "config.adapter.config: unknown key 'path'; known keys: store_method, file_path, save_interval_ms.",
    ),
    (worker("iii-state", "{adapter: {name: bridge}}"), "with `iii-skill attach`."),
    ("workers: []\nworkers: []", " line 2, column 1: the key 'workers' is given twice."),
    ("workers:\n  - {name: a, name: b}", " line 2, column 15: the key 'name' is given twice."),
    ("1: 2", " line 1, column 1: a key must be text, not 1."),
    ("a: [1", "line 2, column 1: did not find expected"),
    ("a: !!python/object:os.system {}", "line 1, column 4: could not determine a constructor for the tag"),
    ("a: &x [*x]", "recursive"),
    ("# ö😀\nworkers:\n\t- name: a", "line 3, column 1: a tab; YAML is indented with spaces."),
    (
        "workers: []\n---\na: 1",
        "line 2, column 1: expected a single document in the stream but found",
    ),
    ("a: ${OPEN\nb: 1}", "line 1: `${` has no `}` on its line."),
    ("one\ntwo: 1\n# ${GONE}", "line 3: the environment variable 'GONE' is not set and has no default"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_is_refused_naming_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / FILE
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_config(path, {})
    assert caught.value.message.startswith(FILE)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"There is no configuration file '.*nope\.yaml'"):
        load_config(tmp_path / "nope.yaml", {})


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        load_config(tmp_path, {})


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(b"a: \xff")
    with pytest.raises(ConfigurationError, match="is not text in UTF-8"):
        load_config(path, {})
