"""What is measured: every case adds its figures, the yardstick of a ratio runs in the same round."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from benchmarks import companions, load, observing, servers
from benchmarks.commands import migrate, start
from benchmarks.console_page import looking
from benchmarks.echo_worker import echo_calls
from benchmarks.engines import controlled, engines
from benchmarks.figures import Report, Settings
from benchmarks.http_load import run_http
from benchmarks.load import Figures, run_load
from benchmarks.postgres_process import postgres_process
from benchmarks.redis_process import redis_process
from benchmarks.servers import Server, file_host
from benchmarks.watching import watching

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop, as the host does."""
    return uvloop.run(main)


ATTACH = [sys.executable, "-m", "iii_skill", "attach", "--ready-json", "--log-level", "error"]


def measured(server: Server, tails: Sequence[bytes], settings: Settings, **options: int) -> Figures:
    """One round of load on a server."""
    return run(run_load(server.ws, tails, server.cpu_seconds, seconds=settings.seconds, **options))


def single(server: Server, tails: Sequence[bytes], settings: Settings) -> Figures:
    """One round with one call in flight."""
    return measured(server, tails, settings, connections=1, in_flight=1)


def memory(report: Report, settings: Settings) -> None:
    """The memory adapter beside the echo ceiling."""
    ratios, p99, cpu, rates, ceiling, joined, alone, one = [], [], [], [], [], [], [], []
    for _ in range(settings.rounds):
        with servers.echo() as echo, servers.host("--adapter", "memory") as host:
            top = measured(echo, load.mixed(), settings)
            got = measured(host, load.mixed(), settings)
            ratios.append(got.per_second / top.per_second)
            rates.append(got.per_second)
            ceiling.append(top.per_second)
            p99.append(got.p99_ms)
            cpu.append(got.cpu_us)
            with servers.echo("joined") as joining:
                joined.append(measured(joining, load.mixed(), settings).per_second)
            sets = measured(host, load.only_set(), settings)
            updates = measured(host, load.only_update(), settings)
            alone.append(updates.per_second / sets.per_second)
            one.append(
                single(host, load.only_set(), settings).p50_ms
                / single(echo, load.only_set(), settings).p50_ms
            )
    report.add("echo ceiling, mixed", ceiling, "ops/s", digits=0)
    report.add("echo, the answers of a read in one write", joined, "ops/s", digits=0)
    report.add("memory, mixed", rates, "ops/s", digits=0)
    report.add("memory / echo", ratios, "x", bound=0.7, at_most=False)
    report.add("memory p99", p99, "ms", bound=4)
    report.add("memory CPU per call", cpu, "us", bound=15, digits=1)
    report.add("memory, update / set", alone, "x", bound=0.7, at_most=False)
    report.add("memory, one call at a time / echo", one, "x", bound=1.3)


def file(report: Report, settings: Settings) -> None:
    """The file adapter, every acknowledged write flushed, beside the memory adapter."""
    ratios, p99, cpu, rates, one, flush, behind = [], [], [], [], [], [], []
    for _ in range(settings.rounds):
        with servers.host("--adapter", "memory") as host, file_host() as durable:
            top = measured(host, load.mixed(), settings)
            got = measured(durable, load.mixed(), settings)
            ratios.append(got.per_second / top.per_second)
            rates.append(got.per_second)
            p99.append(got.p99_ms)
            cpu.append(got.cpu_us)
            disk = servers.fsync_seconds(Path()) * 1000
            flush.append(disk)
            behind.append((got.p99_ms - top.p99_ms) / disk)
            one.append(single(durable, load.only_set(), settings).p50_ms - disk)
    report.add("file, mixed", rates, "ops/s", digits=0)
    report.add("file / memory", ratios, "x", bound=0.8, at_most=False)
    report.add("file p99", p99, "ms", bound=5)
    report.add("file CPU per call", cpu, "us", digits=1)
    report.add("one flush of the disk", flush, "ms", digits=3)
    report.add("file p99 above memory p99, in flushes", behind, "x", bound=1)
    report.add("file, one set at a time, above one flush", one, "ms", bound=0.15, digits=3)


