"""`iii-skill adapters` and the commands of plugins, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.distributions import adapter_source, install


def run(*args: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": "" if site is None else str(site)}
    command = [sys.executable, "-m", "iii_skill", *args]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=30)


def test_json_lists_the_bundled_adapters_with_their_capabilities() -> None:
    done = run("adapters", "--json")
    assert done.returncode == 0, done.stderr
    found = {adapter["name"]: adapter for adapter in json.loads(done.stdout)["adapters"]}
    settings = found["memory"].pop("settings")
    assert [setting["name"] for setting in settings] == ["history"]
    assert settings[0]["type"] == "HistorySettings | None"
    assert [setting["name"] for setting in settings[0]["settings"]] == ["keep", "days"]
    assert found["memory"] == {
        "name": "memory",
        "package": "iii-skill",
        "version": "0.1.0",
        "plugin": "iii_state_memory",
        "durability": "none",
        "shared": False,
    }
    assert found["file"]["durability"] == "disk"
    assert found["redis"]["durability"] == "remote"
    assert "data_dir" in {setting["name"] for setting in found["file"]["settings"]}


def test_a_broken_plugin_is_listed_and_the_command_succeeds(tmp_path: Path) -> None:
    install(tmp_path, "broken-store", "import no_such_module_anywhere")
    install(tmp_path, "their-store", adapter_source("theirs"))
    done = run("adapters", site=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "theirs: durability none (their-store 1.2.3, plugin their_store)" in done.stdout
    assert "failed: broken-store 1.2.3 (broken_store)\n  import: ModuleNotFoundError" in done.stdout
    failed = json.loads(run("adapters", "--json", site=tmp_path).stdout)["failed"]
    assert [(entry["package"], entry["plugin"]) for entry in failed] == [("broken-store", "broken_store")]


def test_settings_show_type_and_default(tmp_path: Path) -> None:
    struct = (
        "import msgspec\nclass Settings(msgspec.Struct, frozen=True, kw_only=True):\n"
        "    url: str\n    pool: int = 4\n    tags: list[str] = []\n    name: str | None = None\n"
    )
    source = struct + adapter_source("theirs").replace("    name =", "    config_type = Settings\n    name =")
    install(tmp_path, "their-store", source)
    adapters = json.loads(run("adapters", "--json", site=tmp_path).stdout)["adapters"]
    settings = next(adapter["settings"] for adapter in adapters if adapter["name"] == "theirs")
    assert settings == [
        {"name": "url", "type": "str", "required": True},
        {"name": "pool", "type": "int", "required": False, "default": 4},
        {"name": "tags", "type": "list[str]", "required": False, "default": []},
        {"name": "name", "type": "str | None", "required": False, "default": None},
    ]
    text = run("adapters", site=tmp_path).stdout
    assert "  url: str, required\n  pool: int, default 4\n" in text


DESCRIBED = (
    """
import msgspec
from typing import Annotated


class Base(msgspec.Struct, frozen=True, kw_only=True):
    timeout: float = 5.0
    """
    + "'''Seconds for\n    a call.'''"
    + """


class Settings(Base, frozen=True, kw_only=True):
    url: Annotated[str, msgspec.Meta(min_length=1, description="Where the server is.")]
    pool: int = 4
    """
    + "'''How many connections.'''"
    + """
    bare: bool = False
"""
)


def test_settings_are_described_by_meta_or_by_the_text_below_them(tmp_path: Path) -> None:
    source = DESCRIBED + adapter_source("theirs").replace(
        "    name =", "    config_type = Settings\n    name ="
    )
    install(tmp_path, "their-store", source)
    adapters = json.loads(run("adapters", "--json", site=tmp_path).stdout)["adapters"]
    (settings,) = [adapter["settings"] for adapter in adapters if adapter["name"] == "theirs"]
    assert {setting["name"]: setting.get("description") for setting in settings} == {
        "timeout": "Seconds for a call.",
        "url": "Where the server is.",
        "pool": "How many connections.",
        "bare": None,
    }
    text = run("adapters", site=tmp_path).stdout
    assert "  url: str, required\n    Where the server is.\n" in text


def test_every_setting_of_a_bundled_adapter_is_described() -> None:
    adapters = json.loads(run("adapters", "--json").stdout)["adapters"]
    bare = [
        f"{adapter['name']}.{setting['name']}"
        for adapter in adapters
        for setting in adapter["settings"]
        if "description" not in setting
    ]
    assert bare == []


COMMANDS = """
import click, iii_skill

@click.command()
def hello():
    "Say hello."
    click.echo("hello from a plugin")

@iii_skill.hookimpl
def iii_commands(cli):
    cli.add_command(hello)
"""


def test_a_plugin_command_is_listed_and_runs(tmp_path: Path) -> None:
    install(tmp_path, "hello-plugin", COMMANDS)
    shown = run("--help", site=tmp_path)
    assert "hello" in shown.stdout
    assert "Say hello." in shown.stdout
    assert shown.stderr == ""
    assert run("hello", site=tmp_path).stdout == "hello from a plugin\n"


def test_a_plugin_command_cannot_replace_one_of_ours(tmp_path: Path) -> None:
    install(tmp_path, "greedy", COMMANDS.replace("def hello", "def serve").replace("(hello)", "(serve)"))
    done = run("--help", site=tmp_path)
    assert done.returncode == 0
    assert "Run the host" in done.stdout
    assert (
        "Plugin greedy 1.2.3 (greedy) is left out: iii_commands: ValueError: the command 'serve'"
        in done.stderr
    )


def test_help_loads_neither_plugins_nor_the_host() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "iii_skill", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {
        "asyncio",
        "jinja2",
        "msgspec",
        "picows",
        "pluggy",
        "redis",
        "sqlite3",
        "uvloop",
        "yaml",
    }


def test_settings_of_a_setting_are_listed_as_the_command_line_takes_them() -> None:
    shown = run("adapters").stdout
    assert "  history.keep: int, default 100\n    Versions of a key, the newest included.\n" in shown
