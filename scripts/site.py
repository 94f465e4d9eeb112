#!/usr/bin/env python3
"""Lay out the pages of the documentation site in a directory: `site.py DIRECTORY`.

The pages are those of the repository, at the same relative places, so that their links hold; what is added is
one page of commands, written from the command line's own definitions. `scripts/site` then runs the generator.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from iii_skill.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("SKILL.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "docs", "references")
FENCE_DIRECTIVE = re.compile(r"^```(\w+) .*$", re.MULTILINE)


def commands() -> str:
    """A page with every command: usage, what it does, arguments and options, as `--help` says them."""
    context = click.Context(cli, info_name="iii-skill", max_content_width=100)
    parts = [
        "# Commands",
        "What `iii-skill COMMAND --help` prints. Options can come from the environment too: "
        "`III_SKILL_`, the command and the option in capitals (`III_SKILL_SERVE_PORT`).",
    ]
    for path, command, inner in walk(cli, context):
        depth = min(path.count(" ") + 1, 4)
        parts.append(f"{'#' * depth} {path}\n\n```text\n{command.get_help(inner)}\n```")
    return "\n\n".join(parts) + "\n"


def walk(
    command: click.Command, context: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command below this one, with its path and context."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, name
            below = click.Context(inner, info_name=name, parent=context, max_content_width=100)
            yield below.command_path, inner, below
            yield from walk(inner, below)


def page(text: str) -> str:
    """A page without what only the repository's tests read: front matter, words after a fence's language."""
    if text.startswith("---\n"):
        text = text.split("\n---\n", 1)[1].lstrip("\n")
    return FENCE_DIRECTIVE.sub(r"```\1", text)


def main() -> int:
    """The command line."""
    place = Path(sys.argv[1])
    shutil.rmtree(place, ignore_errors=True)
    (place / "pages").mkdir(parents=True)
    (place / "pages" / "index.md").write_text(page((ROOT / "README.md").read_text("utf-8")), "utf-8")
    (place / "pages" / "commands.md").write_text(commands(), "utf-8")
    for name in PAGES:
        source = ROOT / name
        for path in [source] if source.is_file() else sorted(source.rglob("*")):
            if not path.is_file() or path.suffix == ".toml":
                continue
            target = place / "pages" / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md":
                target.write_text(page(path.read_text("utf-8")), "utf-8")
            else:
                shutil.copyfile(path, target)
    shutil.copyfile(ROOT / "docs" / "zensical.toml", place / "zensical.toml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
