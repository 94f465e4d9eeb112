"""`iii-skill doctor`: look at a set-up, say what is wrong and how to mend it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from iii_skill import __version__
from iii_skill.cli.adapter_options import adapter_options, with_adapter
from iii_skill.cli.loop import run_loop
from iii_skill.cli.output import print_json
from iii_skill.cli.printable import printable
from iii_skill.cli.seconds import Seconds
from iii_skill.cli.secrets import TOKEN_VARIABLES
from iii_skill.config import StateConfig
from iii_skill.doctor.outcome import Finding, Status

REPORT_VERSION = 1
FINE, FAILED, COULD_NOT = 0, 1, 2
_OF_SERVE = (
    "config_file",
    "adapter",
    "adapter_config",
    "data_dir",
    "redis_url",
    "database_url",
    "port",
    "http_port",
    "address",
    "dangerously_no_auth",
    "no_state",
)
_LABELS = {
    Status.FAIL: "FAIL",
    Status.UNKNOWN: "??",
    Status.WARN: "warn",
    Status.OK: "ok",
    Status.SKIPPED: "-",
}


@click.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="As for `iii-skill serve`.")
@click.option("--url", metavar="URL", help="The worker port.  [default: III_URL, else that of the settings]")
@adapter_options
@click.option("--port", type=click.IntRange(0, 65535), help="As for `iii-skill serve`.")
@click.option("--http-port", type=click.IntRange(0, 65535), help="As for `iii-skill serve`.")
@click.option("--host", "address", metavar="ADDRESS", help="As for `iii-skill serve`.")
@click.option(
    "--token",
    metavar="SECRET",
    help="What workers present.  [default: III_TOKEN, else III_SKILL_TOKEN]",
)
@click.option("--token-file", type=click.Path(path_type=Path), help="A file that holds the token.")
@click.option("--dangerously-no-auth", is_flag=True, help="As for `iii-skill serve`.")
@click.option("--no-state", is_flag=True, help="As for `iii-skill serve`.")
@click.option("--only", metavar="ID", multiple=True, help="Only this check or group; may be repeated.")
@click.option(
    "--timeout",
    "seconds",
    type=Seconds(0.1, 300),
    default=1.2,
    show_default=True,
    help="For servers and hosts to answer in, all of them side by side.",
)
@click.option("--fix", is_flag=True, help="Put right what is safe to put right, and say what was done.")
@click.option("--strict", is_flag=True, help="Warnings count as failures.")
@click.option("--verbose", "-v", is_flag=True, help="List the checks that are fine too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def doctor(
    *,
    config_file: Path | None,
    url: str | None,
    adapter: str | None,
    adapter_config: tuple[tuple[str, str], ...],
    data_dir: str | None,
    redis_url: str | None,
    database_url: str | None,
    port: int | None,
    http_port: int | None,
    address: str | None,
    token: str | None,
    token_file: Path | None,
    dangerously_no_auth: bool,
    no_state: bool,
    only: tuple[str, ...],
    seconds: float,
    fix: bool,
    strict: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Look at this set-up: what is wrong, and how to mend it.

    Give it the options that `serve` gets. It only looks, unless --fix is given. Exit codes: 0 fine (there
    may be warnings), 1 a check failed, 2 something could not be checked.
    """
    from iii_skill.doctor.examine import chosen, examine
    from iii_skill.doctor.setup import GivenOptions, Setup

    try:
        checks = chosen(only)
    except KeyError as error:
        raise click.BadParameter(
            f"there is no check {error}; `--json` lists them.", param_hint="--only"
        ) from None

    def with_options(state: StateConfig) -> StateConfig:
        return with_adapter(
            state,
            adapter=adapter,
            adapter_config=adapter_config,
            data_dir=data_dir,
            redis_url=redis_url,
            database_url=database_url,
        )

    root = click.get_current_context().find_root()
    asked = GivenOptions(
        config_file=config_file,
        url=url,
        address=address,
        port=port,
        http_port=http_port,
        token=token,
        token_file=token_file,
        no_auth=dangerously_no_auth,
        no_state=no_state,
        seconds=seconds,
        state=with_options,
        variables=lambda: variables_of(root),
    )
    setup = Setup(asked, cwd=Path.cwd(), home=Path.home(), env=os.environ)
    findings, done = run_loop(examine(setup, checks, mend=fix))
    code = _code(findings, strict=strict)
    if as_json:
        bad = [finding for finding in findings if finding.status in (Status.FAIL, Status.UNKNOWN)]
        print_json(
            {
                "report_version": REPORT_VERSION,
                "version": __version__,
                "ok": code == FINE,
                "exit_code": code,
                "target": {"url": setup.target.url, "source": setup.target.source},
                "likeliest_cause": bad[0].id if bad else None,
                "done": done,
                "checks": findings,
            }
        )
    else:
        _print(findings, done, verbose=verbose)
    sys.stdout.flush()
    sys.exit(code)


def _read_as_serve_does() -> None:
    """What serve is told by its environment holds here too, unless this command is told otherwise."""
    for parameter in doctor.params:
        if parameter.name in _OF_SERVE:
            name = parameter.name.upper()
            parameter.envvar = [f"III_SKILL_DOCTOR_{name}", f"III_SKILL_SERVE_{name}"]


_read_as_serve_does()


def _code(findings: list[Finding], *, strict: bool) -> int:
    statuses = {finding.status for finding in findings}
    if Status.FAIL in statuses or (strict and Status.WARN in statuses):
        return FAILED
    return COULD_NOT if Status.UNKNOWN in statuses else FINE


def _print(findings: list[Finding], done: list[str], *, verbose: bool) -> None:
    for line in done:
        click.echo(f"done  {line}")
    counts = dict.fromkeys(Status, 0)
    for finding in findings:
        counts[finding.status] += 1
        quiet = finding.status in (Status.OK, Status.SKIPPED)
        if quiet and not verbose:
            continue
        click.echo(f"{_LABELS[finding.status]:<5} {finding.id}: {printable(finding.found, lines=True)}")
        if not quiet:
            click.echo(f"      fix: {printable(finding.fix, lines=True)}")
            click.echo(f"      see: {finding.docs}")
    said = "Nothing is wrong"
    if counts[Status.FAIL]:
        said = f"{counts[Status.FAIL]} of {len(findings)} checks found a fault, the likeliest cause first"
    elif counts[Status.UNKNOWN]:
        said = "Not everything could be checked"
    rest = [f"{counts[Status.OK]} fine"]
    if counts[Status.WARN]:
        rest.append(f"{counts[Status.WARN]} with a warning")
    if counts[Status.UNKNOWN]:
        rest.append(f"{counts[Status.UNKNOWN]} could not be made")
    click.echo(f"{said}: {', '.join(rest)}, {counts[Status.SKIPPED]} not for this set-up.")


def variables_of(root: click.Context) -> frozenset[str]:
    """The variables that the options of all commands are read from."""
    assert isinstance(root.command, click.Group)
    names = {*TOKEN_VARIABLES.values(), *(f"{name}_FILE" for name in TOKEN_VARIABLES.values())}
    names |= _below(root.command, root, "III_SKILL")
    return frozenset(names)


def _below(group: click.Group, context: click.Context, prefix: str) -> set[str]:
    names: set[str] = set()
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        start = f"{prefix}_{name}".replace("-", "_").upper()
        for parameter in command.params:
            names.add(f"{start}_{parameter.name}".upper())
            own = getattr(parameter, "envvar", None)
            names |= {own} if isinstance(own, str) else set(own or ())
        if isinstance(command, click.Group):
            names |= _below(command, context, start)
    return names
