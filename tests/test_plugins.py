"""One broken plugin is reported by name with its reason, and all others load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import pytest
from support.distributions import adapter_source, entry_points, install

from iii_skill import hookspecs
from iii_skill.errors import PluginError
from iii_skill.plugins import Plugins, load_plugins

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on sys.path for distributions; their modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def load(site: Path) -> Plugins:
    return load_plugins(entry_points(site))


HEAD = "import iii_skill\n"

BROKEN = {
    "import error": (
        "import no_such_module_anywhere",
        "import: ModuleNotFoundError: No module named 'no_such",
    ),
    "syntax error": ("def (", "import: SyntaxError: "),
    "raises at import": ("raise RuntimeError('boom\\n at home')", "import: RuntimeError: boom at home"),
    "exits at import": ("import sys; sys.exit(3)", "import: SystemExit: 3"),
    "raises what is no Exception": (
        "class Odd(BaseException): pass\nraise Odd('no reason')",
        "import: Odd: no reason",
    ),
    "is cancelled at import": ("import asyncio; raise asyncio.CancelledError", "import: CancelledError: "),
    "no hooks": ("answer = 42", "hooks: it implements none; mark its functions with @iii_skill.hookimpl."),
    "unmarked hook": ("def iii_state_adapters(): return []", "hooks: it implements none"),
    "hook raising what is no Exception": (
        HEAD + "@iii_skill.hookimpl\ndef iii_state_adapters(): raise GeneratorExit",
        "iii_state_adapters: GeneratorExit: ",
    ),
    "wrong hook signature": (
        HEAD + "@iii_skill.hookimpl\ndef iii_state_adapters(wrong): return []",
        "hooks: PluginValidationError: Plugin 'broken' for hook 'iii_state_adapters'",
    ),
    "unknown hook": (
        HEAD + "@iii_skill.hookimpl\ndef iii_state_adaptors(): return []",
        "hooks: PluginValidationError: unknown hook 'iii_state_adaptors' in plugin",
    ),
    "hook raising": (
        HEAD + "@iii_skill.hookimpl\ndef iii_state_adapters(): raise OSError('no disk')",
        "iii_state_adapters: OSError: no disk",
    ),
    "hook raising half-way": (
        HEAD + "@iii_skill.hookimpl\ndef iii_state_adapters():\n    yield from ()\n    raise OSError('late')",
        "iii_state_adapters: OSError: late",
    ),
    "hook returning no list": (
        HEAD + "@iii_skill.hookimpl\ndef iii_state_adapters(): return 3",
        "iii_state_adapters: TypeError: 'int' object is not iterable",
    ),
    "not an adapter": (
        HEAD + "@iii_skill.hookimpl\ndef iii_state_adapters(): return [dict]",
        "iii_state_adapters gave dict, which is not a subclass of iii_skill.StateAdapter.",
    ),
    "missing methods": (
        HEAD
        + "class Half(iii_skill.StateAdapter):\n    name = 'half'\n    def get(self, s, k): return None\n"
        + "@iii_skill.hookimpl\ndef iii_state_adapters(): return [Half]",
        "Adapter Half does not implement close, list, open, scopes, update.",
    ),
    "no durability": (
        adapter_source("x").replace("durability =", "durable ="),
        "Adapter Adapter does not declare durability.",
    ),
    "durability of another type": (
        adapter_source("x").replace("iii_skill.Durability.NONE", "'disk'"),
        "Adapter Adapter declares durability 'disk', which is no Durability.",
    ),
    "unusable name": (
        adapter_source("My Store"),
        "Adapter Adapter is named 'My Store'; use lower-case letters, digits and hyphens.",
    ),
    "config type": (
        adapter_source("x").replace("    name =", "    config_type = dict\n    name ="),
        "Adapter Adapter has a config_type that is no msgspec Struct.",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_reported_and_the_others_load(site: Path, source: str, reason: str) -> None:
    install(site, "a-good", adapter_source("good-a"))
    install(site, "broken", source)
    install(site, "z-good", adapter_source("good-z"))
    plugins = load(site)
    assert sorted(plugins.adapters) == ["good-a", "good-z"]
    assert len(plugins.broken) == 1
    broken = plugins.broken[0]
    assert str(broken.source) == "broken 1.2.3 (broken)"
    assert broken.reason.startswith(reason)
    assert "\n" not in broken.reason


LOUD = """
import os, subprocess, sys
import iii_skill
print("from print")
os.write(1, b"from the descriptor\\n")
subprocess.run(["echo", "from a child"])

@iii_skill.hookimpl
def iii_templates():
    print("from a hook")
    return []
