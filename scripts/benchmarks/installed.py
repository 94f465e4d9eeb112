"""Any installed adapter beside the memory adapter: load, one call at a time, lists and pages."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from benchmarks import load, servers
from benchmarks.cases import fill, measured, run, single
from benchmarks.figures import Report, Settings
from iii_skill.testing import unique


def installed(report: Report, settings: Settings, *, name: str, config: Sequence[str]) -> None:
    """The figures of the adapter; `{tmp}` and `{unique}` in its settings are fresh in every round."""
    figures: dict[str, list[float]] = {}

    def note(figure: str, value: float) -> None:
        figures.setdefault(figure, []).append(value)

    for _ in range(settings.rounds):
        with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as place:
            word = unique()
            fresh = [text.replace("{tmp}", place).replace("{unique}", word) for text in config]
            options = [option for text in fresh for option in ("--adapter-config", text)]
            with (
                servers.host("--adapter", "memory") as yardstick,
                servers.host("--adapter", name, *options) as host,
            ):
                top = measured(yardstick, load.mixed(), settings)
                got = measured(host, load.mixed(), settings)
                note("mixed", got.per_second)
                note("/ memory", got.per_second / top.per_second)
                note("p99", got.p99_ms)
                note("CPU per call", got.cpu_us)
                note("one set at a time", single(host, load.only_set(), settings).p50_ms)
                gets = [load.call_tail("state::get", b'{"scope":"list-100","key":"k1"}')]
                for keys in (100, 10_000):
                    run(fill(host.ws, 0, keys, scope=b"list-%d" % keys))
                note("one get at a time", single(host, gets, settings).p50_ms)
                tails = [load.call_tail("state::list", b'{"scope":"list-100"}')]
                note("list of 100", measured(host, tails, settings).per_second)
                tails = [load.call_tail("state::list_keys", b'{"scope":"list-10000"}')]
                note("keys of 10,000", single(host, tails, settings).p50_ms)
                tails = [load.call_tail("state::list_entries", b'{"scope":"list-10000","limit":10}')]
                note("page of 10 out of 10,000", single(host, tails, settings).p50_ms)
    for figure, unit, digits in (
        ("mixed", "ops/s", 0),
        ("/ memory", "x", 2),
        ("p99", "ms", 2),
        ("CPU per call", "us", 1),
        ("one set at a time", "ms", 3),
        ("one get at a time", "ms", 3),
        ("list of 100", "lists/s", 0),
        ("keys of 10,000", "ms", 2),
        ("page of 10 out of 10,000", "ms", 3),
    ):
        joint = " " if figure == "/ memory" else ", "
        report.add(f"{name}{joint}{figure}", figures[figure], unit, digits=digits)
