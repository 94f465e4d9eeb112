"""`iii-skill scaffold`: write a project from a template, or update one."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iii_skill.cli.scaffold_completion import complete
from iii_skill.cli.scaffold_group import EXIT_CODES, ScaffoldFailed, ScaffoldGroup
from iii_skill.cli.scaffold_input import Terminal, given_answers, template_and_destination, template_options
from iii_skill.cli.scaffold_output import (
    next_commands,
    print_differences,
    print_oddities,
    print_report,
    print_templates,
)
from iii_skill.scaffold.errors import Conflict, ReportLost, ScaffoldError

if TYPE_CHECKING:
    from iii_skill.scaffold.catalog import Catalog
    from iii_skill.scaffold.plan import Step
    from iii_skill.scaffold.template import Template


@click.command(cls=ScaffoldGroup)
def scaffold() -> None:
    """Write a complete state worker (or an adapter plugin) from a template."""


@scaffold.command("new", epilog=EXIT_CODES)
@click.argument("arguments", nargs=-1, metavar="[TEMPLATE] DEST", shell_complete=complete)
@template_options
@click.option(
    "--defaults", is_flag=True, help="Ask nothing: take the default of every question not answered."
)
@click.option("--dry-run", is_flag=True, help="Show what would be written, write nothing.")
@click.option(
    "--on-conflict",
    type=click.Choice(["fail", "skip", "overwrite", "diff"]),
    default="fail",
    show_default=True,
    help="What to do with files that exist and differ.",
)
@click.option(
    "--git/--no-git", default=False, help="Make the project a git repository, or not.  [default: no]"
)
@click.option("--list", "list_templates", is_flag=True, help="List the templates.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def new(
    arguments: tuple[str, ...],
    data: tuple[str, ...],
    answers: Path | None,
    defaults: bool,
    dry_run: bool,
    on_conflict: str,
    git: bool,
    list_templates: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write a project from TEMPLATE to the directory DEST.

    `iii-skill scaffold update DEST` brings a newer template, or other answers, into an edited project.
    Questions are asked only at a terminal; otherwise defaults are taken, and what has none is an error.
    """
    try:
        if list_templates:
            print_templates(_catalog(), as_json=as_json)
            return
        given, template_name = given_answers(options, data, answers)
        name, destination = template_and_destination(arguments, template_name)
        _write_new(
            _template(name),
            destination,
            given,
            ask=not defaults and sys.stdin.isatty() and sys.stdout.isatty(),
            dry_run=dry_run,
            on_conflict=on_conflict,
            git=git,
            as_json=as_json,
        )
    except click.Abort:
        click.echo("\nInterrupted: nothing was written.", err=True)
        sys.exit(130)
    except ScaffoldError as error:
        raise ScaffoldFailed(error) from None


def _write_new(
    template: Template,
    destination: Path,
    given: Mapping[str, object],
    *,
    ask: bool,
    dry_run: bool,
    on_conflict: str,
    git: bool,
    as_json: bool,
) -> None:
    from iii_skill.scaffold.answers import resolve
    from iii_skill.scaffold.plan import FileAction, plan
    from iii_skill.scaffold.project import ANSWERS_FILE, project_files
    from iii_skill.scaffold.render import Renderer
    from iii_skill.scaffold.surroundings import surroundings

    renderer = Renderer(template, surroundings(destination))
    base_name = Path(os.path.abspath(destination)).name
    answers = resolve(renderer, given, destination=base_name, person=Terminal() if ask else None)
    files = project_files(template, answers, renderer.render(answers))
    steps = plan(destination, files, on_conflict=on_conflict)
    conflicts = [step for step in steps if step.action is FileAction.CONFLICT]
    if on_conflict == "diff" and not as_json:
        print_differences(conflicts)
    if not dry_run:
        if conflicts:
            paths = ", ".join(step.path for step in conflicts)
            differ = "exists and differs" if len(conflicts) == 1 else "exist and differ"
            message = (
                f"Nothing was written: {paths} in {destination} {differ}. "
                "See them with --on-conflict=diff; choose --on-conflict=skip or =overwrite, or another DEST."
            )
            if any(step.path == ANSWERS_FILE for step in conflicts):
                message += (
                    " To bring other answers into an edited project: "
                    f"iii-skill scaffold update {shlex.quote(str(destination))}."
                )
            raise Conflict(message)
        _carry_out(destination, steps, git=git)
    commands = next_commands(renderer, answers, destination)
    _report(template, destination, steps, commands, written=not dry_run, as_json=as_json)


