"""Writing is all or nothing: full disks, signals, missing rights, links and bad paths change nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from iii_skill.scaffold.errors import UnsafePath, WriteFailed
from iii_skill.scaffold.plan import FileAction, Step, plan
from iii_skill.scaffold.render import safe_path
from iii_skill.scaffold.write import Interrupted, write

FILES = {"a.txt": b"a", "deep/er/b.txt": b"b" * 1000, "deep/c.txt": b"c"}


def tree(directory: Path) -> dict[str, bytes | str]:
    """Everything below the directory: files with content, links with target."""
    found: dict[str, bytes | str] = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else "directory"
    return found


def steps(destination: Path, on_conflict: str = "overwrite") -> list[Step]:
    return plan(destination, FILES, on_conflict=on_conflict)


def test_a_new_destination_gets_every_file(tmp_path: Path) -> None:
    target = tmp_path / "new" / "er"
    write(target, steps(target))
    assert {path: (target / path).read_bytes() for path in FILES} == FILES
    assert list(tmp_path.iterdir()) == [tmp_path / "new"]
    assert list((tmp_path / "new").iterdir()) == [target]


def test_an_existing_destination_keeps_what_is_not_in_the_plan(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "a.txt").chmod(0o755)
    write(tmp_path, steps(tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "a.txt").read_bytes() == b"a"
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o755
    assert not list(tmp_path.glob(".iii-skill-*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    assert os.getuid() == 0, "mounting a small disk needs root: run the tests as root or in a container"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_leaves_nothing_behind(small_disk: Path, exists: bool) -> None:
    target = small_disk / "project"
    if exists:
        target.mkdir()
        (target / "a.txt").write_text("old")
    before = tree(small_disk)
    big = {"a.txt": b"new", "big.bin": b"x" * 200_000}
    with pytest.raises(WriteFailed, match="No space left"):
        write(target, plan(target, big, on_conflict="overwrite"))
    assert tree(small_disk) == before


def test_a_destination_that_is_a_mount_point_is_written(small_disk: Path) -> None:
    (small_disk / "a.txt").write_text("old")
    write(small_disk, steps(small_disk))
    assert (small_disk / "a.txt").read_bytes() == b"a"


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_an_error_between_two_files_puts_everything_back(tmp_path: Path, stop_at: int) -> None:
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.txt").write_text("old c")
    before = tree(tmp_path)
    planned = steps(tmp_path)
    calls = 0
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise OSError(5, "Input/output error", str(target))
        return replace(self, target)

    with mock.patch.object(Path, "replace", failing), pytest.raises(WriteFailed, match="Input/output error"):
        write(tmp_path, planned)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["write_bytes", "replace"])
def test_a_signal_in_the_middle_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    (tmp_path / "a.txt").write_text("old")
    before = tree(tmp_path)
    planned = steps(tmp_path)
    original = getattr(Path, moment)

    def signalled(self: Path, *arguments: object) -> object:
        os.kill(os.getpid(), number)
        return original(self, *arguments)

    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with mock.patch.object(Path, moment, signalled), pytest.raises(Interrupted):
        write(tmp_path, planned)
    assert tree(tmp_path) == before
    assert handlers == [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]


WITHOUT_RIGHTS = """
import os, sys
from pathlib import Path
from iii_skill.scaffold.errors import WriteFailed
from iii_skill.scaffold.plan import plan
from iii_skill.scaffold.write import write
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
target = Path(sys.argv[1])
try:
    write(target, plan(target, {"a": b"a"}, on_conflict="fail"))
except WriteFailed as error:
    print(error.message)
"""


@pytest.mark.parametrize("mode", [0o555, 0])
@pytest.mark.parametrize("name", ["", "project"])
def test_a_destination_without_the_right_to_write_or_enter_is_refused(name: str, mode: int) -> None:
    """Root may write anywhere, so a child without that power tries."""
    with tempfile.TemporaryDirectory() as directory:
        locked = Path(directory)
        locked.chmod(mode)
        command = [sys.executable, "-c", WITHOUT_RIGHTS, str(locked / name)]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/")
        locked.chmod(0o755)
        assert "Permission denied" in done.stdout, done
        assert list(locked.iterdir()) == []


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    project = tmp_path / "project"
    project.mkdir()
    (project / "deep").symlink_to(outside)
    with pytest.raises(UnsafePath, match="leads out"):
        steps(project)
    assert list(outside.iterdir()) == []


def test_a_link_made_after_planning_is_refused_too(tmp_path: Path) -> None:
    outside, project = tmp_path / "outside", tmp_path / "project"
    outside.mkdir()
    project.mkdir()
    planned = steps(project)
    (project / "deep").symlink_to(outside)
    before = tree(project)
    with pytest.raises(UnsafePath, match="leads out"):
        write(project, planned)
    assert tree(project) == before
    assert list(outside.iterdir()) == []


def test_a_file_changed_after_planning_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    planned = steps(tmp_path)
    (tmp_path / "a.txt").write_text("newer")
    with pytest.raises(WriteFailed, match="changed by another program"):
        write(tmp_path, planned)
    assert (tmp_path / "a.txt").read_text() == "newer"


def test_a_file_where_a_directory_belongs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("a file")
    with pytest.raises(UnsafePath, match="needs a directory"):
        steps(tmp_path)
    with pytest.raises(UnsafePath, match="is a file"):
        steps(tmp_path / "deep")
    with pytest.raises(UnsafePath, match="deep is a file"):
        steps(tmp_path / "deep" / "er" / "project")


OUTSIDE = ["../x", "a/../../x", "/etc/x", "a//b", "./a", "", "a\\b", "c:x", ".git/hooks/x", "..", "a/.."]


@pytest.mark.parametrize("path", [*OUTSIDE, "a\0b", "a\nb"])
def test_a_template_cannot_name_a_path_outside(path: str) -> None:
    with pytest.raises(UnsafePath):
        safe_path(path)


def test_delete_and_skip_are_carried_out(tmp_path: Path) -> None:
    (tmp_path / "gone").write_text("x")
    (tmp_path / "kept").write_text("y")
    write(
        tmp_path,
        [Step("gone", FileAction.DELETE, b"", b"x"), Step("kept", FileAction.SKIP, b"z", b"y")],
    )
    assert tree(tmp_path) == {"kept": b"y"}
