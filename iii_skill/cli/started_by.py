"""How this program is started again: the command that a project's next steps name."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from iii_skill.entry_points import read_entry_points

NAME = "iii-skill"


def host_command() -> str:
    """By its name when that is this very program, by uvx, or by the interpreter."""
    if "archive-v0" in Path(sys.prefix).parts:  # the environment of uvx, which nothing else finds
        return shlex.join(["uvx", *uvx_options(), NAME])
    found = shutil.which(NAME)
    own = Path(sys.executable).parent / Path(found or NAME).name
    if found and own.exists() and os.path.samefile(found, own):
        return NAME
    return f"{shlex.quote(sys.executable)} -m iii_skill"


def uvx_options() -> list[str]:
    """Where uvx took this program from, and the plugins that were asked for with it."""
    dist = metadata.distribution(NAME)
    others = {point.dist.name: point.dist for point in read_entry_points()[0] if point.dist is not None}
    others.pop(NAME, None)
    options = ["--from", requirement(dist)]
    for name in sorted(others):
        options += ["--with", requirement(others[name])]
    return options


def kit() -> str:
    """What brings the pytest plugin of this very program, as a word for a shell."""
    return shlex.quote(requirement(metadata.distribution(NAME), "test"))


def requirement(dist: metadata.Distribution, *more: str) -> str:
    """The distribution as an installer reads it: place, revision and the extras whose packages are there."""
    extras = ",".join(sorted({*present_extras(dist), *more}))
    named = f"{dist.name}[{extras}]" if extras else dist.name
    text = dist.read_text("direct_url.json")
    if not text:
        return f"{named}=={dist.version}"
    origin = json.loads(text)
    url = str(origin["url"])
    if url.startswith("file:") and "vcs_info" not in origin:
        path = unquote(urlsplit(url).path)
        return f"{path}[{extras}]" if extras else path
    vcs = origin.get("vcs_info")
    if vcs:
        revision = vcs.get("commit_id") or vcs.get("requested_revision")
        url = f"{vcs['vcs']}+{url}" + (f"@{revision}" if revision else "")
    if origin.get("subdirectory"):
        url += f"#subdirectory={origin['subdirectory']}"
    return f"{named} @ {url}" if extras or not vcs else url


def present_extras(dist: metadata.Distribution) -> list[str]:
    """The extras of the distribution all of whose packages are installed."""
    wanted: dict[str, list[str]] = {}
    for line in dist.requires or ():
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", line)
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if extra and name:
            wanted.setdefault(extra[1], []).append(name[0])
    return sorted(extra for extra, names in wanted.items() if all(map(_is_installed, names)))


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
