"""`iii-skill migrate` moves state between the engine's stores and adapters, and says what stayed behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from iii_state_file import FileAdapter
from iii_state_file.config import FileConfig
from support import postgres
from support.kv_files import archived, write_scope
from support.redis import settings, shared

from iii_skill.adapter import settled
from iii_skill.cli.main import cli

HARD = {
    "z": '{"n":9007199254740993,"empty":[],"none":{},"f":1.0,"minus":-0.0}',
    "a": "null",
    "": '"é 👍 \\u0000"',
    "m/../x": "[1,2.50,1e308]",
}


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(cli, ["migrate", *arguments])


def moved(*arguments: str, code: int = 0) -> dict[str, Any]:
    """The report of a run with --json."""
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


async def all_of(directory: Path) -> dict[str, list[tuple[str, bytes]]]:
    """All that a file adapter's directory holds."""
    adapter = FileAdapter()
    await adapter.open(FileConfig(data_dir=str(directory)))
    try:
        scopes: Sequence[str] = await settled(adapter.scopes())
        return {scope: list(await settled(adapter.list(scope))) for scope in sorted(scopes)}
    finally:
        await adapter.close()


def stored(directory: Path) -> dict[str, list[tuple[str, bytes]]]:
    """The same, outside an event loop."""
    return asyncio.run(all_of(directory))


@pytest.fixture
def kv(tmp_path: Path) -> Path:
    """A directory of the real engine."""
    directory = tmp_path / "kv_store_data.db"
    directory.mkdir()
    write_scope(directory, "users", HARD)
    write_scope(directory, "a/b ~é", {"k": "1"})
    write_scope(directory, "", {"k": '"empty scope"'})
    return directory


def test_a_directory_of_the_engine_arrives_whole_and_in_order(kv: Path, tmp_path: Path) -> None:
    report = moved("--from", "iii-kv", str(kv), "--to", "file", "--data-dir", str(tmp_path / "state"))
    assert (report["scopes"], report["keys"], report["ok"]) == (3, 6, True)
    assert stored(tmp_path / "state") == {
        "": [("k", b'"empty scope"')],
        "a/b ~é": [("k", b"1")],
        "users": [(key, value.encode()) for key, value in HARD.items()],
    }


def test_bookkeeping_and_leftovers_are_skipped_and_named(kv: Path, tmp_path: Path) -> None:
    write_scope(kv, "__state_private_namespaces", {"mail": '{"functions_prefix":"mail","scopes":["x"]}'})
    write_scope(kv, "state_barrier", {"id": '{"arrived":{},"complete":false}'})
    (kv / "users.bin.tmp").write_bytes(b"half")
    (kv / "notes.txt").write_text("mine")
    report = moved("--from", "iii-kv", str(kv), "--to", "file", "--data-dir", str(tmp_path / "state"))
    assert report["scopes"] == 3
    assert [finding["name"] for finding in report["skipped"]] == [
        "__state_private_namespaces.bin",
        "notes.txt",
        "state_barrier.bin",
        "users.bin.tmp",
        "mail",
    ]


def test_damaged_files_are_named_and_the_rest_is_moved(kv: Path, tmp_path: Path) -> None:
    whole = (kv / "users.bin").read_bytes()
    (kv / "cut.bin").write_bytes(whole[:-3])
    (kv / "empty.bin").write_bytes(b"")
    (kv / "list.bin").write_bytes(archived(b"[1,2,3,4,5,6]"))
    (kv / "bad%zz.bin").write_bytes(whole)
    (kv / "bad%ff.bin").write_bytes(whole)
    write_scope(kv, "deep", {"k": "[" * 200 + "]" * 200, "fine": "1"})
    result = run("--from", "iii-kv", str(kv), "--to", "file", "--data-dir", str(tmp_path / "state"))
    assert result.exit_code == 1
    damaged = [line for line in result.output.splitlines() if line.startswith("damaged: ")]
    names = [line.split(": ")[1] for line in damaged]
    assert names == ["bad%ff.bin", "bad%zz.bin", "cut", "deep/k", "empty", "list"]
    assert "Moved 7 keys" in result.output
    assert (stored(tmp_path / "state"))["deep"] == [("fine", b"1")]


def test_a_file_larger_than_any_of_the_engine_is_named_and_not_read(kv: Path, tmp_path: Path) -> None:
    with (kv / "huge.bin").open("wb") as file:
        file.truncate(1 << 40)
    result = run("--from", "iii-kv", str(kv), "--to", "file", "--data-dir", str(tmp_path / "state"))
    assert result.exit_code == 1
    assert "damaged: huge: it has 1099511627776 bytes" in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_dry_run_reads_everything_and_makes_nothing(kv: Path, tmp_path: Path) -> None:
    target = tmp_path / "state"
    result = run("--from", "iii-kv", str(kv), "--to", "file", "--data-dir", str(target), "--dry-run")
    assert result.exit_code == 0
    assert "Would move 6 keys" in result.output
    assert not target.exists()


