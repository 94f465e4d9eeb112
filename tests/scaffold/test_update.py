"""`iii-skill scaffold update` after killed runs, with open conflicts, with lost or unreadable files."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

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
import os, signal
from iii_skill.scaffold.render import Renderer
Renderer.render = lambda *_: os.kill(os.getpid(), signal.SIGINT)
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
    assert run("update", str(project)).exit_code == 0
    before = files(project)
    result = run("update", str(project), "--plural", "autos", "--conflict", form)
    assert (result.exit_code, files(project)) == (3, before)
    assert words in result.output


def test_line_ends_of_an_editor_stay_and_conflict_with_nothing(project: Path) -> None:
    worker = project / "project.py"
    worker.write_bytes(worker.read_bytes().replace(b"\n", b"\r\n"))
    result = run("update", str(project), *OTHER)
    assert result.exit_code == 0, result.output
    text = worker.read_bytes()
    assert text.startswith(b"# my own line\r\n")
    assert b'"cars::create"' in text
    assert text.count(b"\n") == text.count(b"\r\n")


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
    assert run("update", str(project)).exit_code == 0


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