"""


@pytest.mark.parametrize(
    "words", [("adapters", "--json"), ("scaffold", "--list", "--json")], ids=lambda words: words[0]
)
def test_what_a_plugin_prints_never_stands_before_our_json(site: Path, words: tuple[str, ...]) -> None:
    install(site, "loud", LOUD)
    done = subprocess.run(
        [sys.executable, "-m", "iii_skill", *words],
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert {"from print", "from the descriptor", "from a child"} <= set(done.stderr.splitlines())
    assert ("from a hook" in done.stderr) is (words[0] == "scaffold")


def test_plugins_load_with_stdout_closed(site: Path) -> None:
    install(site, "loud", LOUD)
    code = "from iii_skill.plugins import load_plugins; raise SystemExit(len(load_plugins().broken))"
    command = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code]
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": str(site)}, timeout=60).returncode == 0


def test_two_adapters_of_one_name_are_refused_naming_both(site: Path) -> None:
    install(site, "first", adapter_source("same"))
    install(site, "second", adapter_source("same"), version="2.0")
    install(site, "third", adapter_source("other"))
    plugins = load(site)
    assert sorted(plugins.adapters) == ["other"]
    assert [str(broken.source) for broken in plugins.broken] == ["first 1.2.3 (first)", "second 2.0 (second)"]
    with pytest.raises(
        PluginError, match=r"named 'same': first 1\.2\.3 \(first\) and second 2\.0 \(second\)"
    ):
        plugins.adapter("same")


def test_two_plugins_of_one_entry_point_name_keep_the_first(site: Path) -> None:
    install(site, "first", adapter_source("one"), entry_point="clash")
    install(site, "second", adapter_source("two"), entry_point="clash")
    plugins = load(site)
    assert sorted(plugins.adapters) == ["one"]
    assert [str(broken.source) for broken in plugins.broken] == ["second 1.2.3 (clash)"]
    assert "already that of first 1.2.3 (clash)" in plugins.broken[0].reason


def test_an_unknown_adapter_names_what_is_installed_and_what_failed(site: Path) -> None:
    install(site, "good", adapter_source("good"))
    install(site, "bad", "import no_such_module_anywhere")
    with pytest.raises(PluginError) as caught:
        load(site).adapter("nope")
    assert caught.value.message.startswith("There is no state adapter 'nope'. Installed adapters: good.")
    assert "Plugin 'bad' failed: import: ModuleNotFoundError" in caught.value.message


def test_an_entry_point_without_a_distribution_loads(site: Path) -> None:
    module = install(site, "plain", adapter_source("plain"))
    plugins = load_plugins([metadata.EntryPoint("plain", module, "iii_skill")])
    assert str(plugins.adapters["plain"].source) == "unknown unknown (plain)"


def test_a_plugin_may_be_an_object(site: Path) -> None:
    source = (
        HEAD + "class P:\n    @iii_skill.hookimpl\n    def iii_templates(self): return ['/t']\nplugin = P()"
    )
    module = install(site, "objects", source)
    plugins = load_plugins([metadata.EntryPoint("objects", f"{module}:plugin", "iii_skill")])
    assert [(path, str(source)) for path, source in plugins.template_directories()] == [
        (Path("/t"), "unknown unknown (objects)")
    ]


def test_bundled_adapters_come_through_the_same_door() -> None:
    plugins = load_plugins()
    assert {"memory", "file", "redis"} <= set(plugins.adapters)
    assert [b for b in plugins.broken if b.source.package == "iii-skill"] == []


# Each hook, by its name: what a plugin gives arrives, what it raises is reported.


def test_hook_iii_state_adapters(site: Path) -> None:
    install(site, "stores", adapter_source("mine"))
    assert load(site).adapter("mine").name == "mine"


LAZY = (
    "import iii_skill\nfrom iii_skill.adapter import LazyAdapter\n"
    "def _load():\n    {body}\n"
    "@iii_skill.hookimpl\ndef iii_state_adapters(): return [LazyAdapter('mine', _load)]"
)


def test_an_adapter_may_be_loaded_by_whoever_uses_it(site: Path) -> None:
    body = "from iii_state_memory import MemoryAdapter as A; return type('A', (A,), {'name': 'mine'})"
    install(site, "lazy", LAZY.format(body=body))
    plugins = load(site)
    assert plugins.adapter("mine").name == "mine"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import no_such_module", "import: ModuleNotFoundError: No module named 'no_such_module'"),
        (
            "from iii_state_memory import MemoryAdapter as A; return A",
            "failed: its class is named 'memory'.",
        ),
        ("return int", "iii_state_adapters gave int, which is not a subclass of iii_skill.StateAdapter."),
    ],
)
def test_an_adapter_that_cannot_be_loaded_says_so_where_it_is_asked_for(
    site: Path, body: str, reason: str
) -> None:
    install(site, "lazy", LAZY.format(body=body))
    install(site, "stores", adapter_source("other"))
    plugins = load(site)
    with pytest.raises(PluginError) as caught:
        plugins.adapter("mine")
    assert caught.value.message.endswith(reason)
    plugins.load_adapters()
    assert sorted(plugins.adapters) == ["other"]
    assert [broken.source.entry_point for broken in plugins.broken] == ["lazy"]


def test_a_host_imports_nothing_of_the_adapters_and_ports_that_it_does_not_use() -> None:
    program = (
        "import sys, iii_skill.cli.serve, iii_skill.server.ports\n"
        "from iii_skill.plugins import load_plugins\n"
        "load_plugins().adapter('memory')\n"
        "print(*sorted(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "iii_state_memory" in loaded
    for unused in (
        "iii_state_file.adapter",
        "iii_state_redis.adapter",
        "iii_state_postgres.adapter",
        "iii_skill.console.port",
        "iii_skill.metrics.readings",
        "http.client",
    ):
        assert unused not in loaded


def test_hook_iii_companions(site: Path) -> None:
    companion = (
        HEAD + "from iii_skill.companion import Companion\nclass C(Companion):\n    name = 'mine'\n"
        "    async def start(self, host, settings): pass\n"
        "@iii_skill.hookimpl\ndef iii_companions(): return [C]"
    )
    install(site, "good", companion)
    install(site, "bad", HEAD + "@iii_skill.hookimpl\ndef iii_companions(): return [int, 3]")
    install(site, "nameless", companion.replace("    name = 'mine'\n", ""))
    plugins = load(site)
    assert [kind.name for kind in plugins.companions().values()] == ["mine"]
    assert [b.reason for b in plugins.broken] == [
        "iii_companions gave int, which is not a subclass of iii_skill.Companion.",
        "iii_companions gave 3, which is not a subclass of iii_skill.Companion.",
        "Companion C does not declare name.",
    ]


def test_hook_iii_templates(site: Path) -> None:
    install(site, "good", HEAD + "@iii_skill.hookimpl\ndef iii_templates(): return ['/a', '/b']")
    install(site, "bad", HEAD + "@iii_skill.hookimpl\ndef iii_templates(): return 1 / 0")
    plugins = load(site)
    assert [path for path, _ in plugins.template_directories()] == [Path("/a"), Path("/b")]
    assert [b.reason for b in plugins.broken] == ["iii_templates: ZeroDivisionError: division by zero"]


def test_hook_iii_functions(site: Path) -> None:
    functions = "@iii_skill.hookimpl\ndef iii_functions(host): return {'mine::twice': lambda x: [host, x, x]}"
    install(site, "good", HEAD + functions)
    install(
        site, "bad", HEAD + "@iii_skill.hookimpl\ndef iii_functions(host): return {'a::b': 3, 'c::d': len}"
    )
    install(site, "same-one", HEAD + "@iii_skill.hookimpl\ndef iii_functions(): return {'same::id': len}")
    install(site, "same-two", HEAD + "@iii_skill.hookimpl\ndef iii_functions(host): return {'same::id': len}")
    install(site, "worst", HEAD + "@iii_skill.hookimpl\ndef iii_functions(host): raise KeyError('x')")
    plugins = load(site)
    found = {entry.function_id: entry for entry in plugins.functions("the host")}  # type: ignore[arg-type]
    assert sorted(found) == ["c::d", "mine::twice"]
    assert found["mine::twice"].function(1) == ["the host", 1, 1]
    assert str(found["mine::twice"].source) == "good 1.2.3 (good)"
    reasons = {b.source.package: b.reason for b in plugins.broken}
    assert reasons["bad"] == "iii_functions gave 'a::b': a function id must name a callable."
    assert reasons["worst"] == "iii_functions: KeyError: 'x'"
    assert "a function named 'same::id': same-one" in reasons["same-one"]
    assert "a function named 'same::id': same-one" in reasons["same-two"]


def test_hook_iii_commands(site: Path) -> None:
    command = (
        "import click\n@iii_skill.hookimpl\ndef iii_commands(cli): cli.add_command(click.Command('{name}'))"
    )
    install(site, "good", HEAD + command.format(name="hello"))
    install(site, "bad", HEAD + "@iii_skill.hookimpl\ndef iii_commands(cli): raise LookupError('no')")
    plugins = load(site)
    group = click.Group()
    plugins.add_commands(group)
    assert list(group.commands) == ["hello"]
    assert [b.reason for b in plugins.broken] == ["iii_commands: LookupError: no"]


HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("iii_"))


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_tested_and_documented(hook: str) -> None:
    assert f"test_hook_{hook}" in globals()
    page = (REPOSITORY / "references" / "plugins.md").read_text("utf-8")
    assert f"`{hook}(" in page
    assert getattr(hookspecs, hook).__doc__
