"""Set-ups that are broken, each by a few lines, and the check that must name the cause first."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

import pytest
from doctor.place import FILE_BASED, Place
from support.host import HostProcess, free_port
from support.postgres import PostgresServer, connection, postgres_server
from support.redis import RedisServer, redis_server

from iii_skill.doctor import directory, store, workers
from iii_skill.host import open_host

Break = Callable[[Place], Awaitable[None]]
BROKEN: dict[str, tuple[str, Break]] = {}
"""Name of the set-up -> the check that comes first, and how it is made."""

ROOT = os.geteuid() == 0
SLOW_FLUSH_S = directory.SLOW_FLUSH_S


def first(check: str) -> Callable[[Break], Break]:
    """This check must be shown first."""

    def take(make: Break) -> Break:
        BROKEN[make.__name__] = (check, make)
        return make

    return take


def listener(place: Place, port: int) -> None:
    """Something that listens and says nothing."""
    held = socket.create_server(("127.0.0.1", port))
    place.stack.callback(held.close)


def redis(place: Place, *settings: str) -> RedisServer:
    """A server that ends with the test."""
    return place.stack.enter_context(redis_server(*settings))


def memory_disk(place: Place, size: str) -> None:
    """A disk in memory in the place of the data directory."""
    if not ROOT:
        pytest.skip("only root mounts")
    place.store.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place.store], check=True)
    place.stack.callback(subprocess.run, ["umount", "-l", place.store], check=True)


def holds_the_lock(place: Place) -> None:
    """A program that has the store locked, until the test ends."""
    script = "flock 9 && echo locked && exec sleep 600"
    command = ["bash", "-c", f"exec 9< {place.store / 'lock'}; {script}"]
    held = place.stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
    place.stack.callback(held.kill)
    assert held.stdout is not None
    assert held.stdout.readline() == b"locked\n"


def changed(place: Place, module: ModuleType, name: str, value: float) -> None:
    """Another value of a constant, until the test ends."""
    place.stack.callback(setattr, module, name, getattr(module, name))
    setattr(module, name, value)


def gone_process() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen(["true"]) as gone:
        return gone.pid


def skill(place: Place) -> Path:
    """Where an installer puts the skill."""
    folder = place.cwd / ".claude" / "skills" / "iii-state-management"
    folder.parent.mkdir(parents=True)
    return folder


@first("config.file")
async def a_key_that_there_is_not(place: Place) -> None:
    place.config("workers:\n  - name: iii-state\n    config:\n      adaptor: {name: file}\n")


@first("config.file")
async def yaml_that_cannot_be_read(place: Place) -> None:
    place.config("workers: [\n")


@first("config.file")
async def a_file_of_the_old_generation_with_a_wrong_class(place: Place) -> None:
    place.config(
        "modules:\n  - class: modules::state::StateModule\n    config:\n      adapter:\n"
        "        class: modules::state::adapters::KvStor\n"
    )


@first("config.file")
async def a_file_that_is_not_there(place: Place) -> None:
    place.asked["config_file"] = place.cwd / "engine.yaml"


@first("config.file")
async def settings_that_an_engine_moved_and_somebody_lost(place: Place) -> None:
    place.config(
        "workers:\n  - name: iii-state\n    # 'iii-state': value now lives in the configuration worker\n"
    )


@first("config.file")
async def a_stored_file_that_is_empty(place: Place) -> None:
    place.config("workers:\n  - name: iii-state\n")
    place.config("", "config/iii-state.yaml")


@first("config.variable")
async def a_variable_that_is_not_set(place: Place) -> None:
    place.config(
        "workers:\n  - name: iii-state\n    config:\n      adapter:\n        name: redis\n"
        "        config: {redis_url: '${REDIS_URL}'}\n"
    )


@first("plugins.adapter")
async def an_adapter_that_is_not_installed(place: Place) -> None:
    place.state("dynamo")


@first("config.adapter")
async def a_setting_that_the_adapter_does_not_have(place: Place) -> None:
    place.state("file", directory="data")


@first("config.companions")
async def a_queue_with_a_wrong_setting(place: Place) -> None:
    place.config("workers:\n  - name: iii-state\n  - name: iii-queue\n    config: {queue_configs: 5}\n")


@first("config.exposure")
async def open_to_every_machine(place: Place) -> None:
    place.config("workers:\n  - name: iii-state\n  - name: iii-worker-manager\n    config: {host: 0.0.0.0}\n")


@first("config.address")
async def an_address_of_another_machine(place: Place) -> None:
    place.asked |= {"address": "192.0.2.1", "token": "secret"}


@first("config.token")
async def two_tokens(place: Place) -> None:
    place.env |= {"III_TOKEN": "one", "III_SKILL_TOKEN": "two"}


@first("config.token")
async def a_token_with_a_blank(place: Place) -> None:
    place.env["III_SKILL_TOKEN"] = "secret "


@first("config.token")
async def a_token_file_that_is_empty(place: Place) -> None:
    (place.cwd / "token").write_text("\n")
    (place.cwd / "token").chmod(0o600)
    place.asked["token_file"] = place.cwd / "token"


@first("config.stored")
async def settings_stored_for_a_worker_that_is_not_listed(place: Place) -> None:
    await place.host()
    place.config(FILE_BASED + "  - name: iii-http\n")
    place.config("id: iii-queue\nvalue: {}\n", "config/iii-queue.yaml")


@first("config.notes")
async def a_section_without_effect(place: Place) -> None:
    await place.host()
    place.config(FILE_BASED + "  - name: iii-http\n  - name: iii-exec\n    config: {exec: [ls]}\n")


@first("directory.place")
async def a_file_in_the_place_of_the_directory(place: Place) -> None:
    place.store.parent.mkdir()
    place.store.write_text("")


@first("directory.place")
async def a_link_in_the_place_of_the_directory(place: Place) -> None:
    place.store.parent.mkdir()
    (place.cwd / "real").mkdir()
    place.store.symlink_to(place.cwd / "real")


@first("directory.files")
async def a_link_in_the_place_of_the_database(place: Place) -> None:
    await place.written()
    (place.store / "state.db").rename(place.cwd / "state.db")
    (place.store / "state.db").symlink_to(place.cwd / "state.db")


@first("directory.files")
async def a_log_without_its_database(place: Place) -> None:
    await place.written()
    (place.store / "state.db").rename(place.store / "state.db-wal")


@first("directory.files")
async def files_of_another_user(place: Place) -> None:
    if not ROOT:
        pytest.skip("only root gives files away")
    await place.written()
    os.chown(place.store / "state.db", 65534, 65534)


@first("directory.space")
async def a_full_disk(place: Place) -> None:
    memory_disk(place, "2m")


@first("directory.filesystem")
async def a_disk_in_memory(place: Place) -> None:
    await place.host()
    memory_disk(place, "400m")


@first("directory.lock")
async def a_forgotten_host_on_another_port(place: Place) -> None:
    other = HostProcess(place.home, "--data-dir", str(place.store)).start()
    place.stack.callback(other.kill)


@first("directory.lock")
async def a_forgotten_program_that_listens_nowhere(place: Place) -> None:
    await place.written()
    holds_the_lock(place)


@first("directory.integrity")
async def a_damaged_database(place: Place) -> None:
    await place.written()
    with (place.store / "state.db").open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.seek(file.tell() // 2)
        file.write(b"\xff" * 4096)


@first("directory.flush")
async def a_slow_disk(place: Place) -> None:
    await place.host()
    await place.written()
    keep = os.fdatasync

    def slow(handle: int) -> None:
        keep(handle)
        # A disk that turns, in a machine that is busy.
        signal.sigtimedwait([], 0.08)

    os.fdatasync = slow
    place.stack.callback(setattr, os, "fdatasync", keep)
    changed(place, directory, "SLOW_FLUSH_S", SLOW_FLUSH_S)


@first("directory.log")
async def a_log_without_end(place: Place) -> None:
    await place.host()
    await place.written()
    with (place.store / "state.db-wal").open("wb") as file:
        file.truncate(2 * 1024**3)
    (place.store / "state.db-wal").chmod(0o600)


@first("store.server")
async def a_redis_that_is_away(place: Place) -> None:
    place.state("redis", redis_url=f"redis://127.0.0.1:{free_port()}")


@first("store.server")
async def a_wrong_password(place: Place) -> None:
    server = redis(place, "--requirepass", "right")
    place.state("redis", redis_url=server.url.replace("://", "://:wrong@"))


@first("store.server")
async def a_database_that_is_away(place: Place) -> None:
    place.state("postgres", database_url=f"postgresql://nobody@127.0.0.1:{free_port()}/none")


@first("config.exposure")
async def a_token_on_the_side_of_the_worker_only(place: Place) -> None:
    place.asked["address"] = "0.0.0.0"
    place.env["III_TOKEN"] = "secret"


@first("store.promises")
async def a_redis_that_throws_keys_away(place: Place) -> None:
    server = redis(place, "--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")
    place.state("redis", redis_url=server.url)


@first("store.promises")
async def a_redis_without_a_file(place: Place) -> None:
    await place.host()
    place.state("redis", redis_url=redis(place).url)


@first("store.rights")
async def a_redis_user_without_a_right(place: Place) -> None:
    await place.host()
    server = redis(place, "--appendonly", "yes", "--user", "small", "on", ">pw", "~*", "+@all", "-xadd")
    place.state("redis", redis_url=server.url.replace("://", "://small:pw@"))


@first("store.rights")
async def a_redis_user_who_may_not_ask_for_his_rights(place: Place) -> None:
    await place.host()
    rights = ("+@all", "-acl", "-smembers")
    server = redis(place, "--appendonly", "yes", "--user", "small", "on", ">pw", "~*", *rights)
    place.state("redis", redis_url=server.url.replace("://", "://small:pw@"))


@first("store.flush")
async def a_redis_that_never_flushes(place: Place) -> None:
    await place.host()
    server = redis(place, "--appendonly", "yes", "--appendfsync", "no")
    place.state("redis", redis_url=server.url)


def postgres(place: Place, *settings: str) -> PostgresServer:
    """A server that ends with the test, as the store of the place."""
    server = place.stack.enter_context(postgres_server(*settings))
    place.state("postgres", database_url=server.url)
    return server


@first("store.server")
async def a_database_that_does_not_flush(place: Place) -> None:
    postgres(place, "fsync=off")


@first("store.promises")
async def a_database_without_full_pages(place: Place) -> None:
    await place.host()
    postgres(place, "full_page_writes=off")


@first("store.standbys")
async def a_database_that_waits_for_a_standby_that_is_gone(place: Place) -> None:
    await place.host()
    server = postgres(place)
    async with open_host(adapter="postgres", adapter_config={"database_url": server.url}):
        pass  # The schema is there from before.
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'gone'", writing=True)
    server.sql("SELECT pg_reload_conf()")


@first("store.transactions")
async def a_database_with_a_transaction_that_was_forgotten(place: Place) -> None:
    await place.host()
    server = postgres(place)
    forgotten = await connection(server)
    place.stack.push_async_callback(forgotten.close)
    await forgotten.execute("BEGIN")
    await forgotten.execute("CREATE TABLE t ()")
    changed(place, store, "LONG_TRANSACTION_S", 0)
    await asyncio.sleep(1.5)


@first("store.durability")
async def a_store_that_keeps_nothing(place: Place) -> None:
    await place.host()
    place.state("memory")


@first("engine.url")
async def an_address_of_the_http_port(place: Place) -> None:
    place.env["III_URL"] = "http://127.0.0.1:3111"


@first("engine.url")
async def an_address_with_a_blank(place: Place) -> None:
    place.env["III_URL"] = "ws://my host:49134"


@first("config.token")
async def a_token_file_that_holds_no_text(place: Place) -> None:
    (place.cwd / "token").write_bytes(bytes(range(128, 200)))
    (place.cwd / "token").chmod(0o600)
    place.asked["token_file"] = place.cwd / "token"


@first("config.file")
async def a_directory_in_the_place_of_the_file(place: Place) -> None:
    (place.cwd / "conf.d").mkdir()
    place.asked["config_file"] = place.cwd / "conf.d"


@first("engine.left")
async def a_host_that_was_killed(place: Place) -> None:
    await place.host()
    place.config(f'{{"ws": "ws://127.0.0.1:{free_port()}", "pid": {gone_process()}}}', ".iii/host.json")


@first("engine.reachable")
async def nothing_at_the_address(place: Place) -> None:
    place.env["III_URL"] = f"ws://127.0.0.1:{free_port()}"


@first("engine.reachable")
async def an_address_beside_the_running_host(place: Place) -> None:
    await place.host()
    place.env["III_URL"] = f"ws://127.0.0.1:{free_port()}"


@first("engine.reachable")
async def a_host_name_that_there_is_not(place: Place) -> None:
    place.env["III_URL"] = "ws://engine.invalid:49134"


@first("engine.greeting")
async def the_http_port_for_the_worker_port(place: Place) -> None:
    await place.host()
    place.env["III_URL"] = f"ws://127.0.0.1:{place.asked['http_port']}"


@first("engine.token")
async def a_worker_without_the_token(place: Place) -> None:
    await place.host(token="secret")


@first("engine.token")
async def a_host_of_this_directory_without_its_token(place: Place) -> None:
    ports = ["--port", str(place.asked["port"]), "--http-port", str(place.asked["http_port"])]
    host = HostProcess(place.cwd, *ports, env={"III_SKILL_TOKEN": "secret"}, ports=False).start()
    place.stack.callback(host.kill)


@first("ports.workers")
async def a_port_that_another_program_holds(place: Place) -> None:
    listener(place, place.asked["port"])


@first("ports.http")
async def an_http_port_that_another_program_holds(place: Place) -> None:
    listener(place, place.asked["http_port"])


@first("ports.http")
async def one_port_for_both(place: Place) -> None:
    place.asked["http_port"] = place.asked["port"]


@first("ports.companions")
async def a_stream_port_that_another_program_holds(place: Place) -> None:
    port = free_port()
    listener(place, port)
    place.config(f"workers:\n  - name: iii-state\n  - name: iii-stream\n    config: {{port: {port}}}\n")


@first("state.served")
async def a_host_without_state(place: Place) -> None:
    await place.host_without_state()


@first("state.owners")
async def a_state_worker_beside_the_host(place: Place) -> None:
    await place.host()
    await place.worker(name="iii-state")


@first("state.owners")
async def a_second_owner_in_another_namespace(place: Place) -> None:
    await place.host_without_state()
    for name, namespace in (("cache", "default"), ("carts", "other")):
        worker = await place.worker(name=name, namespace=namespace)
        for function in ("state::set", "state::list_groups"):
            await worker.register(function, lambda _payload: {"groups": []})
        await worker.result("engine::functions::list", {})


@first("state.answers")
async def a_store_that_fails(place: Place) -> None:
    await place.host_without_state()
    worker = await place.worker(name="broken")

    def fails(_payload: object) -> object:
        raise RuntimeError("the disk is gone")

    for name in ("state::set", "state::list_groups"):
        await worker.register(name, fails)
    await worker.result("engine::functions::list", {})


@first("triggers.functions")
async def a_trigger_without_its_function(place: Place) -> None:
    host = await place.host()
    host.register_trigger("state", "shop::on-chnage", {"scope": "shop"})


@first("triggers.loops")
async def a_function_that_writes_what_it_watches(place: Place) -> None:
    # On a busy machine it goes round less often.
    changed(place, workers, "_LISTEN_S", 2.0)
    changed(place, workers, "_RESTLESS", 5)
    host = await place.host()
    worker = await place.worker(name="shop")
    ops = [{"type": "increment", "path": "n", "by": 1}]

    async def again(_event: object) -> None:
        data = {"scope": "shop", "key": "k", "ops": ops}
        await worker.send({"type": "invokefunction", "function_id": "state::update", "data": data})

    await worker.register("shop::on-change", again)
    await worker.result("engine::functions::list", {})
    host.register_trigger("state", "shop::on-change", {"scope": "shop"})
    await host.trigger("state::set", {"scope": "shop", "key": "k", "value": {"n": 0}})


@first("workers.names")
async def two_workers_of_one_name(place: Place) -> None:
    await place.host()
    await place.worker(name="shop")
    await place.worker(name="shop")


@first("workers.sdk")
async def an_sdk_with_known_faults(place: Place) -> None:
    await place.host()
    await place.worker(name="shop", runtime="python", version="0.23.0")


@first("skill.links")
async def a_link_to_a_skill_that_was_moved(place: Place) -> None:
    skill(place).symlink_to(place.cwd / "gone")


@first("skill.parts")
async def half_a_skill(place: Place) -> None:
    folder = skill(place)
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: iii-state-management\n---\n")


@first("skill.version")
async def a_skill_of_another_version(place: Place) -> None:
    await place.host()
    folder = skill(place)
    for part in ("scripts/iii_skill_run.py", "references/operations.md"):
        (folder / part).parent.mkdir(parents=True)
        (folder / part).write_text("")
    (folder / "SKILL.md").write_text('---\nmetadata:\n  version: "0.0.9"\n---\n')


@first("command.path")
async def a_command_of_another_environment(place: Place) -> None:
    await place.host()
    script = place.cwd / "bin" / "iii-skill"
    script.parent.mkdir()
    script.write_text("#!/opt/other/bin/python3\n")
    script.chmod(0o755)
    place.env["PATH"] = str(script.parent)
