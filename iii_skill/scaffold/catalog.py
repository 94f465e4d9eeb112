"""Catalog: the templates of this package and of plugins, and the broken ones with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from iii_skill.scaffold.errors import TemplateError
from iii_skill.scaffold.template import Template, load_template


@dataclass(frozen=True)
class BrokenTemplate:
    """A template that is left out, the package that brought it, and why."""

    name: str
    package: str
    reason: str


@dataclass
class Catalog:
    """Template name to template; a bundled name cannot be taken over by a plugin."""

    templates: dict[str, Template] = field(default_factory=dict)
    broken: list[BrokenTemplate] = field(default_factory=list)

    def get(self, name: str) -> Template:
        """The template `name`; TemplateError names those that there are, or why it is broken."""
        template = self.templates.get(name)
        if template is not None and not template.hidden:
            return template
        for broken in self.broken:
            if broken.name == name:
                raise TemplateError(
                    f"The template '{name}' of {broken.package} cannot be used: {broken.reason}"
                )
        names = ", ".join(sorted(name for name, template in self.templates.items() if not template.hidden))
        left_out = "".join(f" {broken.package} is left out: {broken.reason}" for broken in self.broken)
        raise TemplateError(f"There is no template '{name}'. There are: {names}.{left_out}")

    def add(self, directory: Path, package: str) -> None:
        """Load every template in `directory`, which is a template itself or holds some."""
        if (directory / "template.toml").exists():
            candidates = [directory]
        else:
            candidates = sorted(entry.parent for entry in directory.glob("*/template.toml"))
        if not candidates:
            self.broken.append(
                BrokenTemplate(str(directory.name), package, "There is no template.toml in it.")
            )
        for candidate in candidates:
            self._add_one(candidate, package)

    def _add_one(self, directory: Path, package: str) -> None:
        try:
            template = load_template(directory, package)
        except TemplateError as error:
            self.broken.append(BrokenTemplate(directory.name, package, error.message))
            return
        other = self.templates.get(template.name)
        if other is not None:
            reason = f"The name is taken by {other.package}."
            self.broken.append(BrokenTemplate(template.name, package, reason))
            return
        self.templates[template.name] = template


def bundled_directory() -> Path:
    """Where the bundled templates are: inside the package when it is installed, else beside it."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "templates", package.parent / "templates"):
        if candidate.is_dir():
            return candidate
    raise TemplateError("The bundled templates are missing; install iii-skill again.")


def bundled(name: str) -> Template | None:
    """The bundled template `name` alone: the quick way, which loads no plugin."""
    directory = bundled_directory() / name
    if "/" in name or name.startswith(".") or not (directory / "template.toml").is_file():
        return None
    template = load_template(directory)
    return None if template.hidden else template


def bundled_templates() -> list[Template]:
    """Every bundled template that can be chosen, in the order of their names."""
    names = sorted(path.parent.name for path in bundled_directory().glob("*/template.toml"))
    return [template for name in names if (template := bundled(name)) is not None]


def full_catalog(plugin_directories: Iterable[tuple[Path, str]]) -> Catalog:
    """The bundled templates, then those of plugins as (directory, package)."""
    catalog = Catalog()
    catalog.add(bundled_directory(), "iii-skill")
    for directory, package in plugin_directories:
        catalog.add(directory, package)
    return catalog
