"""What is measured of commands: start to ready, printing, writing projects, moving state."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

from redis import Redis

from benchmarks import load
from benchmarks.figures import Report, Settings
from benchmarks.redis_process import redis_process
from benchmarks.servers import file_host


def start(report: Report, settings: Settings) -> None:
    """Start to ready, idle memory, and the commands that only print or write."""
    ready, idle = [], []
    for _ in range(max(settings.rounds, 3)):
        with file_host() as host:
            ready.append(host.ready_s * 1000)
            idle.append(host.rss_bytes() / 1e6)
    report.add("start to ready (file)", ready, "ms", bound=250, digits=0)
    report.add("idle memory", idle, "MB", bound=60, digits=1)
    cli = [sys.executable, "-m", "iii_skill"]
    with file_host() as host:
        words = ["--url", host.ws]
        subprocess.run([*cli, "state", "set", "s", "k", "1", *words], check=True, capture_output=True)
        gets = _wall([*cli, "state", "get", "s", "k", *words])
    bare = _wall([sys.executable, "-c", "pass"])
    report.add("iii-skill state get", gets, "ms", bound=150, digits=0)
    report.add(
        "iii-skill state get, of a bare Python", statistics.median(gets) / statistics.median(bare), "x"
    )
    report.add("iii-skill --help", _wall([*cli, "--help"]), "ms", bound=150, digits=0)
    with tempfile.TemporaryDirectory() as home:
        names = iter(range(100))
        scaffold = [
            _wall([*cli, "scaffold", "python", f"{home}/w{next(names)}", "--defaults"], times=1)[0]
            for _ in range(6)
        ]
    report.add("iii-skill scaffold python --defaults", scaffold[1:], "ms", bound=400, digits=0)


def _wall(command: list[str], times: int = 5) -> list[float]:
    walls = []
    for _ in range(times):
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        walls.append((time.perf_counter() - begin) * 1000)
    return walls


def migrate(report: Report, settings: Settings) -> None:
    """Out of a Redis that an engine wrote into a file store, and from there into Redis again."""
    keys = 2_000 if settings.quick else 20_000
    move = [sys.executable, "-m", "iii_skill", "migrate", "--json"]
    into, out = [], []
    for _ in range(settings.rounds):
        with (
            redis_process() as old,
            redis_process() as new,
            tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as data,
        ):
            with Redis.from_url(old) as client:
                client.hset("state:bench", mapping={f"k{number}": load.VALUE for number in range(keys)})
            into += _wall([*move, "--from", "iii-redis", old, "--to", "file", "--data-dir", data], times=1)
            out += _wall(
                [*move, "--from", "file", "--data-dir", data, "--to", "redis", "--redis-url", new], times=1
            )
            with Redis.from_url(new) as client:
                assert client.hlen("state:bench") == keys
    report.add("migrate iii-redis to file", [keys / wall * 1000 for wall in into], "keys/s", digits=0)
    report.add("migrate file to redis", [keys / wall * 1000 for wall in out], "keys/s", digits=0)
