"""Entry points of the group `iii_skill`, read distribution by distribution: a damaged one hides no other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

GROUP = "iii_skill"


@dataclass(frozen=True)
class UnreadableDistribution:
    """A distribution whose entry points could not be read, and why."""

    package: str
    version: str
    reason: str


def read_entry_points(
    distributions: Iterable[metadata.Distribution] | None = None,
) -> tuple[list[metadata.EntryPoint], list[UnreadableDistribution]]:
    """Every entry point of the group; of two distributions of one name the first on the path counts."""
    points: list[metadata.EntryPoint] = []
    unreadable: list[UnreadableDistribution] = []
    seen: set[str] = set()
    for dist in metadata.distributions() if distributions is None else distributions:
        try:
            found = [point for point in dist.entry_points if point.group == GROUP]
            reason = None
        except Exception as error:  # whatever a parser makes of the bytes of strangers
            found = []
            reason = f"its entry_points.txt cannot be read ({type(error).__name__}: {error})"
        if not found and reason is None:
            continue
        package, version = name_and_version(dist)
        key = re.sub(r"[-_.]+", "-", package).lower()
        if key in seen:
            continue
        seen.add(key)
        points += found
        if reason is not None:
            unreadable.append(UnreadableDistribution(package, version, f"{reason}; install it again."))
    return points, unreadable


def name_and_version(dist: metadata.Distribution) -> tuple[str, str]:
    """What the distribution calls itself; the name of its directory when its METADATA is no help."""
    try:
        headers = dist.metadata
        found = (headers["Name"], headers["Version"])
    except Exception:  # METADATA is missing or damaged; which error says so depends on Python
        found = ("", "")
    directory = str(getattr(getattr(dist, "_path", None), "name", "")).rpartition(".")[0]
    given, _, number = directory.partition("-")
    return str(found[0] or given or "unknown"), str(found[1] or number or "unknown")
