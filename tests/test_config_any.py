"""Whatever a file says: it becomes settings, or is refused with one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iii_skill.config import adapter_settings, load_config
from iii_skill.config.sections import KvSection
from iii_skill.errors import ConfigurationError

TOP = ["workers", "modules", "port", "registration_namespace_grace_ms"]
ENTRY = ["name", "class", "config", "image"]
PORTS = ["host", "port", "cors", "allowed_origins", "middleware", "function_id", "phase", "priority"]
TIMES = ["default_timeout", "handshake_timeout_ms", "save_interval_ms", "rbac", "exec"]
STATE = ["adapter", "max_value_bytes", "triggers_enabled", "directory"]
KV = ["store_method", "file_path", "data_dir"]
KEYS = [*TOP, *ENTRY, *PORTS, *TIMES, *STATE, *KV, "other"]
WORKERS = ["iii-http", "http", "iii-state", "state", "iii-worker-manager", "iii-exec", "configuration", "x"]
ADAPTERS = ["kv", "redis", "bridge", "file", "fs", "file_based", "in_memory"]
WORDS = [*WORKERS, *ADAPTERS, "preHandler", "modules::api::RestApiModule", "", "${A}", "${A:1}", "\n"]
NUMBERS = [-1, 0, 1, 99, 3111, 65_535, 65_536, 2**53, 2**64, 0.5, 1e300]

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
CONFIGS = st.dictionaries(st.sampled_from([*PORTS, *TIMES, *STATE, *KV]), VALUES, max_size=4) | VALUES
ENTRIES = st.fixed_dictionaries({"name": st.sampled_from(WORKERS)}, optional={"config": CONFIGS})
FILES = st.fixed_dictionaries({"workers": st.lists(ENTRIES, max_size=3)}) | VALUES


def refusal(path: Path) -> str | None:
    try:
        load_config(path, {})
    except ConfigurationError as error:
        return error.message
    return None


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(document=FILES, stored=CONFIGS)
def test_a_file_becomes_settings_or_one_sentence(tmp_path: Path, document: Any, stored: Any) -> None:
    path = tmp_path / "iii-config.yaml"
    path.write_text(json.dumps(document))
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "config" / "iii-http.yaml").write_text(json.dumps({"id": "iii-http", "value": stored}))
    message = refusal(path)
    if message is not None:
        assert message.startswith(("iii-config.yaml: ", "config/iii-http.yaml: "))
        assert "\n" not in message
        assert "Expected `" not in message


@settings(max_examples=200, deadline=None)
@given(found=st.dictionaries(st.sampled_from(["store_method", "file_path", "save_interval_ms"]), VALUES))
def test_settings_of_an_adapter_become_its_struct_or_one_sentence(found: dict[str, Any]) -> None:
    try:
        adapter_settings(KvSection, found, where="f: c")
    except ConfigurationError as error:
        message = error.message
    else:
        message = "f: c: fine."
    assert message.startswith("f: c")
    assert message.endswith(".")


@pytest.mark.parametrize(
    "config", [{"port": {}}, {"cors": 1}, {"middleware": {}}, {"default_timeout": 2**60}, {"host": []}]
)
def test_words_of_the_library_reach_nobody(tmp_path: Path, config: Any) -> None:
    path = tmp_path / "iii-config.yaml"
    path.write_text(json.dumps({"workers": [{"name": "iii-http", "config": config}]}))
    message = refusal(path)
    assert message is not None
    for word in ("Expected", "`", "got", "$", "object", "array"):
        assert word not in message
