"""The workers inside the host: jobs, messages, schedules and streams beside plain calls of the same run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks import load, servers
from benchmarks.echo_worker import EchoWorker, echo_worker
from benchmarks.figures import Report, Settings
from benchmarks.servers import Server, file_host

SOCKETS = 100


def queue(report: Report, settings: Settings) -> None:
    """Durable jobs on the file store: taken beside `state::set`, done by one worker beside calls to it."""
    count = 5_000 if settings.quick else 40_000
    taken, ratios, cpu, done, beside = [], [], [], [], []
    for _ in range(settings.rounds):
        with file_host() as host:
            figures = [
                uvloop.run(load.run_load(host.ws, tails, host.cpu_seconds, seconds=settings.seconds))
                for tails in (load.only_set(), [_job("bench::nobody", load.VALUE)])
            ]
            sets, jobs = figures
            taken.append(jobs.per_second)
            ratios.append(jobs.per_second / sets.per_second)
            cpu.append(jobs.cpu_us)
        with file_host() as host:
            plain = uvloop.run(_handled(host, (_call(load.VALUE) for _ in range(count)), count))
            worked = uvloop.run(
                _handled(host, (_job("bench::echo", load.VALUE) for _ in range(count)), count)
            )
            done.append(worked)
            beside.append(worked / plain)
    report.add("jobs taken, durable on file", taken, "jobs/s", digits=0)
    report.add("jobs taken / state::set, both durable", ratios, "x", bound=0.5, at_most=False)
    report.add("CPU per job taken", cpu, "us", digits=1)
    report.add("jobs taken and done by one worker, durable on file", done, "jobs/s", digits=0)
    report.add("jobs taken and done / plain calls to the worker", beside, "x", bound=0.7, at_most=False)


def pubsub(report: Report, settings: Settings) -> None:
    """A message to ten subscribers of one worker beside ten calls to it."""
    count = 1_000 if settings.quick else 10_000
    rates, ratios = [], []
    for _ in range(settings.rounds):
        with servers.host("--adapter", "memory") as host:
            plain = uvloop.run(_handled(host, (_call(load.VALUE) for _ in range(10 * count)), 10 * count))
            tail = load.call_tail("publish", b'{"topic":"bench","data":%s}' % load.VALUE)
            told = uvloop.run(_handled(host, (tail for _ in range(count)), 10 * count, ready=_subscribe_ten))
            rates.append(told)
            ratios.append(told / plain)
    report.add("messages to 10 subscribers", rates, "messages/s", digits=0)
    report.add("a message to 10 subscribers / 10 calls", ratios, "x", bound=0.7, at_most=False)


def cron(report: Report, settings: Settings) -> None:
    """What a thousand schedules that are not due cost."""
    with servers.host("--adapter", "memory") as host:
        share = uvloop.run(_idle_schedules(host, 1_000, max(settings.seconds, 2.0)))
    report.add("1,000 schedules that wait", share * 100, "% CPU", bound=1)


def stream(report: Report, settings: Settings) -> None:
    """How late a hundred subscribers hear of a thousand writes each second, and of a hundred all of them."""
    one, all_of_them = [], []
    for _ in range(settings.rounds):
        with servers.host("--adapter", "memory") as host:
            one.append(uvloop.run(_streamed(host, 1_000, settings.seconds, groups=SOCKETS)))
            all_of_them.append(uvloop.run(_streamed(host, 100, settings.seconds, groups=1)))
    report.add("1,000 stream events/s, each to one of 100 sockets, p99", one, "ms", bound=20)
    report.add("100 stream events/s, each to all of 100 sockets, p99", all_of_them, "ms", bound=20)


def _call(value: bytes) -> bytes:
    return load.call_tail("bench::echo", value)


def _job(function_id: str, value: bytes) -> bytes:
    return load.call_tail(function_id, value)[:-1] + b',"action":{"type":"enqueue","queue":"bench"}}'


def _subscribe_ten(worker: EchoWorker) -> None:
    for number in range(10):
        worker.say(_trigger(f"s{number}", "subscribe", {"topic": "bench"}))


def _trigger(name: str, kind: str, config: object) -> dict[str, object]:
    return {
        "type": "registertrigger",
        "id": name,
        "trigger_type": kind,
        "function_id": "bench::echo",
        "config": config,
    }


async def _handled(
    host: Server, tails: Iterable[bytes], count: int, *, ready: Callable[[EchoWorker], None] | None = None
) -> float:
    """Calls that one worker gets in a second, from the first tail to the last of `count` calls."""
    worker = await echo_worker(host.ws)
    if ready is not None:
        ready(worker)
        await asyncio.sleep(0.2)
    begin = time.perf_counter()
    await load.send_all(host.ws, tails, in_flight=128)
    async with asyncio.timeout(120):
        while worker.heard < count:  # noqa: ASYNC110 - an event for each frame would be measured too
            await asyncio.sleep(0.002)
    seconds = time.perf_counter() - begin
    worker.transport.disconnect()
    return count / seconds


async def _idle_schedules(host: Server, count: int, seconds: float) -> float:
    worker = await echo_worker(host.ws)
    for number in range(count):
        # Times of day, all within the year to come and none of them now.
        expression = f"{number % 60} {number % 59} {number % 23} 1 1 *"
        worker.say(_trigger(f"c{number}", "cron", {"expression": expression}))
    await asyncio.sleep(1.0)
    before = host.cpu_seconds()
    await asyncio.sleep(seconds)
    used = host.cpu_seconds() - before
    worker.transport.disconnect()
    return used / seconds


class _Subscriber(WSListener):
    """Keeps how late each event was, by the time that its data brings."""

    def __init__(self, group: int, late: list[float]) -> None:
        super().__init__()
        self._group = group
        self._late = late
        self.synced = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        topic = {"subscriptionId": "s", "streamName": "bench", "groupId": f"g{self._group}"}
        transport.send(WSMsgType.TEXT, msgspec.json.encode({"type": "join", "data": topic}))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        text = frame.get_payload_as_bytes()
        _, found, rest = text.partition(b'"sent":')
        if b'"type":"sync"' in text:
            self.synced.set()
        elif found:
            self._late.append(time.perf_counter() - float(rest[: rest.index(b"}")]))


async def _streamed(host: Server, per_second: int, seconds: float, *, groups: int) -> float:
    """The 99th percentile of how late the events of so many writes are, in milliseconds."""
    late: list[float] = []
    assert host.stream is not None
    sockets = []
    for number in range(SOCKETS):
        _, made = await ws_connect(lambda number=number: _Subscriber(number % groups, late), host.stream)
        assert isinstance(made, _Subscriber)
        sockets.append(made)
    async with asyncio.timeout(30):
        await asyncio.gather(*(socket.synced.wait() for socket in sockets))
    late.clear()
    writer = await echo_worker(host.ws)
    count = int(per_second * seconds)
    begin = time.perf_counter()
    for number in range(count):
        due = begin + number / per_second
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        group, now = number % groups, time.perf_counter()
        data = {"stream_name": "bench", "group_id": f"g{group}", "item_id": "i", "data": {"sent": now}}
        writer.say({"type": "invokefunction", "function_id": "stream::set", "data": data})
    expected = count * SOCKETS // groups
    async with asyncio.timeout(30):
        while len(late) < expected:  # noqa: ASYNC110 - an event for each frame would be measured too
            await asyncio.sleep(0.005)
    for socket in (*sockets, writer):
        socket.transport.disconnect()
    return sorted(late)[int(len(late) * 0.99)] * 1000
