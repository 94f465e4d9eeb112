"""The drawing names every room, and the pages point at modules that exist."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
DRAWING = PAGE.split("```")[1]


def rooms() -> set[str]:
    """The names that begin a line of the drawing."""
    found: set[str] = set()
    for line in DRAWING.splitlines():
        head = line.split("  ")[0]
        found |= {name.strip() for name in re.split("[·:]", head) if name.strip()}
    return found


def test_the_drawing_goes_down_as_the_layers_do() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    depth = {name.strip(): at for at, layer in enumerate(layers) for name in re.split("[|:]", layer)}
    lowest = 0
    for line in DRAWING.splitlines():
        if line and not line.startswith(" "):
            depths = [depth[name.strip()] for name in re.split("[·:]", line.split("  ")[0])]
            assert min(depths) >= lowest, line
            lowest = max(depths)


def test_every_room_of_the_tree_is_drawn() -> None:
    package = ROOT / "iii_skill"
    files = {path.stem for path in package.glob("*.py")}
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert rooms() == (files | folders) - {"__init__", "__main__"}


def test_every_bundled_plugin_is_listed() -> None:
    table = PAGE.split("| plugin | brings |")[1].split("\n\n")[0]
    listed = set(re.findall(r"`(iii_\w+)`", table))
    assert listed == {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}


def test_every_place_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)+)/?`", PAGE))
    package = ROOT / "iii_skill"
    missing = {
        name
        for name in named
        if not any(place.exists() for place in (package / name, package / f"{name}.py", ROOT / name))
    }
    assert missing == set()


SAME_IN_STORES = {"Ends", "History"}
"""What several stores have, each in its own way."""
NAMED_FOR_OTHERS = ("iii_skill/cli/mcp/shapes.py", "iii_skill/testing/engine/", "iii_skill/testing/control/")
"""Their names are read by agents and by authors of tests, next to none of the others."""


def test_no_two_classes_share_a_name() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for path in (*(ROOT / "iii_skill").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")):
        home = str(path.relative_to(ROOT))
        if home.startswith(NAMED_FOR_OTHERS):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].add(home)
    shared = {name: found for name, found in homes.items() if len(found) > 1}
    assert shared.keys() - SAME_IN_STORES == set(), shared
