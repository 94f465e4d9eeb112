"""Skill: the copies of the agent skill that installers put into a project and a home."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from iii_skill import __version__
from iii_skill.doctor.outcome import Outcome, Outcomes, SetupCheck, fail, ok, page, skipped, warn
from iii_skill.doctor.setup import Setup

NAME = "iii-state-management"
FOLDERS = (
    ".agents/skills",
    ".claude/skills",
    ".codex/skills",
    ".cursor/skills",
    ".gemini/skills",
    ".github/skills",
    ".opencode/skills",
)
PARTS = ("SKILL.md", "scripts/iii_skill_run.py", "references/operations.md")
_VERSION = re.compile(r'^  version: "?([\w.+-]+)"?\s*$', re.MULTILINE)


def _copies(setup: Setup) -> list[Path]:
    """Where the skill is installed, dangling links included."""
    bases = dict.fromkeys((setup.cwd, setup.home))
    places = [base / folder / NAME for base in bases for folder in FOLDERS]
    return [place for place in places if os.path.lexists(place)]


def links(setup: Setup) -> Outcomes:
    """Whether every link leads somewhere."""
    copies = _copies(setup)
    if not copies:
        return skipped("the skill is not installed here")
    broken = [place for place in copies if not place.exists()]
    return [_broken(place) for place in broken] or ok(f"{len(copies)} installed")


def _broken(place: Path) -> Outcome:
    def remove() -> str:
        place.unlink()
        return f"removed the link {place}"

    return fail(
        f"{place} is a link to {os.readlink(place)}, which is not there: agents do not find the skill.",
        f"rm {place}, and install the skill again",
        mend=remove,
    )


def parts(setup: Setup) -> Outcomes:
    """Whether each copy is complete."""
    copies = [place for place in _copies(setup) if place.exists()]
    if not copies:
        return skipped("the skill is not installed here")
    return list(_incomplete(copies)) or ok("complete")


def _incomplete(copies: list[Path]) -> Iterator[Outcome]:
    for place in copies:
        missing = [part for part in PARTS if not (place / part).is_file()]
        if missing:
            yield fail(f"The skill in {place} lacks {', '.join(missing)}.", "Install the skill again.")


def version(setup: Setup) -> Outcomes:
    """Whether each copy is of the version of this package."""
    found: list[Outcome] = []
    copies = [place for place in _copies(setup) if (place / "SKILL.md").is_file()]
    for place in copies:
        said = _VERSION.search((place / "SKILL.md").read_text("utf-8", "replace"))
        if said is not None and said[1] != __version__:
            found.append(
                warn(
                    f"The skill in {place} is of version {said[1]}, this is iii-skill {__version__}.",
                    "Install the skill again, or the same version of the package.",
                )
            )
    if not copies:
        return skipped("the skill is not installed here")
    return found or ok(__version__)


_PAGE = page("skill")
CHECKS = (
    SetupCheck("skill.links", "Links", links, _PAGE),
    SetupCheck("skill.parts", "Files of the skill", parts, _PAGE, after=("skill.links",)),
    SetupCheck("skill.version", "Version of the skill", version, _PAGE),
)