def history(report: Report, settings: Settings) -> None:
    """What it costs to keep earlier versions: durable sets with the setting `history` and without it."""
    sizes = {"100 B": b'"%s"' % (b"v" * 98), "1 kB": b'"%s"' % (b"v" * 998)}
    rates: dict[str, list[float]] = {size: [] for size in sizes}
    cpu: dict[str, list[float]] = {size: [] for size in sizes}
    for turn in range(3 * settings.rounds):
        with file_host() as without, file_host(settings="history: {}") as keeping:
            for size, value in sizes.items():
                tails = load.only_set(value=value)
                # Each is the first one as often as the other.
                first, second = (without, keeping) if turn % 2 else (keeping, without)
                got = {server: measured(server, tails, settings) for server in (first, second)}
                rates[size].append(got[keeping].per_second / got[without].per_second)
                cpu[size].append(got[keeping].cpu_us / got[without].cpu_us)
    for size in sizes:
        report.add(f"file, set with history / without, {size}", rates[size], "x", bound=0.85, at_most=False)
        report.add(f"the same, CPU per call, {size}", cpu[size], "x")


def redis(report: Report, settings: Settings) -> None:
    """The Redis adapter on a local server, revision and stream included, beside the memory adapter."""
    ratios, p99, cpu, rates, updates = [], [], [], [], []
    for _ in range(settings.rounds):
        with redis_process() as url, servers.host("--adapter", "memory") as host:
            top = measured(host, load.mixed(), settings)
            with servers.host("--redis-url", url) as remote:
                got = measured(remote, load.mixed(), settings)
                alone = measured(remote, load.only_update(), settings)
            ratios.append(got.per_second / top.per_second)
            rates.append(got.per_second)
            p99.append(got.p99_ms)
            cpu.append(got.cpu_us)
            updates.append(alone.per_second / got.per_second)
    report.add("redis, mixed", rates, "ops/s", digits=0)
    report.add("redis / memory", ratios, "x", bound=0.6, at_most=False)
    report.add("redis p99", p99, "ms", bound=6)
    report.add("redis CPU per call", cpu, "us", bound=20, digits=1)
    report.add("redis, update alone / mixed", updates, "x", bound=0.5, at_most=False)


def postgres(report: Report, settings: Settings) -> None:
    """The Postgres adapter on a local server that flushes, beside the Redis adapter."""
    ratios, p99, cpu, rates, sets, flush, one, two = [], [], [], [], [], [], [], []
    for _ in range(settings.rounds):
        with redis_process() as redis_url, postgres_process() as url:
            with servers.host("--redis-url", redis_url) as remote:
                top = measured(remote, load.mixed(), settings)
            with servers.host("--database-url", url) as durable:
                got = measured(durable, load.mixed(), settings)
                sets.append(measured(durable, load.only_set(), settings).per_second)
                disk = servers.fsync_seconds(Path()) * 1000
                flush.append(disk)
                one.append(single(durable, load.only_set(), settings).p50_ms - disk)
                with servers.host("--database-url", url) as other:
                    alone = measured(durable, load.only_set(), settings, connections=1, in_flight=8)
                    two.append(run(_both(durable, other, settings)) / alone.per_second)
            ratios.append(got.per_second / top.per_second)
            rates.append(got.per_second)
            p99.append(got.p99_ms)
            cpu.append(got.cpu_us)
    report.add("postgres, mixed", rates, "ops/s", digits=0)
    report.add("postgres / redis", ratios, "x", bound=0.4, at_most=False)
    report.add("postgres p99", p99, "ms", digits=1)
    report.add("postgres CPU per call", cpu, "us", digits=1)
    report.add("postgres, sets alone, all flushed", sets, "ops/s", bound=15_000, at_most=False, digits=0)
    report.add("postgres, one set at a time, above one flush", one, "ms", bound=0.6, digits=3)
    report.add("postgres, two hosts on different scopes / one", two, "x", bound=1.7, at_most=False)


async def _both(one: Server, other: Server, settings: Settings) -> float:
    """Sets per second of two hosts together, each with 8 calls in flight on a scope of its own."""
    # Scopes of two buckets.
    loads = (
        run_load(
            host.ws,
            load.only_set(scope),
            host.cpu_seconds,
            seconds=settings.seconds,
            connections=1,
            in_flight=8,
        )
        for host, scope in ((one, b"bench"), (other, b"bench-b"))
    )
    return sum(figures.per_second for figures in await asyncio.gather(*loads))


