"""Templates that plugins bring through `iii_templates`, and updating a project to a newer one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.distributions import install

PLUGIN = """
    from pathlib import Path
    import iii_skill

    @iii_skill.hookimpl
    def iii_templates():
        return [Path(__file__).parent / "my-templates"]
"""
BROKEN = """
    import iii_skill

    @iii_skill.hookimpl
    def iii_templates():
        raise ValueError("no templates today")
"""
TOML = (
    'name = "note"\ntitle = "Note"\ndescription = "A note."\nlanguage = "python"\nversion = "{version}"\n'
    '[questions.greeting]\ntype = "text"\nhelp = "What to say."\n'
)
TEXT = "one\ntwo {{ greeting }}\nthree\nfour\nfive\n"


class Stranger:
    """A site directory with a plugin, and the command that sees it."""

    def __init__(self, directory: Path) -> None:
        self.site = directory / "site"
        self.site.mkdir()
        self.project = directory / "project"
        install(self.site, "note-templates", PLUGIN)
        self.release("1", {"note.txt.j2": TEXT, "old.txt.j2": "old\n", "kept.txt.j2": "kept\n"})

    def release(self, version: str, files: dict[str, str]) -> None:
        place = self.site / "my-templates" / "note"
        place.mkdir(parents=True, exist_ok=True)
        for path in place.iterdir():
            path.unlink()
        (place / "template.toml").write_text(TOML.format(version=version))
        for name, text in files.items():
            (place / name).write_text(text)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "iii_skill", "scaffold", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(self.site)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30)

    def read(self, name: str) -> str:
        return (self.project / name).read_text()


@pytest.fixture
def stranger(tmp_path: Path) -> Stranger:
    """A plugin and a project made from its template."""
    made = Stranger(tmp_path)
    done = made.run("note", str(made.project), "-d", "greeting=hello")
    assert done.returncode == 0, done.stderr
    return made


def test_a_plugin_template_is_listed_with_its_package(stranger: Stranger) -> None:
    install(stranger.site, "broken-templates", BROKEN)
    (stranger.site / "my-templates" / "faulty").mkdir()
    (stranger.site / "my-templates" / "faulty" / "template.toml").write_text("name = 1")
    done = stranger.run("--list")
    assert done.returncode == 0
    assert "note            A note. (note-templates)" in done.stdout
    assert "faulty of note-templates is left out" in done.stderr
    assert (
        "broken_templates of broken-templates is left out: iii_templates: ValueError: no templates today"
        in done.stderr
    )
    listed = json.loads(stranger.run("--list", "--json").stdout)
    assert {entry["package"] for entry in listed["broken"]} == {"note-templates", "broken-templates"}


def test_a_missing_answer_names_its_option(stranger: Stranger, tmp_path: Path) -> None:
    done = stranger.run("note", str(tmp_path / "other"))
    assert (done.returncode, (tmp_path / "other").exists()) == (2, False)
    assert "give --greeting (What to say.)" in done.stderr


def test_an_untouched_project_takes_the_new_template(stranger: Stranger) -> None:
    stranger.release("2", {"note.txt.j2": TEXT + "six\n", "new.txt.j2": "new\n", "kept.txt.j2": "kept\n"})
    done = stranger.run("update", str(stranger.project))
    assert done.returncode == 0, done.stderr
    assert stranger.read("note.txt") == "one\ntwo hello\nthree\nfour\nfive\nsix\n"
    assert stranger.read("new.txt") == "new\n"
    assert not (stranger.project / "old.txt").exists()
    assert 'version = "2"' in stranger.read(".iii-skill.toml")


def test_edits_and_deletions_stay(stranger: Stranger) -> None:
    (stranger.project / "note.txt").write_text("zero\none\ntwo hello\nthree\nfour\nfive\n")
    (stranger.project / "old.txt").write_text("edited\n")
    (stranger.project / "kept.txt").unlink()
    stranger.release("2", {"note.txt.j2": TEXT + "six\n", "kept.txt.j2": "kept 2\n"})
    done = stranger.run("update", str(stranger.project))
    assert done.returncode == 0, done.stderr
    assert stranger.read("note.txt") == "zero\none\ntwo hello\nthree\nfour\nfive\nsix\n"
    assert stranger.read("old.txt") == "edited\n"
    assert not (stranger.project / "kept.txt").exists()


def test_a_conflict_shows_both_sides(stranger: Stranger) -> None:
    (stranger.project / "note.txt").write_text("one\nmy two\nthree\nfour\nfive\n")
    stranger.release("2", {"note.txt.j2": TEXT.replace("two", "2")})
    done = stranger.run("update", str(stranger.project))
    assert done.returncode == 3
    assert "with conflicts in note.txt:" in done.stderr
    assert stranger.read("note.txt") == (
        "one\n<<<<<<< yours\nmy two\n=======\n2 hello\n>>>>>>> note 2\nthree\nfour\nfive\n"
    )


def test_a_conflict_may_go_into_a_file_beside(stranger: Stranger) -> None:
    (stranger.project / "note.txt").write_text("one\nmy two\nthree\nfour\nfive\n")
    stranger.release("2", {"note.txt.j2": TEXT.replace("two", "2")})
    done = stranger.run("update", str(stranger.project), "--conflict", "rej")
    assert done.returncode == 3
    assert stranger.read("note.txt") == "one\nmy two\nthree\nfour\nfive\n"
    assert "-two hello\n+2 hello\n" in stranger.read("note.txt.rej")


def test_a_dry_run_shows_the_difference_and_writes_nothing(stranger: Stranger) -> None:
    stranger.release("2", {"note.txt.j2": TEXT + "six\n", "old.txt.j2": "old\n", "kept.txt.j2": "kept\n"})
    before = {path: path.read_bytes() for path in stranger.project.iterdir()}
    done = stranger.run("update", str(stranger.project), "--dry-run")
    assert done.returncode == 0
    assert "+six" in done.stdout
    assert "old.txt" not in done.stdout.split("+six")[0]
    assert {path: path.read_bytes() for path in stranger.project.iterdir()} == before


def test_other_answers_are_an_update_too(stranger: Stranger) -> None:
    assert stranger.run("update", str(stranger.project), "-d", "greeting=bye").returncode == 0
    assert "two bye\n" in stranger.read("note.txt")
    assert stranger.run("update", str(stranger.project)).returncode == 0
    assert "two bye\n" in stranger.read("note.txt")


def test_without_the_old_render_every_difference_is_shown(stranger: Stranger) -> None:
    """The archive is lost: nothing tells edits from the template's text, so nothing is overwritten."""
    (stranger.project / ".iii-skill.base").write_bytes(b"damaged")
    (stranger.project / "note.txt").write_text("my own text\n")
    stranger.release("2", {"note.txt.j2": TEXT})
    done = stranger.run("update", str(stranger.project))
    assert done.returncode == 3
    assert "my own text\n" in stranger.read("note.txt")
    assert "two hello\n" in stranger.read("note.txt")
