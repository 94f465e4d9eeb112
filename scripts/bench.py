"""Measure the host against its yardsticks, all in one run: `scripts/bench [--json] [--quick] [NAME ...]`.

`--adapter NAME [--config KEY=VALUE ...]` measures any installed adapter beside the memory adapter instead.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
sys.path.insert(0, str(SCRIPTS))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SCRIPTS), os.environ.get("PYTHONPATH"))))

from benchmarks.cases import CASES  # noqa: E402
from benchmarks.figures import Report, Settings  # noqa: E402
from benchmarks.installed import installed  # noqa: E402


def machine() -> str:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    )


def main() -> None:
    # SIGTERM ends the servers that were started, as an interrupt does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--adapter", metavar="NAME", help="only this installed adapter")
    parser.add_argument(
        "--config",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a setting of it; {tmp} and {unique} are fresh in every round",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(CASES)}")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in CASES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(CASES)}")
    settings = Settings(rounds=1, seconds=1.0, quick=True) if given.quick else Settings()
    report = Report(machine())
    if given.adapter is not None:
        installed(report, settings, name=given.adapter, config=given.config)
    for name in given.names or (CASES if given.adapter is None else ()):
        print(f"[bench] {name}", file=sys.stderr, flush=True)
        CASES[name](report, settings)
    print(json.dumps(report.as_json(), indent=1) if given.json else report.as_table())


if __name__ == "__main__":
    main()
