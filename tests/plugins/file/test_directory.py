"""The data directory is private, locked by one process, and refused with a sentence when it is not usable."""

# ruff: noqa: ASYNC220, ASYNC221, ASYNC240 (nothing else runs on the event loop of these tests)
from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from iii_state_file import FileAdapter, FileConfig, directory, layouts
from support.file_store import answer, open_store, refusal

from iii_skill.errors import AdapterError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where the store of a test lies."""
    return tmp_path / "data"


async def filled(data: Path, *, keys: int = 1) -> None:
    """A closed store with some keys."""
    async with open_store(data) as adapter:
        await asyncio.gather(*(answer(adapter.set("scope", f"key-{i}", b'"value"')) for i in range(keys)))


def modes(path: Path) -> dict[str, int]:
    """The permissions of everything in a directory."""
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()}


async def test_directory_and_files_are_private(data: Path) -> None:
    mask = os.umask(0)
    try:
        async with open_store(data / "deep" / "er") as adapter:
            await answer(adapter.set("scope", "key", b"1"))
            assert adapter.data_dir == data / "deep" / "er"
            for made in (data, data / "deep", data / "deep" / "er"):
                assert stat.S_IMODE(made.stat().st_mode) == 0o700
            names = ("lock", "state.db", "state.db-wal", "state.db-shm")
            assert modes(adapter.data_dir) == dict.fromkeys(names, 0o600)
    finally:
        os.umask(mask)


async def test_files_of_a_restored_copy_become_private(data: Path) -> None:
    await filled(data)
    for file in data.iterdir():
        file.chmod(0o644)
    async with open_store(data):
        assert set(modes(data).values()) == {0o600}


async def test_the_directory_is_absolute_and_keeps_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    adapter = FileAdapter()
    await adapter.open(FileConfig())
    try:
        monkeypatch.chdir(tmp_path)
        assert adapter.data_dir == tmp_path / "project" / ".iii" / "state"
        assert await answer(adapter.set("scope", "key", b"1"))
    finally:
        await adapter.close()
    assert not (tmp_path / ".iii").exists()


async def test_a_closed_store_is_one_database_file(data: Path) -> None:
    await filled(data)
    assert sorted(file.name for file in data.iterdir()) == ["lock", "state.db"]


async def test_a_second_store_in_one_process_is_refused(data: Path) -> None:
    async with open_store(data):
        message = await refusal(data)
        assert f"in use by process {os.getpid()}" in message
    async with open_store(data):
        pass


HOLDER = """
import asyncio, sys
sys.argv = ["/usr/bin/iii-skill", "serve", "--secret", "token"]
from iii_state_file import FileAdapter, FileConfig
async def main(path):
    adapter = FileAdapter()
    await adapter.open(FileConfig(data_dir=path))
    print("open", flush=True)
    sys.stdin.read()
asyncio.run(main({data!r}))
"""


async def test_a_second_process_is_refused_by_the_name_of_the_first(data: Path) -> None:
    code = HOLDER.format(data=str(data))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        message = await refusal(data)
        assert f"is in use by process {holder.pid} (iii-skill serve)" in message
        assert "token" not in message
        holder.send_signal(signal.SIGKILL)
    async with open_store(data) as adapter:
        assert await answer(adapter.get("scope", "key")) is None


async def test_a_symbolic_link_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    data.symlink_to(tmp_path / "real")
    assert str(tmp_path / "real") in await refusal(data)
    assert list((tmp_path / "real").iterdir()) == []


async def test_a_dangling_symbolic_link_is_refused(data: Path, tmp_path: Path) -> None:
    data.symlink_to(tmp_path / "nowhere")
    assert "symbolic link" in await refusal(data)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", directory.FILES)
async def test_a_symbolic_link_inside_is_refused(data: Path, tmp_path: Path, name: str) -> None:
    await filled(data)
    target = tmp_path / "target"
    target.write_bytes(b"of someone else")
    (data / name).unlink(missing_ok=True)
    (data / name).symlink_to(target)
    assert "symbolic link" in await refusal(data)
    assert target.read_bytes() == b"of someone else"


async def test_a_link_above_the_directory_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    await filled(tmp_path / "link" / "data")
    assert (tmp_path / "real" / "data" / "state.db").exists()


async def test_a_file_in_place_of_the_directory_is_refused(data: Path) -> None:
    data.write_text("mine")
    assert "not a directory" in await refusal(data)
    assert "not a directory" in await refusal(data / "below")
    assert data.read_text() == "mine"


async def test_a_directory_in_place_of_the_database_is_refused(data: Path) -> None:
    (data / "state.db").mkdir(parents=True)
    assert "no regular file" in await refusal(data)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "may not be used by this user"),
        (errno.EROFS, "read-only file system"),
        (errno.ENOSPC, "full disk"),
        (errno.EDQUOT, "full disk"),
        (errno.ENOTDIR, "not a directory"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_every_error_of_the_system_says_what_to_do(number: int, words: str) -> None:
    sentence = directory.describe_os_error(Path("/data"), OSError(number, os.strerror(number)))
    assert words in sentence
    assert sentence.startswith("The data directory /data ")
    assert sentence.endswith("(--data-dir).")


UNPRIVILEGED = """
import asyncio, concurrent.futures.thread, os, sys
from iii_state_file import FileAdapter, FileConfig
from iii_skill.errors import StoreRefused
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    asyncio.run(FileAdapter().open(FileConfig(data_dir=sys.argv[1])))
except StoreRefused as refused:
    print(refused.message)