def lists(report: Report, settings: Settings) -> None:
    """`state::list` of 100 and of 10,000 keys on every adapter, beside memory in the same round."""
    figures: dict[str, list[float]] = {}
    for _ in range(settings.rounds):
        with redis_process() as url:
            hosts = {
                "memory": lambda: servers.host("--adapter", "memory"),
                "file": file_host,
                "redis": lambda: servers.host("--redis-url", url),
            }
            for name, opened in hosts.items():
                with opened() as host:
                    for keys, options in ((100, {}), (10_000, {"connections": 1, "in_flight": 4})):
                        run(fill(host.ws, 0, keys, scope=b"list-%d" % keys))
                        tails = [load.call_tail("state::list", b'{"scope":"list-%d"}' % keys)]
                        got = measured(host, tails, settings, **options)
                        figures.setdefault(f"{name}, list of {keys:,}", []).append(got.per_second)
    for keys in (100, 10_000):
        top = figures[f"memory, list of {keys:,}"]
        report.add(f"memory, list of {keys:,}", top, "lists/s", digits=0)
        for name, bound in (("file", 0.5), ("redis", None)):
            rates = figures[f"{name}, list of {keys:,}"]
            ratios = [rate / most for rate, most in zip(rates, top, strict=True)]
            report.add(f"{name}, list of {keys:,}", rates, "lists/s", digits=0)
            report.add(f"{name} / memory, list of {keys:,}", ratios, "x", bound=bound, at_most=False)


def attach(report: Report, settings: Settings) -> None:
    """An attached state worker (memory) beside the same adapter inside the host."""
    ratios, rates = [], []
    for _ in range(settings.rounds):
        with servers.host("--adapter", "memory") as host, servers.host("--no-state") as engine:
            top = measured(host, load.mixed(), settings)
            command = [*ATTACH, "--engine", engine.ws, "--adapter", "memory"]
            with servers.started(command):
                got = measured(engine, load.mixed(), settings)
            ratios.append(got.per_second / top.per_second)
            rates.append(got.per_second)
    report.add("attached, mixed", rates, "ops/s", digits=0)
    report.add("attached / in the host", ratios, "x", bound=0.5, at_most=False)


def http(report: Report, settings: Settings) -> None:
    """HTTP through a worker beside bare uvicorn that asks the same worker.

    Rates tell the servers apart only while nobody shares their processor and the load keeps them busy:
    so what both take of it is compared too.
    """
    ratios, cpu, work, rates, p99 = [], [], [], [], []
    for _ in range(settings.rounds):
        with (
            servers.started([sys.executable, "-m", "benchmarks.bare_http"]) as bare,
            servers.host("--adapter", "memory") as host,
        ):
            top = run(run_http(bare, seconds=settings.seconds))
            got = run(run_http(host, seconds=settings.seconds))
            ratios.append(got.per_second / top.per_second)
            work.append(got.cpu_us / top.cpu_us)
            rates.append(got.per_second)
            cpu.append(got.cpu_us)
            p99.append(got.p99_ms)
    report.add("HTTP through a worker", rates, "requests/s", digits=0)
    report.add("HTTP / bare uvicorn and worker", ratios, "x", bound=1.2, at_most=False)
    report.add("HTTP CPU per request", cpu, "us", bound=30, digits=1)
    report.add("HTTP CPU per request / bare uvicorn and worker", work, "x")
    report.add("HTTP p99", p99, "ms")


def lost(report: Report, settings: Settings) -> None:
    """Calls to a worker that answers at once: every one must come back."""
    calls = 50_000 if settings.quick else 1_000_000
    with servers.host("--adapter", "memory") as host:
        begin = time.perf_counter()
        missing = run(echo_calls(host.ws, calls))
        seconds = time.perf_counter() - begin
    report.add(f"answers lost of {calls:,} calls between workers", missing, "", bound=0, digits=0)
    report.add("calls between workers", calls / seconds, "calls/s", digits=0)


def size(report: Report, settings: Settings) -> None:
    """Memory per key, and the cost of a write while a scope grows."""
    keys = 20_000 if settings.quick else 200_000
    with servers.host("--adapter", "memory") as host:
        before = host.rss_bytes()
        run(fill(host.ws, 0, keys))
        report.add(
            "memory per key (150 B values)", (host.rss_bytes() - before) / keys, "B", bound=500, digits=0
        )
    large = 20_000 if settings.quick else 1_000_000
    for name, opened in (("memory", lambda: servers.host("--adapter", "memory")), ("file", file_host)):
        with opened() as host:
            run(fill(host.ws, 0, 1000))
            small = min(_cost(host) for _ in range(3))
            run(fill(host.ws, 1000, large))
            grown = min(_cost(host) for _ in range(3))
            report.add(f"{name}: cost of a set at {large:,} keys / at 1,000", grown / small, "x", bound=1.3)
            report.add(f"{name}: memory at {large:,} keys", host.rss_bytes() / 1e6, "MB", digits=0)


def observers(report: Report, settings: Settings) -> None:
    """Events to observers beside events to a trigger; many observers; what nobody observes costs nothing."""
    count = 5_000 if settings.quick else 40_000
    of_key = {"input.scope": {"$eq": "bench"}, "input.key": {"$eq": "k0"}}
    others = [
        observing.observer(
            f"o{number}", {"input.scope": {"$eq": "bench"}, "input.key": {"$eq": f"other{number}"}}
        )
        for number in range(999)
    ]
    rates, cpu, ratios, many, quiet, size = [], [], [], [], [], []
    for _ in range(settings.rounds):
        with servers.host("--adapter", "memory") as host:
            old = run(observing.events(host, [observing.trigger({"scope": "bench"})], 100, count))
            of_scope = observing.observer("all", {"input.scope": {"$eq": "bench"}})
            new = run(observing.events(host, [of_scope], 100, count))
            one = run(observing.events(host, [observing.observer("one", of_key)], 1, count // 4))
            all_of_them = [observing.observer("one again", of_key), *others]
            rates.append(new.per_second)
            cpu.append(new.cpu_us)
            ratios.append(old.cpu_us / new.cpu_us)
            many.append(run(observing.events(host, all_of_them, 1, count // 4)).cpu_us / one.cpu_us)
        with servers.host("--adapter", "memory") as host:
            alone = measured(host, load.mixed(), settings)
            bytes_each, besides = run(observing.beside(host, 10_000, load.mixed(), settings.seconds))
            again = measured(host, load.mixed(), settings)
            size.append(bytes_each)
            quiet.append((alone.cpu_us + again.cpu_us) / 2 / besides.cpu_us)
    report.add("events of state::on-changed to an observer", rates, "events/s", digits=0)
    report.add("CPU per event, its write included", cpu, "us", digits=1)
    report.add("CPU of an event, trigger / observer", ratios, "x", bound=0.9, at_most=False)
    report.add("CPU of an event, 1,000 observers of other keys / one", many, "x", bound=2)
    report.add("calls nobody observes, no observer / 10,000 of others", quiet, "x", bound=0.98, at_most=False)
    report.add("memory per observer", size, "B", digits=0)


def console(report: Report, settings: Settings) -> None:
    """A console that nobody looks at, beside none: they take turns, in processor time for each call."""
    ratios, open_page = [], []
    for _ in range(settings.rounds):
        with (
            servers.host("--adapter", "memory") as bare,
            servers.host("--adapter", "memory", "--console-port", "0") as shown,
            servers.host("--adapter", "memory", "--console-port", "0") as watched,
            looking(watched),
        ):
            costs: dict[str, list[float]] = {"bare": [], "shown": [], "watched": []}
            for turn in range(6):
                order = [("bare", bare), ("shown", shown), ("watched", watched)]
                for name, server in order if turn % 2 else reversed(order):
                    costs[name].append(measured(server, load.mixed(), settings).cpu_us)
            middle = {name: statistics.median(found) for name, found in costs.items()}
            ratios.append(middle["shown"] / middle["bare"])
            open_page.append(middle["watched"] / middle["bare"])
    report.add("console that nobody looks at, CPU per call / none", ratios, "x", bound=1.01)
    report.add("console with a live page, CPU per call / none", open_page, "x")


def _cost(host: Server) -> float:
    return run(run_load(host.ws, load.only_set(), host.cpu_seconds, seconds=1.0)).cpu_us


async def fill(url: str, first: int, last: int, *, scope: bytes = b"bench") -> None:
    """Set keys k<first> .. k<last>, 256 in flight."""
    tails = (
        load.call_tail("state::set", b'{"scope":"%s","key":"k%d","value":%s}' % (scope, number, load.VALUE))
        for number in range(first, last)
    )
    await load.send_all(url, tails)


CASES: dict[str, Callable[[Report, Settings], None]] = {
    "memory": memory,
    "file": file,
    "history": history,
    "redis": redis,
    "postgres": postgres,
    "lists": lists,
    "attach": attach,
    "http": http,
    "lost": lost,
    "start": start,
    "migrate": migrate,
    "observers": observers,
    "console": console,
    "queue": companions.queue,
    "pubsub": companions.pubsub,
    "cron": companions.cron,
    "stream": companions.stream,
    "watching": watching,
    "engines": engines,
    "controlled": controlled,
    "size": size,
}
