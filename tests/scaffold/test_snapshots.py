"""Every file of every template is pinned for a set of combinations that covers all pairs of options.

One snapshot per template: the project with everything in full, then for each combination what differs from
it: ranges of lines that are gone, and the text of lines that came (compared with the render under the same
names). `pytest --snapshot-update` writes them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
from support.scaffold import (
    LANGUAGES,
    OPERATIONS,
    all_pairs,
    covering,
    files_of,
    label,
    pairs,
    product,
    renderer_of,
)

from iii_skill.scaffold.answers import resolve
from iii_skill.scaffold.project import BASE_FILE, project_files

EVERYTHING = {
    "operations": OPERATIONS,
    "http": True,
    "trigger": True,
    "adapter": "file",
    "config": "workers",
    "docker": True,
    "shape": "product",
}


def texts(files: dict[str, bytes]) -> dict[str, list[str]]:
    """The files that people read, as lines."""
    return {path: content.decode().splitlines() for path, content in files.items() if path != BASE_FILE}


def differences(old: dict[str, list[str]], new: dict[str, list[str]]) -> Iterator[str]:
    """What makes `new` out of `old`, short and complete."""
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path, []), new.get(path, [])
        if path not in new:
            yield f"@@ {path}: no such file"
        for tag, start, end, new_start, new_end in SequenceMatcher(
            None, before, after, autojunk=False
        ).get_opcodes():
            if tag != "equal":
                yield f"@@ {path}: lines {start + 1}-{end} {tag}"
                yield from (f"+{line}" for line in after[new_start:new_end])


@pytest.mark.parametrize("template", LANGUAGES)
def test_every_file_is_as_pinned(template: str, snapshot: Any) -> None:
    snapshot.snapshot_dir = Path(__file__).parent / "snapshots"
    full = texts(files_of(template, EVERYTHING))
    lines = [f"==== everything: {label(EVERYTHING)}"]
    for path, content in full.items():
        lines += [f"---- {path}", *content]
    custom = texts(files_of(template, EVERYTHING | {"shape": "custom"}))
    lines += ["==== everything with other names", *differences(full, custom)]
    for combination in covering():
        others = [str(combination["adapter"]), str(combination["config"])]
        others += ["docker"] if combination["docker"] else []
        lines.append(f"==== {label(combination)} {' '.join(others)}")
        whole = full if combination["shape"] == "product" else custom
        lines += differences(whole, texts(files_of(template, combination)))
    snapshot.assert_match("\n".join(lines) + "\n", f"{template}.txt")


def test_the_adapter_plugin_is_as_pinned(snapshot: Any) -> None:
    snapshot.snapshot_dir = Path(__file__).parent / "snapshots"
    renderer = renderer_of("adapter-plugin")
    answers = resolve(renderer, {}, destination="iii-state-sqlite")
    lines = []
    for path, content in texts(project_files(renderer.template, answers, renderer.render(answers))).items():
        lines += [f"---- {path}", *content]
    snapshot.assert_match("\n".join(lines) + "\n", "adapter-plugin.txt")


def test_the_combinations_cover_every_pair_of_values() -> None:
    seen = set().union(*(pairs(combination) for combination in covering()))
    assert all_pairs() <= seen
    assert (len(product()), len(covering())) == (8188, 12)


@pytest.mark.parametrize("template", LANGUAGES)
def test_every_combination_renders(template: str) -> None:
    """No undefined name and no clash of paths, in a sample of the full product, or all of it."""
    names = {"adapter": "memory", "config": "workers", "docker": False, "shape": "custom"}
    every = product()
    some = every if os.environ.get("III_SKILL_TEST_ALL") else random.Random(7).sample(every, 400)
    for combination in some:
        files = files_of(template, {**combination, **names})
        del files[BASE_FILE]
        assert not any(b"{{" in content or b"{%" in content for content in files.values())
