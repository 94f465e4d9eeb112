"""Every file of every template is pinned for a set of combinations that covers all pairs of options.

Two snapshots per template: the project with everything, and for each combination what differs from it: the
numbers of lines that are gone, and the text of those that came (compared with the render under the same
names). `pytest --snapshot-update` writes them.
"""

from __future__ import annotations

import hashlib
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
    with_companions,
)

from iii_skill.scaffold.answers import resolve
from iii_skill.scaffold.project import BASE_FILE, project_files

EVERYTHING = {
    "operations": OPERATIONS,
    "with": ("queue", "pubsub", "cron", "stream"),
    "http": True,
    "trigger": True,
    "adapter": "file",
    "config": "workers",
    "docker": True,
    "shape": "product",
}
TYPESCRIPT = {
    "worker.js": "src/worker.ts",
    "tests/worker.test.js": "tests/worker.test.ts",
    "tests/support.js": "tests/support.ts",
}


def texts(files: dict[str, bytes]) -> dict[str, list[str]]:
    """The files that people read, as lines."""
    return {path: content.decode().splitlines() for path, content in files.items() if path != BASE_FILE}


def differences(old: dict[str, list[str]], new: dict[str, list[str]]) -> Iterator[str]:
    """What makes `new` out of `old`: for each file the lines that go, then those that come in their place."""
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path, []), new.get(path, [])
        if path not in new:
            yield f"@@ {path}: no such file"
        elif before != after:
            yield f"@@ {path}"
            for tag, start, end, new_start, new_end in SequenceMatcher(
                None, before, after, autojunk=False
            ).get_opcodes():
                if tag != "equal":
                    yield f"{start + 1}-{end}"
                    yield from (f"+{line}" for line in after[new_start:new_end])


def as_typescript(files: dict[str, list[str]]) -> dict[str, list[str]]:
    """A JavaScript project with its sources where those of TypeScript lie."""
    return {TYPESCRIPT.get(path, path): content for path, content in files.items()}


@pytest.mark.parametrize("template", LANGUAGES)
def test_every_file_is_as_pinned(template: str, snapshot: Any) -> None:
    """TypeScript is pinned as what it has beside JavaScript, with which it shares one source."""
    snapshot.snapshot_dir = Path(__file__).parent / "snapshots"
    full = texts(files_of(template, EVERYTHING))
    lines = [f"==== everything: {label(EVERYTHING)}"]
    if template == "typescript":
        lines += differences(as_typescript(texts(files_of("javascript", EVERYTHING))), full)
    else:
        for path, content in full.items():
            lines += [f"---- {path}", *content]
    snapshot.assert_match("\n".join(lines) + "\n", f"{template}.txt")


@pytest.mark.parametrize("template", LANGUAGES)
def test_what_options_change_is_as_pinned(template: str, snapshot: Any) -> None:
    """Of TypeScript by a digest for each file: what it says is in the snapshot of JavaScript."""
    snapshot.snapshot_dir = Path(__file__).parent / "snapshots"
    full = texts(files_of(template, EVERYTHING))
    custom = texts(files_of(template, EVERYTHING | {"shape": "custom"}))
    lines = []
    for combination in (EVERYTHING | {"shape": "custom"}, *covering(), *with_companions()):
        others = [str(combination["adapter"]), str(combination["config"])]
        others += ["docker"] if combination["docker"] else []
        lines.append(f"==== {label(combination)} {' '.join(others)}")
        whole = full if combination["shape"] == "product" else custom
        files = texts(files_of(template, combination))
        if template == "typescript":
            lines += [f"{digest(content)} {path}" for path, content in sorted(files.items())]
        else:
            lines += differences(full if files == custom else whole, files)
    snapshot.assert_match("\n".join(lines) + "\n", f"{template}-options.txt")


def digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


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
    assert (len(product()), len(covering())) == (32764, 13)


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