"""


@pytest.mark.parametrize(("mode", "name"), [(0o500, "."), (0o000, "."), (0o400, "state.db"), (0o500, "new")])
async def test_missing_permission_is_refused(tmp_path: Path, mode: int, name: str) -> None:
    open_to_all = tmp_path
    while open_to_all != Path("/tmp") and open_to_all != open_to_all.parent:
        open_to_all.chmod(open_to_all.stat().st_mode | 0o055)
        open_to_all = open_to_all.parent
    data = tmp_path / "data"
    await filled(data)
    if os.getuid() == 0:
        os.chown(data, 65534, 65534)
        if name != "state.db":
            for file in data.iterdir():
                os.chown(file, 65534, 65534)
    target = data if name == "new" else data / name
    target.chmod(mode)
    path = data / "new" if name == "new" else data
    try:
        command = [sys.executable, "-c", UNPRIVILEGED, str(path)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    finally:
        data.chmod(0o700)
    assert str(data) in told
    assert "may not be used by this user" in told
    assert "(--data-dir)" in told


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["state.db", "lock"])
async def test_files_of_another_user_are_refused(data: Path, name: str) -> None:
    await filled(data)
    os.chown(data / name, 65534, 65534)
    message = await refusal(data)
    assert f"may not be used by this user ({name} belongs to" in message
    assert (data / name).stat().st_uid == 65534


async def test_a_network_file_system_is_refused_unless_allowed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"26 1 254:1 / / rw - ext4 /dev/vda1 rw\n40 26 0:35 / {tmp_path} rw - nfs4 server:/home rw\n"
    )
    monkeypatch.setattr(directory, "_MOUNTINFO", mounts)
    message = await refusal(data)
    assert "network file system (nfs4)" in message
    assert "allow_network_fs" in message
    async with open_store(data, allow_network_fs=True):
        pass


async def test_a_newer_schema_is_refused(data: Path) -> None:
    await filled(data)
    with sqlite3.connect(data / "state.db") as other:
        other.execute(f"PRAGMA user_version = {layouts.SCHEMA_VERSION + 1}")
    other.close()
    before = (data / "state.db").read_bytes()
    assert "newer version (schema 6, this one reads 5): upgrade" in await refusal(data)
    assert (data / "state.db").read_bytes() == before


async def test_a_database_of_another_program_is_refused(data: Path) -> None:
    data.mkdir()
    with sqlite3.connect(data / "state.db") as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    before = (data / "state.db").read_bytes()
    assert "another program" in await refusal(data)
    assert (data / "state.db").read_bytes() == before


@pytest.mark.parametrize("content", [b"{}", b"SQLite format 3", b"SQLite format 2\0" + bytes(4096)])
async def test_a_file_that_is_no_database_is_refused(data: Path, content: bytes) -> None:
    data.mkdir()
    (data / "state.db").write_bytes(content)
    assert "no SQLite database" in await refusal(data)
    assert (data / "state.db").read_bytes() == content


async def test_an_empty_file_becomes_a_store(data: Path) -> None:
    data.mkdir()
    (data / "state.db").touch()
    await filled(data)


@pytest.mark.parametrize("place", [100, 2048 + 3, 2048 * 3 + 5, 2048 * 8 + 7, -2048, -1])
async def test_a_damaged_file_is_refused_or_whole(data: Path, place: int) -> None:
    await filled(data, keys=200)
    content = bytearray((data / "state.db").read_bytes())
    place %= len(content)
    content[place : place + 600] = b"\x5a" * len(content[place : place + 600])
    (data / "state.db").write_bytes(content)
    if place == len(content) - 1:
        # One changed byte inside a value is seen by no structure: its row is refused, the others are there.
        async with open_store(data) as adapter:
            with pytest.raises(
                AdapterError, match=r"row of key 'key-\d+' in scope 'scope' is damaged"
            ) as damaged:
                await answer(adapter.list("scope"))
            assert len(await answer(adapter.keys("scope"))) == 200
            for index in range(200):
                if f"'key-{index}'" in damaged.value.message:
                    with pytest.raises(AdapterError, match="is damaged"):
                        await answer(adapter.get("scope", f"key-{index}"))
                else:
                    assert await answer(adapter.get("scope", f"key-{index}")) == b'"value"'
        return
    assert "damaged" in await refusal(data)
    assert (data / "state.db").read_bytes() == content


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
async def test_a_truncated_file_is_refused(data: Path, share: float) -> None:
    await filled(data, keys=200)
    content = (data / "state.db").read_bytes()
    (data / "state.db").write_bytes(content[: int(len(content) * share)])
    assert "damaged" in await refusal(data)


LIMITED = """
import asyncio, resource, signal, sys
from iii_state_file import FileAdapter, FileConfig
from iii_skill.errors import IiiSkillError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main(path, limit):
    adapter = FileAdapter()
    adapter.on_failure = lambda failure: print("failed", failure.message)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        await adapter.open(FileConfig(data_dir=path))
        for count in range(10_000):
            await adapter.set("scope", "key", b"%d" % count)
            print("stored", count, flush=True)
    except IiiSkillError as error:
        print(type(error).__name__, error.message)
    await adapter.close()
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_a_file_that_may_not_grow_stops_the_store(data: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(data), "200000"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    stored = [int(line.split()[1]) for line in lines if line.startswith("stored")]
    assert len(stored) > 10
    assert [line.split()[0] for line in lines[len(stored) :]] == ["failed", "StorageFailed"]
    async with open_store(data) as adapter:
        assert int(await answer(adapter.get("scope", "key"))) >= stored[-1]


async def test_a_file_that_may_not_grow_refuses_a_new_store(data: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(data), "4096"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["StoreRefused"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    async with open_store(data) as adapter:
        assert await answer(adapter.set("scope", "key", b"1"))
