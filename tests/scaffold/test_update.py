"""`iii-skill scaffold update` after killed runs, with open conflicts, with lost or unreadable files."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner, Result

from iii_skill.cli.scaffold import scaffold

KILLED = """
import os, pathlib, signal
replace, calls = pathlib.Path.replace, 0

def killed(self, target):
    global calls
    calls += 1
    if calls == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

pathlib.Path.replace = killed
from iii_skill.cli.main import main
main()
"""
OTHER = ("--entity", "car", "--plural", "cars", "--docker")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(scaffold, list(arguments), prog_name="iii-skill scaffold")


def files(directory: Path) -> dict[str, bytes]:
    found = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A worker as it was scaffolded, edited at its top."""
    made = tmp_path / "project"
    assert run("python", str(made), "--defaults").exit_code == 0
    worker = made / "project.py"
    worker.write_text("# my own line\n" + worker.read_text())
    return made


def clash(project: Path) -> None:
    """Edit a line that other answers change too."""
    worker = project / "project.py"
    worker.write_text(worker.read_text().replace('"products::create"', '"goods::create"'))


def test_the_report_says_whether_something_changed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert "Nothing changed in this directory.\n" in run("update", ".").output
    assert "Python worker written to this directory.\n" in run("update", ".", *OTHER).output
    assert "cd ." not in run("python", ".", "--answers", ".iii-skill.toml", "--on-conflict", "skip").output


@pytest.mark.parametrize("call", range(1, 8))
def test_a_killed_update_is_completed_by_running_it_again(project: Path, tmp_path: Path, call: int) -> None:
    whole = tmp_path / "whole"
    subprocess.run(["cp", "-r", project, whole], check=True)
    command = [sys.executable, "-c", KILLED.format(call=call), "scaffold", "update"]
    done = subprocess.run([*command, str(project), *OTHER], capture_output=True, timeout=30)
    assert done.returncode == -signal.SIGKILL
    assert files(project)["project.py"].startswith(b"# my own line\n")
    again = run("update", str(project), *OTHER)
    assert again.exit_code == 0, again.output
    (left,) = project.glob(".iii-skill-*/")
    assert f"{left} is left of a run that was killed" in again.output
    subprocess.run(["rm", "-r", left], check=True)
    assert run("update", str(whole), "--name", "project", *OTHER).exit_code == 0
    assert files(project) == files(whole)


INTERRUPTED = """
import signal
from iii_skill.scaffold.render import Renderer
Renderer.render = lambda *_: signal.raise_signal(signal.SIGINT)
from iii_skill.cli.main import main
main()
"""


@pytest.mark.parametrize("words", [["update", "."], ["python", ".", "--on-conflict", "overwrite"]])
def test_an_interrupt_before_the_first_file_is_written_ends_with_130(project: Path, words: list[str]) -> None:
    before = files(project)
    command = [sys.executable, "-c", INTERRUPTED, "scaffold", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project, timeout=30)
    assert (done.returncode, done.stderr.strip()) == (130, "Interrupted.")
    assert files(project) == before


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("markers", "project.py holds conflicts of an earlier update; choose what stays"),
        ("rej", "project.py.rej is left of an earlier update; take what you want out of it and remove it"),
    ],
)
def test_conflicts_that_nobody_decided_stop_the_next_update(project: Path, form: str, words: str) -> None:
    """Markers inside markers could not be read, and a second .rej would take the place of the first."""
    clash(project)
    assert run("update", str(project), *OTHER, "--conflict", form).exit_code == 3
    before = files(project)
    for other in ((), ("--plural", "autos")):
        result = run("update", str(project), *other, "--conflict", form)
        assert (result.exit_code, files(project)) == (3, before)
        assert words in result.output
    assert "Nothing changed" not in result.output


def test_line_ends_of_an_editor_stay_and_conflict_with_nothing(project: Path) -> None:
    worker = project / "project.py"
    worker.write_bytes(worker.read_bytes().replace(b"\n", b"\r\n"))
    result = run("update", str(project), *OTHER)
    assert result.exit_code == 0, result.output
    text = worker.read_bytes()
    assert text.startswith(b"# my own line\r\n")
    assert b'"cars::create"' in text
    assert text.count(b"\n") == text.count(b"\r\n")