def test_a_target_with_state_is_refused_without_merge(kv: Path, tmp_path: Path) -> None:
    arguments = ("--from", "iii-kv", str(kv), "--to", "file", "--data-dir", str(tmp_path / "state"))
    moved(*arguments)
    for extra in ((), ("--dry-run",)):
        result = run(*arguments, *extra)
        assert result.exit_code == 1
        assert "--merge" in result.output
    write_scope(kv, "users", {"new": "1", "a": "2"})
    report = moved(*arguments, "--merge")
    assert (report["keys"], report["overwritten"]) == (4, 3)
    users = (stored(tmp_path / "state"))["users"]
    assert [key for key, _ in users] == [*HARD, "new"]
    assert dict(users)["a"] == b"2"


def test_state_goes_from_file_to_redis_and_back(kv: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    corner = settings()
    prefix = f"key_prefix={corner['key_prefix']}"
    moved("--from", "iii-kv", str(kv), "--to", "file", "--data-dir", str(first))
    url = corner["redis_url"]
    to_redis = ("--to", "redis", "--redis-url", url, "--adapter-config", prefix)
    assert moved("--from", "file", "--data-dir", str(first), *to_redis)["keys"] == 6
    assert shared().cli("HGET", f"{corner['key_prefix']}state:users", "z") == HARD["z"].encode()
    from_redis = ("--from", "redis", url, "--from-config", prefix)
    assert moved(*from_redis, "--to", "file", "--data-dir", str(second))["keys"] == 6
    assert stored(second) == stored(first)


def test_state_goes_from_file_to_postgres_and_back(kv: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    corner = postgres.settings()
    schema = f"schema={corner['schema']}"
    moved("--from", "iii-kv", str(kv), "--to", "file", "--data-dir", str(first))
    to_postgres = ("--to", "postgres", "--database-url", corner["database_url"], "--adapter-config", schema)
    assert moved("--from", "file", "--data-dir", str(first), *to_postgres)["keys"] == 6
    query = (
        f"SELECT encode(value, 'escape') FROM {corner['schema']}.entry WHERE scope = 'users' AND key = 'a'"
    )
    assert postgres.shared().sql(query) == [[HARD["a"]]]
    refused = run("--from", "file", "--data-dir", str(first), *to_postgres)
    assert refused.exit_code == 1
    assert "--merge" in refused.output
    from_postgres = ("--from", "postgres", corner["database_url"], "--from-config", schema)
    assert moved(*from_postgres, "--to", "file", "--data-dir", str(second))["keys"] == 6
    assert stored(second) == stored(first)


def test_what_the_engine_keeps_in_redis_is_moved(tmp_path: Path) -> None:
    corner = settings()
    start = corner["key_prefix"] + "state:"
    server = shared()
    server.cli("HSET", start + "users", "b", '{"a":[]}', "a", "1.0", "broken", "not json")
    server.cli("HSET", start + "state_barrier", "id", "{}")
    report = moved(
        *("--from", "iii-redis", corner["redis_url"], "--from-config", f"key_prefix={corner['key_prefix']}"),
        *("--to", "file", "--data-dir", str(tmp_path / "state")),
        code=1,
    )
    assert [finding["name"] for finding in report["damaged"]] == ["users/broken"]
    assert [finding["name"] for finding in report["skipped"]] == ["state_barrier"]
    assert stored(tmp_path / "state") == {"users": [("a", b"1.0"), ("b", b'{"a":[]}')]}


REFUSED = "Error: Redis at 127.0.0.1:1 cannot be used now: Connection refused.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "iii-kv", "--to", "memory"], "needs the engine's directory"),
        (["--from", "iii-kv", "./nowhere", "--to", "file"], "There is no directory"),
        (["--from", "iii-redis", "--to", "memory"], "needs the server"),
        (["--from", "nothing", "--to", "memory"], "no state adapter 'nothing'"),
        (["--from", "nothing", "--to", "file"], "--from takes iii-kv (the engine's directory) and iii-redis"),
        (["--from", "memory", "--to", "nothing"], "no state adapter 'nothing'"),
        (["--from", "memory", "here", "--to", "memory"], "takes no LOCATION"),
        (["--from", "file", "./nowhere", "--to", "file"], "There is no directory"),
        (["--from", "file", "./x", "--to", "file", "--data-dir", "./x"], "the same store"),
        (["--from", "iii-redis", "redis://127.0.0.1:1", "--to", "file"], REFUSED),
        (["--from", "iii-kv", ".", "--to", "memory"], "keeps nothing after this command ends"),
        (["--from", "iii-kv", ".", "--to", "file", "--adapter-config", "color=red"], "unknown key 'color'"),
        (["--from", "iii-kv", ".", "--to", "file", "--adapter-config", "color"], "KEY=VALUE"),
    ],
)
def test_mistakes_get_one_clear_sentence(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == (2 if words == "KEY=VALUE" else 1)
    assert words in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []
