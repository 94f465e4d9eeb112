"""`iii-skill migrate`: move state between the real engine's stores and adapters."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict

import click

from iii_skill.cli.adapter_options import settings_in
from iii_skill.cli.key_values import KEY_VALUE
from iii_skill.cli.output import print_json
from iii_skill.errors import AdapterError, ConfigurationError
from iii_skill.migrate.move import Report, move, require_empty, survey
from iii_skill.migrate.sides import Side, open_source, open_target, plan
from iii_skill.plugins import load_plugins


@click.command()
@click.option("--from", "source_kind", metavar="KIND", required=True, help="iii-kv, iii-redis or an adapter.")
@click.argument("location", required=False)
@click.option(
    "--to", "target_name", metavar="ADAPTER", required=True, help="The adapter that takes the state."
)
@click.option("--data-dir", metavar="DIR", help="Directory of whichever side needs one; the target first.")
@click.option("--redis-url", metavar="URL", help="Server of whichever side needs one; the target first.")
@click.option("--database-url", metavar="URL", help="Database of whichever side needs one; the target first.")
@click.option(
    "--adapter-config",
    type=KEY_VALUE,
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting of the target, as timeout=2 or history.keep=10; may be repeated.",
)
@click.option(
    "--from-config",
    type=KEY_VALUE,
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting of the source; may be repeated.",
)
@click.option("--merge", is_flag=True, help="Write into a target that holds state; keys of the source win.")
@click.option("--dry-run", is_flag=True, help="Read everything, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def migrate(
    *,
    source_kind: str,
    location: str | None,
    target_name: str,
    data_dir: str | None,
    redis_url: str | None,
    database_url: str | None,
    adapter_config: Sequence[tuple[str, str]],
    from_config: Sequence[tuple[str, str]],
    merge: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Move state from KIND (at LOCATION) into ADAPTER, in order; exit code 1 when something stayed behind.

    \b
    iii-skill migrate --from iii-kv ./kv_store_data.db --to file --data-dir ./state
    iii-skill migrate --from iii-redis redis://localhost --to file --data-dir ./state
    iii-skill migrate --from file --data-dir ./state --to redis --redis-url redis://localhost
    iii-skill migrate --from redis redis://localhost --to postgres --database-url postgresql://localhost/app

    Stop the engine or host that writes to the source first: what is written during the move may stay behind.
    The source is only read.
    """
    # What an adapter logs for the watchers of a host, this command says itself.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        source, target = plan(
            load_plugins(),
            source_kind=source_kind,
            location=location,
            target_name=target_name,
            shared={"data_dir": data_dir, "redis_url": redis_url, "database_url": database_url},
            source_settings=settings_in(from_config, "--from-config"),
            target_settings=settings_in(adapter_config, "--adapter-config"),
        )
        report = asyncio.run(_run(source, target, merge=merge, dry_run=dry_run, quiet=as_json))
    except (AdapterError, ConfigurationError) as error:
        raise click.ClickException(error.message) from None
    if as_json:
        data = {
            "from": source.label,
            "to": target.label,
            "dry_run": dry_run,
            "ok": report.ok,
            **asdict(report),
        }
        print_json(data)
    else:
        _tell(report, target, dry_run=dry_run)
    sys.exit(0 if report.ok else 1)


async def _run(source_side: Side, target_side: Side, *, merge: bool, dry_run: bool, quiet: bool) -> Report:
    source = await open_source(source_side)
    try:
        scopes = await source.scopes()
        shown = sys.stderr if sys.stderr.isatty() and not quiet else io.StringIO()
        with click.progressbar(length=len(scopes), label="scopes", file=shown) as bar:

            def progress() -> None:
                bar.update(1)

            if dry_run:
                if target_side.exists:
                    target = await open_target(target_side)
                    try:
                        await require_empty(target, merge=merge)
                    finally:
                        await target.close()
                return await survey(source, scopes, progress=progress)
            target = await open_target(target_side)
            try:
                return await move(source, scopes, target, merge=merge, progress=progress)
            finally:
                await target.close()
    finally:
        await source.close()


def _tell(report: Report, target: Side, *, dry_run: bool) -> None:
    for finding in report.skipped:
        click.echo(f"skipped: {finding.name}: {finding.reason}")
    for finding in report.damaged:
        click.echo(f"damaged: {finding.name}: {finding.reason}")
    for finding in report.unequal:
        click.echo(f"differs: {finding.name}: {finding.reason}")
    what = f"{report.keys} keys ({report.bytes} bytes) in {report.scopes} scopes"
    if dry_run:
        click.echo(f"Would move {what} to {target.label}; nothing was written.")
    else:
        click.echo(f"Moved {what} to {target.label} and read them back.")
    if report.overwritten:
        click.echo(f"{report.overwritten} keys of the target were overwritten.")
    if report.damaged:
        click.echo(f"{len(report.damaged)} things could not be moved; they are named above.")
