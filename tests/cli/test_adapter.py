"""`iii-skill adapter test` runs the kit against an installed adapter and tells each verdict."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.redis import free_port, redis_server

from iii_skill.cli.main import cli
from iii_skill.plugins import Plugins, load_plugins
from iii_skill.testing import unique


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["adapter", "test", *arguments])


def with_entry_point(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = metadata.EntryPoint("strange_plugin", value, "iii_skill")

    def load() -> Plugins:
        return load_plugins([*metadata.entry_points(group="iii_skill"), point])

    monkeypatch.setattr("iii_skill.cli.adapter.load_plugins", load)


def test_an_adapter_that_keeps_the_contract_passes() -> None:
    result = run("memory")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert re.fullmatch(r"memory: \d{3} passed, 0 failed in [0-9.]+ s", lines[-1])
    assert all(re.fullmatch(r"passed  [a-z0-9-]+: .+\.", line) for line in lines[:-1])


def test_data_dir_is_fresh_for_each_check_by_itself() -> None:
    result = run("file", "--only", "empty-store")
    assert result.exit_code == 0, result.output
    assert "file: 1 passed" in result.output


def test_settings_are_text_and_placeholders_are_filled() -> None:
    result = run(
        "file", "--only", "basics", "--config", "data_dir={tmp}/{unique}", "--config", "cache_bytes=1"
    )
    assert result.exit_code == 0, result.output


def test_a_store_that_is_away_is_told_once_and_no_check_runs() -> None:
    port = free_port()
    url = f"redis_url=redis://127.0.0.1:{port}"
    result = run("redis", "--config", url, "--config", "key_prefix={unique}")
    assert result.exit_code == 1
    assert result.output == (
        "Error: The adapter 'redis' cannot be tested with these settings: "
        f"Redis at 127.0.0.1:{port} cannot be used now: Connection refused.\n"
    )


def test_a_store_that_refuses_its_settings_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("a file")
    result = run("file", "--config", f"data_dir={tmp_path}/here/{{unique}}")
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "cannot be tested with these settings" in result.output


def test_json_has_one_verdict_for_each_check() -> None:
    result = run("memory", "--only", "overwrite-keeps", "--json")
    assert result.exit_code == 0
    report = json.loads(result.output)
    (check,) = report.pop("checks")
    assert report.pop("seconds") >= 0
    assert check.pop("seconds") >= 0
    assert report == {
        "adapter": "memory",
        "package": "iii-skill",
        "version": metadata.version("iii-skill"),
        "durability": "none",
        "shared": False,
        "ok": True,
        "passed": 1,
        "failed": 0,
    }
    assert check == {
        "name": "an-overwrite-keeps-the-place",
        "group": "ordering",
        "promise": "An overwrite by `set` or `update`, and a KEEP, leave the key at its place.",
        "passed": True,
        "reason": None,
    }


def test_a_broken_promise_is_told_and_the_exit_code_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    with_entry_point(monkeypatch, "support.sorting_plugin")
    result = run("sorting", "--only", "ordering")
    assert result.exit_code == 1
    assert (
        "FAILED  list-is-in-order-of-first-insertion: `list` and `keys` give keys in order" in result.output
    )
    assert "        The order is not that of first insertion (`list`)." in result.output
    report = json.loads(run("sorting", "--only", "ordering", "--json").output)
    assert (report["ok"], report["failed"] > 0) == (False, True)
    assert {check["reason"] is None for check in report["checks"] if check["passed"]} == {True}
    assert all(check["reason"] for check in report["checks"] if not check["passed"])


REFUSED = {
    "unknown adapter": (("nonesuch",), "There is no state adapter 'nonesuch'. Installed adapters: "),
    "unknown setting": (
        ("memory", "--config", "a=1"),
        "--config: unknown key 'a'; known keys: history.",
    ),
    "wrong type": (
        ("file", "--config", "cache_bytes=much"),
        "--config.cache_bytes: expected a whole number, not the text",
    ),
    "no such check": (("memory", "--only", "nonesuch"), "No check's group or name contains 'nonesuch'."),
    "storage in use": (("file", "--config", "data_dir=here"), "put {tmp} or {unique} into a setting"),
    "server in use": (("redis",), "put {tmp} or {unique} into a setting"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_tested_is_refused_with_a_sentence(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_repeat_tries_a_check_again_and_tells_at_which_time_it_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_entry_point(monkeypatch, "support.sorting_plugin")
    assert run("memory", "--only", "overwrite-keeps", "--repeat", "3").exit_code == 0
    result = run("sorting", "--only", "first-insertion", "--repeat", "3")
    assert "(at the 1. of 3 times)" in result.output
    assert run("memory", "--repeat", "0").exit_code == 2


def test_unique_is_an_identifier_and_differs_for_each_store(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    with redis_server() as server:
        monkeypatch.setattr("iii_skill.cli.adapter.unique", lambda: seen.append(unique()) or seen[-1])
        settings = ("--config", f"redis_url={server.url}", "--config", "key_prefix={unique}")
        result = run("redis", *settings, "--only", "two-stores-are-apart")
        assert result.exit_code == 0, result.output
        assert server.client.dbsize() == 0, "nothing is left behind"
    assert len(set(seen)) == len(seen) >= 3
    assert all(re.fullmatch(r"[a-z][a-z0-9]{15}", word) for word in seen)
