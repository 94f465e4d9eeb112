"""What `iii-skill scaffold` prints: lists, plans, differences and the next steps."""

from __future__ import annotations

import difflib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iii_skill.cli.started_by import host_command, kit
from iii_skill.scaffold.plan import WRITES, FileAction

if TYPE_CHECKING:
    from iii_skill.scaffold.catalog import Catalog
    from iii_skill.scaffold.plan import Step
    from iii_skill.scaffold.render import Renderer
    from iii_skill.scaffold.template import Template


def print_templates(catalog: Catalog, *, as_json: bool) -> None:
    """The templates on stdout, and those left out with the reason."""
    shown = [template for template in catalog.templates.values() if not template.hidden]
    if as_json:
        rows = [
            {
                "name": template.name,
                "title": template.title,
                "description": template.description,
                "language": template.language,
                "version": template.version,
                "package": template.package,
                "questions": [
                    {
                        "name": question.name,
                        "type": question.type,
                        "option": question.option,
                        "default": question.default,
                        "choices": list(question.choices),
                        "help": question.help,
                    }
                    for question in template.questions.values()
                ],
            }
            for template in shown
        ]
        broken = [vars(entry) for entry in catalog.broken]
        click.echo(json.dumps({"templates": rows, "broken": broken}, indent=2))
        return
    width = max(len(template.name) for template in shown)
    for template in shown:
        click.echo(f"{template.name:{width}}  {template.description} ({template.package})")
    for entry in catalog.broken:
        click.echo(f"{entry.name} of {entry.package} is left out: {entry.reason}", err=True)


def print_differences(steps: Sequence[Step]) -> None:
    """What each step changes, as unified differences; the two files that remember are not for reading."""
    from iii_skill.scaffold.project import ANSWERS_FILE, BASE_FILE

    for step in steps:
        if step.path in (ANSWERS_FILE, BASE_FILE):
            continue
        old = (step.current or b"").decode(errors="replace").splitlines(keepends=True)
        new_lines = step.content.decode(errors="replace").splitlines(keepends=True)
        click.echo(
            "".join(difflib.unified_diff(old, new_lines, step.path, f"{step.path} (template)")), nl=False
        )


def print_oddities(destination: Path, *, has_base: bool) -> None:
    """On stderr: what a killed run left in the project, and that its last render is lost."""
    from iii_skill.scaffold.project import BASE_FILE
    from iii_skill.scaffold.write import leftovers

    for left in leftovers(destination):
        click.echo(
            f"{left} is left of a run that was killed; what it replaced lies there in `old`. "
            "Remove it when you need it no more.",
            err=True,
        )
    if not has_base:
        click.echo(
            f"{destination / BASE_FILE} is missing or damaged, so nothing tells your edits from what the "
            "template wrote: each file that differs is in conflict as a whole.",
            err=True,
        )


def next_commands(renderer: Renderer, answers: Mapping[str, Any], destination: Path) -> list[dict[str, Any]]:
    """The next steps, ready to run."""
    python = shlex.quote(sys.executable)
    context = {**renderer.context(answers), "host": host_command(), "python": python, "kit": kit()}
    commands = []
    if destination != Path():
        commands.append({"run": f"cd {shlex.quote(str(destination))}", "note": "", "background": False})
    for step in renderer.template.steps:
        run = renderer.fill(step.run, context)
        if run:
            commands.append({"run": run, "note": step.note, "background": step.background})
    return commands


def print_report(
    template: Template,
    destination: Path,
    steps: Sequence[Step],
    commands: Sequence[Mapping[str, Any]],
    *,
    written: bool,
    as_json: bool,
) -> None:
    """What was done (or would be) to each file, and the next steps."""
    if as_json:
        files = [
            {
                "path": step.path,
                "action": str(step.action),
                "bytes": len(step.content),
                "conflicts": step.conflicts,
            }
            for step in steps
        ]
        about = {"template": template.name, "version": template.version, "destination": str(destination)}
        click.echo(
            json.dumps({**about, "written": written, "files": files, "next": list(commands)}, indent=2)
        )
        return
    for step in steps:
        conflicts = f", {step.conflicts} in conflict" if step.conflicts else ""
        click.echo(f"  {step.action:9} {step.path}  {len(step.content)} bytes{conflicts}")
    if not written:
        click.echo(f"Nothing was written: this is what `{template.name}` would do in {destination}.")
        return
    place = "this directory" if destination == Path() else destination
    changed = any(step.action in WRITES or step.action is FileAction.DELETE for step in steps)
    done = f"{template.title} written to {place}." if changed else f"Nothing changed in {place}."
    click.echo(f"\n{done}" + (" Next:\n" if commands else ""))
    for command in commands:
        if command["note"]:
            click.echo(f"  # {command['note']}:")
        click.echo(f"  {command['run']}")
