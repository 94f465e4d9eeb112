"""What a child process of the kit does: open the adapter, write, and tell line by line what was answered."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import itertools
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from iii_skill.adapter import StateAdapter
from iii_skill.errors import AdapterError
from iii_skill.testing.subject import OpenedAdapter

WRITERS = 4
COUNTERS = 2
ENDING_MAKERS = 8
SCOPE = "crash"
MADE = "made"
ENDING = "ending"


def value_of(writer: int, number: int) -> bytes:
    """What a writer writes as its number: of many sizes, and recognisable when torn."""
    return b'"%d %d %s"' % (writer, number, b"%x" % (number % 16) * (number * 977 % 20_000))


def number_of(writer: int, value: bytes) -> int | None:
    """The number of a whole value of this writer, None when it is torn."""
    parts = value.strip(b'"').split(b" ")
    if len(parts) < 2 or not parts[1].isdigit():
        return None
    number = int(parts[1])
    return number if value == value_of(writer, number) else None


def number_in(key: str, value: bytes) -> int | None:
    """The number that a value of this key of SCOPE stands for, None when it is torn."""
    return int(value) if key == "counter" else number_of(int(key.removeprefix("writer-")), value)


def tell(*words: Any) -> None:
    """One line to the parent; short enough to be written whole or not at all."""
    os.write(1, json.dumps(words).encode() + b"\n")


async def hold(store: OpenedAdapter, _base: int) -> None:
    """Keep the storage open until the parent says so, then write once more and close."""
    await store.set("scope", "key", b'"first"')
    tell("open")
    await asyncio.to_thread(sys.stdin.readline)
    await store.set("scope", "key", b'"held"')
    await store.adapter.close()
    tell("finished")


async def write(store: OpenedAdapter, base: int) -> None:
    """Write and read without end; every line says what an answer said."""

    async def writer(name: int) -> None:
        for number in itertools.count(base):
            change = await store.set(SCOPE, f"writer-{name}", value_of(name, number))
            tell("wrote", f"writer-{name}", number, change.revision)

    async def counter() -> None:
        while True:
            change = await store.update(SCOPE, "counter", lambda old: b"%d" % (int(old or b"0") + 1))
            tell("wrote", "counter", int(change.new or b"0"), change.revision)

    async def maker() -> None:
        for number in itertools.count(base):
            change = await store.set(MADE, f"{number:012}", b"1")
            tell("made", number, change.revision)
            if number % 3 == 0:
                change = await store.delete(MADE, f"{number:012}")
                tell("deleted", number, change.revision)

    async def reader(read: Callable[[], Awaitable[dict[str, bytes]]]) -> None:
        shown: dict[str, bytes] = {}
        while True:
            for key, value in (await read()).items():
                if shown.get(key) != value:
                    shown[key] = value
                    tell("saw", key, number_in(key, value))
            await asyncio.sleep(0)

    async def by_get() -> dict[str, bytes]:
        keys = [*(f"writer-{name}" for name in range(WRITERS)), "counter"]
        return {key: value for key in keys if (value := await store.get(SCOPE, key)) is not None}

    async def by_list() -> dict[str, bytes]:
        return dict(await store.list(SCOPE))

    tell("open")
    tasks = [writer(name) for name in range(WRITERS)] + [counter() for _ in range(COUNTERS)]
    await asyncio.gather(*tasks, maker(), reader(by_get), reader(by_list))


async def pause(store: OpenedAdapter, _base: int) -> None:
    """Stop in the middle of an `update`, as a machine that is suspended, until the parent continues us."""
    stopped = False

    def change(old: bytes | None) -> bytes:
        nonlocal stopped
        if not stopped:
            stopped = True
            tell("stopping")
            os.kill(os.getpid(), signal.SIGSTOP)
        return b"%d" % (int(old or b"0") + 1)

    tell("open")
    try:
        done = await store.update("scope", "counter", change)
    except AdapterError as error:
        tell("refused", error.message)
    else:
        tell("wrote", (done.new or b"").decode())
    await store.adapter.close()


async def expire(store: OpenedAdapter, _base: int) -> None:
    """Make keys that end soon, without end; every line says what an answer said, or that a key ended."""
    store.adapter.on_expired = lambda change: tell("ended", change.key)
    numbers = itertools.count()

    async def maker() -> None:
        for number in numbers:
            key = f"key-{number}"
            await store.set(ENDING, key, b'"%b"' % key.encode())
            tell("made", key)
            at = store.adapter.clock.now_ms() + number * 37 % 300
            await store.expire(ENDING, key, at)
            tell("given", key, at)

    async def sweeper() -> None:
        while True:
            await store.sweep()
            await asyncio.sleep(0.001)

    tell("open")
    await asyncio.gather(sweeper(), *(maker() for _ in range(ENDING_MAKERS)))


SCENARIOS = {"expire": expire, "hold": hold, "pause": pause, "write": write}


def main() -> None:
    """Read the request from the first line of standard input and do the scenario."""
    request = json.loads(sys.stdin.readline())
    sys.path[:] = request["sys_path"]
    adapter_type = _load(request["module"], request["file"], request["class"])

    async def run() -> None:
        adapter = adapter_type()
        await adapter.open(msgspec.convert(request["settings"], adapter_type.config_type, strict=False))
        await SCENARIOS[request["scenario"]](OpenedAdapter(adapter), request["options"].get("base", 0))

    asyncio.run(run())


def _load(module: str, file: str, name: str) -> type[StateAdapter]:
    """The adapter class by module name, or by file where a test runner gave the module its name."""
    try:
        loaded = importlib.import_module(module)
    except ImportError:
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[module] = loaded
        spec.loader.exec_module(loaded)
    found: Any = loaded
    for part in name.split("."):
        found = getattr(found, part)
    adapter_type: type[StateAdapter] = found
    return adapter_type


if __name__ == "__main__":
    main()
