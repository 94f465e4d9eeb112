"""References: the reference workers are the default renders of the templates, written once."""

from __future__ import annotations

from pathlib import Path

from iii_skill.scaffold.answers import resolve
from iii_skill.scaffold.catalog import bundled, bundled_directory
from iii_skill.scaffold.errors import TemplateError
from iii_skill.scaffold.render import Renderer

PROJECT = "state-management"
SOURCES = {
    "python": ("state_management.py", "py"),
    "javascript": ("worker.js", "js"),
    "rust": ("src/main.rs", "rs"),
}
"""Template to the file that is the reference, and its suffix."""


def reference(template_name: str) -> tuple[str, str]:
    """The file name of a reference worker and its text."""
    source, suffix = SOURCES[template_name]
    template = bundled(template_name)
    if template is None:
        raise TemplateError(f"There is no template '{template_name}'.")
    renderer = Renderer(template)
    return f"{PROJECT}.{suffix}", renderer.render(resolve(renderer, {}, destination=PROJECT))[source]


def main() -> None:
    """Write all of them into `references/` of the checkout."""
    directory = bundled_directory().parent / "references"
    for template_name in SOURCES:
        name, text = reference(template_name)
        Path(directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