@scaffold.command("update", epilog=EXIT_CODES)
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path, file_okay=False))
@template_options
@click.option(
    "--conflict",
    type=click.Choice(["markers", "rej"]),
    default="markers",
    show_default=True,
    help="How to show lines that you and the template changed.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def update(
    destination: Path,
    data: tuple[str, ...],
    answers: Path | None,
    conflict: str,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Bring the newest template, or other answers, into the project in DEST.

    What you edited stays: your text and the template's are merged. Where both changed the same lines, both
    are kept between conflict markers (or the template's in a .rej file), and the exit code is 3.
    """
    from iii_skill.scaffold.answers import resolve
    from iii_skill.scaffold.plan import WRITES, FileAction
    from iii_skill.scaffold.project import ANSWERS_FILE, project_files, read_answers, read_base
    from iii_skill.scaffold.render import Renderer
    from iii_skill.scaffold.surroundings import surroundings
    from iii_skill.scaffold.update import kept_answers, plan_update

    try:
        origin = read_answers(destination / ANSWERS_FILE)
        template = _template(origin.template)
        given, _ = given_answers(options, data, answers)
        renderer = Renderer(template, surroundings(destination))
        chosen = resolve(renderer, kept_answers(template, origin, given), destination=destination.name)
        files = project_files(template, chosen, renderer.render(chosen))
        label = f"{template.name} {template.version}"
        base = read_base(destination)
        print_oddities(destination, has_base=bool(base))
        steps = plan_update(destination, files, base=base, label=label, reject=conflict == "rej")
        if dry_run and not as_json:
            print_differences(
                [step for step in steps if step.action in WRITES or step.action is FileAction.DELETE]
            )
        if not dry_run:
            _carry_out(destination, steps, git=False)
        _report(template, destination, steps, [], written=not dry_run, as_json=as_json)
        conflicts = [step.path for step in steps if step.conflicts]
        if conflicts and not dry_run:
            beside = [step.path for step in steps if step.path.endswith(".rej")]
            where = f" (what the template wanted is in {', '.join(beside)})" if beside else ""
            raise Conflict(
                f"Written, with conflicts in {', '.join(conflicts)}{where}: "
                "choose what stays, then run your tests."
            )
    except ScaffoldError as error:
        raise ScaffoldFailed(error) from None


def _carry_out(destination: Path, steps: Sequence[Step], *, git: bool) -> None:
    from iii_skill.scaffold.write import Interrupted, write

    try:
        write(destination, steps, git=git)
    except Interrupted as signalled:
        click.echo("Interrupted: nothing was written.", err=True)
        sys.exit(128 + signalled.number)


def _report(
    template: Template,
    destination: Path,
    steps: Sequence[Step],
    commands: Sequence[Mapping[str, Any]],
    *,
    written: bool,
    as_json: bool,
) -> None:
    try:
        print_report(template, destination, steps, commands, written=written, as_json=as_json)
    except OSError as error:
        if not written:
            raise
        reason = error.strerror or error
        raise ReportLost(
            f"{destination} is written, only the report of it could not be printed ({reason})."
        ) from None


def _template(name: str) -> Template:
    """A bundled template loads no plugin; any other name is looked for among the plugins'."""
    from iii_skill.scaffold.catalog import bundled

    return bundled(name) or _catalog().get(name)


def _catalog() -> Catalog:
    """The bundled templates and those of plugins; plugins that failed stand among the broken ones."""
    from iii_skill.plugins import load_plugins
    from iii_skill.scaffold.catalog import BrokenTemplate, full_catalog

    plugins = load_plugins()
    catalog = full_catalog((path, source.package) for path, source in plugins.template_directories())
    catalog.broken += [
        BrokenTemplate(broken.source.entry_point, broken.source.package, broken.reason)
        for broken in plugins.broken
    ]
    return catalog
