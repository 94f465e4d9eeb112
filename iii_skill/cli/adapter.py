"""`iii-skill adapter test NAME`: run the conformance kit against an installed adapter."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from iii_skill.adapter import StateAdapter
from iii_skill.cli.adapter_options import settings_in
from iii_skill.cli.key_values import KEY_VALUE
from iii_skill.cli.output import print_json
from iii_skill.config.reader import adapter_settings
from iii_skill.errors import ConfigurationError
from iii_skill.plugins import AdapterEntry, load_plugins
from iii_skill.testing import Check, Verdict, checks_for, run_checks, unique, unusable
from iii_skill.values import Durability


@click.group()
def adapter() -> None:
    """Test a state adapter against the conformance kit."""


@adapter.command()
@click.argument("name")
@click.option(
    "--config",
    "settings",
    type=KEY_VALUE,
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting of the adapter; {tmp} is a fresh directory, {unique} a fresh word for each check.",
)
@click.option("--only", metavar="TEXT", help="Run the checks whose group or name contains this text.")
@click.option("--repeat", type=click.IntRange(1), default=1, metavar="N", help="Try each check N times.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def test(
    name: str, settings: Sequence[tuple[str, str]], only: str | None, repeat: int, *, as_json: bool
) -> None:
    """Run every check of the adapter contract that applies to NAME; exit code 1 when one fails.

    Each check needs a fresh storage. `data_dir` is set to {tmp}/data by itself; for a store on a server put
    {unique} into the setting that keeps its keys apart, for example --config key_prefix={unique}. What a
    check leaves on a server is erased after it.
    """
    try:
        plugins = load_plugins()
        adapter_type = plugins.adapter(name)
        fresh = _fresh_settings(adapter_type, settings_in(settings, "--config"))
        checks = [check for check in checks_for(adapter_type) if _wanted(check, only)]
        if not checks:
            raise ConfigurationError(f"No check's group or name contains '{only}'.")
        reason = unusable(adapter_type, fresh)
        if reason is not None:
            raise ConfigurationError(f"The adapter '{name}' cannot be tested with these settings: {reason}")
    except ConfigurationError as error:
        raise click.ClickException(error.message) from None
    started = time.perf_counter()
    verdicts = []
    for verdict in run_checks(adapter_type, fresh, checks, repeat=repeat):
        verdicts.append(verdict)
        if not as_json:
            click.echo(_line(verdict))
    report = _report(plugins.adapters[name], verdicts, time.perf_counter() - started)
    if as_json:
        print_json(report)
    else:
        click.echo(f"{name}: {report['passed']} passed, {report['failed']} failed in {report['seconds']} s")
    sys.exit(0 if report["ok"] else 1)


def _fresh_settings(
    adapter_type: type[StateAdapter], given: dict[str, Any]
) -> Callable[[Path], Mapping[str, Any]]:
    """Makes the settings of each check; refused where checks would share or touch storage in use."""
    config_type = adapter_type.config_type
    if any(field.encode_name == "data_dir" for field in msgspec.structs.fields(config_type)):
        given.setdefault("data_dir", "{tmp}/data")
    fresh = any("{tmp}" in value or "{unique}" in value for value in _texts(given))
    if not fresh and (adapter_type.durability is not Durability.NONE or adapter_type.shared):
        raise ConfigurationError(
            f"Each check needs a fresh storage of the adapter '{adapter_type.name}': put {{tmp}} or "
            "{unique} into a setting, for example --config key_prefix={unique}."
        )

    def settings(place: Path) -> dict[str, Any]:
        return _filled(given, str(place), unique())

    adapter_settings(config_type, settings(Path("/")), where="--config", from_text=True)
    return settings


def _texts(given: Mapping[str, Any]) -> Iterator[str]:
    for value in given.values():
        yield from _texts(value) if isinstance(value, Mapping) else (value,)


def _filled(given: Mapping[str, Any], place: str, word: str) -> dict[str, Any]:
    return {
        key: _filled(value, place, word)
        if isinstance(value, Mapping)
        else value.replace("{tmp}", place).replace("{unique}", word)
        for key, value in given.items()
    }


def _wanted(check: Check, only: str | None) -> bool:
    return only is None or only in check.name or only in check.group


def _line(verdict: Verdict) -> str:
    if verdict.passed:
        return f"passed  {verdict.check.name}: {verdict.check.sentence}"
    return f"FAILED  {verdict.check.name}: {verdict.check.sentence}\n        {verdict.reason}"


def _report(entry: AdapterEntry, verdicts: Sequence[Verdict], seconds: float) -> dict[str, Any]:
    failed = sum(not verdict.passed for verdict in verdicts)
    return {
        "adapter": entry.adapter.name,
        "package": entry.source.package,
        "version": entry.source.version,
        "durability": entry.adapter.durability.value,
        "shared": entry.adapter.shared,
        "ok": not failed,
        "passed": len(verdicts) - failed,
        "failed": failed,
        "seconds": round(seconds, 3),
        "checks": [
            {
                "name": verdict.check.name,
                "group": verdict.check.group,
                "promise": verdict.check.sentence,
                "passed": verdict.passed,
                "reason": verdict.reason,
                "seconds": round(verdict.seconds, 4),
            }
            for verdict in verdicts
        ],
    }