@pytest.mark.parametrize("edited", [False, True])
def test_files_that_differ_by_their_line_ends_alone_are_equal(tmp_path: Path, edited: bool) -> None:
    """As a checkout on Windows has them; the archive of the last render is no text."""
    made = tmp_path / "project"
    assert run("python", str(made), "--defaults").exit_code == 0
    for path in made.rglob("*"):
        if path.is_file() and path.name != ".iii-skill.base":
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    if edited:
        worker = made / "project.py"
        worker.write_bytes(b"# my own line\r\n" + worker.read_bytes())
    before = files(made)
    again = run("python", str(made), "--defaults", *(("--on-conflict", "skip") if edited else ()))
    assert again.exit_code == 0, again.output
    assert run("update", str(made)).exit_code == 0
    assert {**files(made), ".iii-skill.toml": b""} == {**before, ".iii-skill.toml": b""}
    assert run("update", str(made), *OTHER).exit_code == 0
    text = files(made)["project.py"]
    assert b'"cars::create"' in text
    assert text.startswith(b"# my own line\r\n") is edited
    assert text.count(b"\n") == text.count(b"\r\n")


def test_a_byte_order_mark_is_read_and_stays(project: Path) -> None:
    for name in (".iii-skill.toml", "project.py", "README.md"):
        path = project / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    result = run("update", str(project), *OTHER)
    assert result.exit_code == 0, result.output
    for name in ("project.py", "README.md"):
        text = (project / name).read_bytes()
        assert text.startswith(b"\xef\xbb\xbf")
        assert text.count(b"\xef\xbb\xbf") == 1
        assert b"cars" in text
    assert (project / "project.py").read_bytes()[3:].startswith(b"# my own line\n")


def linked(project: Path) -> dict[str, str]:
    """Let the user's own files stand where the template's were, by links; gives where each leads."""
    (project / "docs").mkdir()
    for name in ("project.py", "README.md"):
        (project / name).rename(project / "docs" / name)
        (project / name).symlink_to(f"docs/{name}")
    return {name: f"docs/{name}" for name in ("project.py", "README.md")}


def test_a_linked_file_stays_a_link(project: Path) -> None:
    links = linked(project)
    assert run("update", str(project), *OTHER).exit_code == 0
    for name, leads_to in links.items():
        assert os.readlink(project / name) == leads_to
        assert "cars" in (project / leads_to).read_text()


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 5])
def test_undoing_restores_links_and_what_they_lead_to(project: Path, stop_at: int) -> None:
    links = linked(project)
    (project / "tests" / "test_worker.py").unlink()
    (project / "tests" / "test_worker.py").symlink_to("nowhere-yet.py")
    before = files(project)
    calls = 0
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise OSError(5, "Input/output error", str(target))
        return replace(self, target)

    with mock.patch.object(Path, "replace", failing):
        assert run("update", str(project), *OTHER).exit_code == 6
    assert files(project) == before
    assert {name: os.readlink(project / name) for name in links} == links
    assert os.readlink(project / "tests" / "test_worker.py") == "nowhere-yet.py"


def test_a_link_that_the_template_dropped_goes_and_its_file_stays(project: Path) -> None:
    made = project.parent / "with-docker"
    assert run("python", str(made), "--defaults", "--docker").exit_code == 0
    (made / "own").mkdir()
    (made / "Dockerfile").rename(made / "own" / "Dockerfile")
    (made / "Dockerfile").symlink_to("own/Dockerfile")
    assert run("update", str(made), "--no-docker").exit_code == 0
    assert not (made / "Dockerfile").is_symlink()
    assert (made / "own" / "Dockerfile").is_file()


def test_a_conflict_names_the_file_beside(project: Path) -> None:
    clash(project)
    result = run("update", str(project), *OTHER, "--conflict", "rej")
    assert "with conflicts in project.py (what the template wanted is in project.py.rej)" in result.output


def damaged(archive: bytes) -> bytes:
    """The archive with a file in it that cannot be unpacked."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        start = opened.getinfo("project.py").header_offset + 60
    return archive[:start] + b"\xff" * 40 + archive[start + 40 :]


@pytest.mark.parametrize("loss", ["missing", "no archive", "damaged inside"])
def test_without_the_old_render_it_says_why_everything_conflicts(project: Path, loss: str) -> None:
    base = project / ".iii-skill.base"
    if loss == "missing":
        base.unlink()
    else:
        base.write_bytes(b"x" if loss == "no archive" else damaged(base.read_bytes()))
    result = run("update", str(project))
    assert result.exit_code == 3
    assert ".iii-skill.base is missing or damaged" in result.output
    assert "# my own line\n" in (project / "project.py").read_text()


@pytest.mark.parametrize("command", ["update", "new"])
def test_a_file_that_cannot_be_read_is_one_sentence(project: Path, command: str) -> None:
    (project / "project.py").unlink()
    (project / "project.py").symlink_to("project.py")
    before = files(project)
    words = ["update", str(project)] if command == "update" else ["python", str(project), "--defaults"]
    result = run(*words)
    assert (result.exit_code, files(project)) == (6, before)
    assert "Error: Nothing was written: Too many levels of symbolic links" in result.output
    assert "project.py" in result.output
