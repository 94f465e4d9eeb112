"""The skill's files: where they are, that they are complete, and that they stay small."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml
from support.markdown import headings, links
from support.tree import MIRROR, ROOT, SKILL_NAME, tracked_files

PAGES = [ROOT / "SKILL.md", *sorted((ROOT / "references").glob("*.md"))]
FIELDS = {"name", "description", "license", "compatibility", "metadata"}


def front_matter(folder: Path = ROOT) -> tuple[dict[str, object], str]:
    """The fields and the body of SKILL.md."""
    _, fields, body = (folder / "SKILL.md").read_text().split("---\n", 2)
    return yaml.safe_load(fields), body


def test_the_mirror_equals_its_sources() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/mirror", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_no_other_skill_is_discovered() -> None:
    found = [str(path) for path in tracked_files() if path.name.lower() == "skill.md"]
    assert found == ["SKILL.md", f"skills/{SKILL_NAME}/SKILL.md"]


def test_no_file_that_installers_drop_or_break() -> None:
    assert [path for path in tracked_files() if path.name == "metadata.json"] == []
    assert [path for path in tracked_files() if (ROOT / path).is_symlink()] == []


def test_nothing_of_the_skill_hides_behind_an_underscore_or_a_dot() -> None:
    parts = [part for path in MIRROR.rglob("*") for part in path.relative_to(MIRROR).parts]
    assert [part for part in parts if part[0] in "._"] == []


def test_package_files_that_old_installers_drop_are_only_the_two_of_python() -> None:
    names = Counter(path.name for path in tracked_files() if path.name.startswith("_"))
    assert set(names) <= {"__init__.py", "__main__.py"}


def test_repository_holds_no_bulky_file() -> None:
    """Only the oldest installers take the whole repository, tests included; plugin managers clone it."""
    sizes = {path: (ROOT / path).stat().st_size for path in tracked_files()}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:8]
    assert len(sizes) < 1200, f"{len(sizes)} files: {Counter(path.parts[0] for path in sizes).most_common(8)}"
    assert sum(sizes.values()) < 9_000_000, f"{sum(sizes.values())} bytes; largest: {largest}"
    texts = [(path, size) for path, size in largest if path.suffix != ".whl"]
    assert texts[0][1] < 150_000, texts[0]


def test_front_matter_is_within_the_specification() -> None:
    fields, _ = front_matter()
    assert set(fields) <= FIELDS
    assert fields["name"] == SKILL_NAME == MIRROR.name
    description = str(fields["description"])
    assert 50 <= len(description) <= 1024
    assert not set("<>") & set(description)
    assert len(str(fields["compatibility"])) <= 500


@pytest.mark.parametrize("folder", [ROOT, MIRROR], ids=["root", "mirror"])
def test_every_value_of_the_front_matter_stands_on_its_own_line(folder: Path) -> None:
    """Many programs read it line by line and know no YAML: `key: value`, and nothing is folded."""
    text = (folder / "SKILL.md").read_text().split("---\n", 2)[1]
    read: dict[str, str] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"( *)([a-z-]+):(?: (.+))?", line)
        assert match, line
        indent, key, value = match.groups()
        assert value is None or value[0] not in ">|&*!%@[{", line
        if not indent and value:
            read[key] = value.strip('"')
    fields = front_matter(folder)[0]
    assert read == {key: value for key, value in fields.items() if key != "metadata"}


def test_only_the_root_is_hidden_from_installers() -> None:
    """A visible skill at the root makes installers copy the whole repository into every project."""
    root, mirror = (dict(front_matter(folder)[0]["metadata"]) for folder in (ROOT, MIRROR))  # type: ignore[call-overload]
    assert root.pop("internal") is True
    assert root == mirror
    assert all(isinstance(value, str) for value in mirror.values())


def test_description_says_what_when_and_when_not_in_its_first_200_characters() -> None:
    description = str(front_matter()[0]["description"])
    start = description[:200]
    assert re.match(r"[A-Z][a-z]+s ", start), "a verb in the third person comes first"
    for words in (
        "Use when",
        "Not for",
        "state::",
        "sessions",
        "counters",
        "flags",
        "caches",
        "queues",
        "streams",
    ):
        assert words in start
    assert not re.search(r"\b(I|you|your|we|our)\b", description, re.IGNORECASE)


def test_skill_stays_within_its_budget() -> None:
    text = (ROOT / "SKILL.md").read_text()
    assert len(text.splitlines()) < 200
    assert len(text) / 4 < 2600, "an estimate of tokens: four characters each"


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_reference_page_is_short_or_has_contents(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert len(lines) < 400
    if len(lines) > 100 and any(line.startswith("## ") for line in lines):
        assert any(re.search(r"\]\(#", line) for line in lines[:12]), "a long page begins with its contents"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_heading_inside_the_skill(page: Path) -> None:
    for target in links(page.read_text()):
        if re.match(r"(https?|mailto):", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        inside = MIRROR / file.relative_to(ROOT)
        assert inside.is_file(), f"{page.name}: {target} is not in the mirror"
        if anchor:
            assert anchor in headings(file.read_text()), f"{page.name}: {target}"


FOR_PEOPLE = {"references/console.md": "references/running.md"}
"""Pages that agents have little use for, each linked from a page that the skill links."""


def test_every_reference_is_linked_from_the_skill() -> None:
    linked = {target.partition("#")[0] for target in links((ROOT / "SKILL.md").read_text())}
    for page, place in FOR_PEOPLE.items():
        assert place in linked
        if Path(page).name in links((ROOT / place).read_text()):
            linked.add(page)
    files = {f"references/{path.name}" for path in (ROOT / "references").iterdir() if path.is_file()}
    assert files - linked == set()


def test_manifests_carry_the_name_and_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in (".claude-plugin/plugin.json", "plugin.json", "gemini-extension.json"):
        manifest = json.loads((ROOT / name).read_text())
        assert (manifest["name"], manifest["version"]) == ("iii-state", version), name
    market = json.loads((ROOT / ".claude-plugin" / "marketplace.json").read_text())
    assert [plugin["name"] for plugin in market["plugins"]] == ["iii-state"]
    assert dict(front_matter()[0]["metadata"])["version"] == version  # type: ignore[call-overload]
