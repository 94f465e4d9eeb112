"""Imports point one way: `cli -> server -> host -> engine -> protocol`, and meaning knows no wire."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "iii_skill"
PLUGINS = ROOT / "plugins"

PUBLIC = {
    "iii_skill",
    "iii_skill.adapter",
    "iii_skill.adapters.shared",
    "iii_skill.companion",
    "iii_skill.errors",
    "iii_skill.readable",
    "iii_skill.serde.reader",
    "iii_skill.state.changes",
    "iii_skill.state.op_input",
    "iii_skill.values",
}
"""All that a bundled plugin may import: what strangers get too."""


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports at run time, also inside functions; not those for types only."""
    yield from _imports(ast.parse(path.read_text("utf-8"), str(path)))


def _imports(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, node.lineno
    elif isinstance(node, ast.ImportFrom):
        for module in _named(node):
            yield module, node.lineno
    for child in ast.iter_child_nodes(node):
        yield from _imports(child)


def _named(node: ast.ImportFrom) -> set[str]:
    """The modules of a `from` import; a relative one stays inside its own package and names none."""
    if node.level or node.module is None:
        return set()
    if node.module != "iii_skill":
        return {node.module}
    modules = {alias.name for alias in node.names if any(PACKAGE.glob(f"{alias.name}*"))}
    names = {alias.name for alias in node.names} - modules
    return {f"iii_skill.{name}" for name in modules} | ({"iii_skill"} if names else set())


def room(module: str) -> str:
    """`iii_skill.state.ops` -> `state`; `iii_skill` -> ``."""
    return module.split(".")[1] if "." in module else ""


FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize(
    "path", sorted(PLUGINS.rglob("*.py")), ids=lambda p: p.relative_to(PLUGINS).as_posix()
)
def test_a_bundled_plugin_imports_public_names_only(path: Path) -> None:
    own = path.relative_to(PLUGINS).parts[0]
    wrong = [
        f"line {line}: {module}"
        for module, line in imports(path)
        if (module.split(".")[0] == "iii_skill" and module not in PUBLIC)
        or (module.startswith("iii_state_") and module.split(".")[0] != own)
    ]
    assert wrong == []


def test_meaning_and_wire_open_no_sockets_and_know_no_event_loop() -> None:
    pure = [*PACKAGE.glob("protocol/*.py"), PACKAGE / "scaffold" / "render.py"]
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {module}"
        for path in pure
        for module, line in imports(path)
        if module.split(".")[0] in {"asyncio", "socket", "picows", "httptools", "time"}
    ]
    assert wrong == []


def test_only_servers_and_what_reaches_an_engine_import_socket_libraries() -> None:
    wrong = [
        f"{file}:{line} imports {module}"
        for file in FILES
        if not file.startswith(("server/", "attach/", "engine_link.py"))
        for module, line in imports(PACKAGE / file)
        if module.split(".")[0] in {"picows", "httptools", "websockets"}
    ]
    assert wrong == []


def test_every_module_says_what_it_is() -> None:
    files = [*PACKAGE.rglob("*.py"), *PLUGINS.rglob("*.py")]
    silent = [
        str(p.relative_to(ROOT)) for p in files if not ast.get_docstring(ast.parse(p.read_text("utf-8")))
    ]
    assert silent == []


def test_every_third_party_import_is_a_declared_dependency() -> None:
    declared = (ROOT / "pyproject.toml").read_text("utf-8").split("[dependency-groups]")[0].lower()
    known = {"yaml": "pyyaml"}
    files = [*PACKAGE.rglob("*.py"), *PLUGINS.rglob("*.py")]
    missing = {
        name
        for path in files
        for module, _ in imports(path)
        if (name := module.split(".")[0]) not in sys.stdlib_module_names
        and not name.startswith(("iii_skill", "iii_state_"))
        and not re.search(rf'["\[]{known.get(name, name).replace("_", "-")}\b', declared)
    }
    assert missing == set()
