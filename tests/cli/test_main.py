"""The program as a whole: its environment, a full disk or a narrow terminal behind stdout, completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from iii_skill.cli.main import with_plain_help

FULL = Path("/dev/full")


def command(
    *arguments: str, stdout: int = subprocess.PIPE, **environment: str
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "iii_skill", *arguments]
    return subprocess.run(
        words,
        env=os.environ | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        encoding="latin-1",
        timeout=60,
    )


@pytest.mark.parametrize(
    "variable",
    ["III_SKILL_VERSION", "III_SKILL_HELP", "III_SKILL_ADAPTERS_HELP", "III_SKILL_ADAPTER_TEST_HELP"],
)
def test_no_variable_of_the_environment_replaces_a_command(variable: str) -> None:
    done = command("adapters", "--json", **{variable: "1"})
    assert done.returncode == 0, done.stderr
    assert "adapters" in json.loads(done.stdout)
    tested = command("adapter", "test", "memory", "--only", "nonesuch", **{variable: "1"})
    assert "No check's group or name contains 'nonesuch'." in tested.stderr


def test_a_command_of_a_plugin_keeps_its_own_short_option() -> None:
    @click.command()
    @click.option("-h", "--height", type=int)
    def tower(height: int) -> None:
        click.echo(f"{height} m")

    command_of_plugin = with_plain_help(tower)
    assert CliRunner().invoke(command_of_plugin, ["-h", "3"]).output == "3 m\n"
    assert "--height" in CliRunner().invoke(command_of_plugin, ["--help"]).output


def test_options_are_read_from_the_environment() -> None:
    done = command("adapters", III_SKILL_ADAPTERS_AS_JSON="1")
    assert "adapters" in json.loads(done.stdout)


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("words", [("adapters",), ("adapters", "--json"), ("--help",), ("--version",)])
def test_a_full_stdout_is_an_exit_code_and_one_sentence(words: tuple[str, ...]) -> None:
    with FULL.open("w") as full:
        done = command(*words, stdout=full.fileno())
    assert done.returncode == 74
    assert done.stderr == "Error: stdout takes no more (No space left on device).\n"


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has /dev/full")
def test_what_was_written_is_said_when_stdout_is_full(tmp_path: Path) -> None:
    with FULL.open("w") as full:
        done = command("scaffold", "python", str(tmp_path / "w"), "--defaults", stdout=full.fileno())
    assert done.returncode == 6
    assert done.stderr.startswith(f"Error: {tmp_path / 'w'} is written, only the report of it")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "w" / "w.py").is_file()


def test_a_reader_that_left_is_told_on_stderr(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = command("scaffold", "python", str(tmp_path / "w"), "--defaults", stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, "is written, only the report" in done.stderr) == (6, True)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("words", [(), ("--json",), ("--dry-run",)], ids=["text", "json", "plan"])
def test_a_terminal_of_8_bits_is_told_what_was_written(
    tmp_path: Path, encoding: str, words: tuple[str, ...]
) -> None:
    target = tmp_path / "mappe-\N{GREEK SMALL LETTER OMEGA}"
    done = command(
        "scaffold", "python", str(target), "--name", "w", "--defaults", *words, PYTHONIOENCODING=encoding
    )
    assert done.returncode == 0, done.stderr
    as_utf_8 = target.name.encode().decode("latin-1")  # what click makes of a terminal that says ASCII
    assert "mappe-\\u03c9" in done.stdout or as_utf_8 in done.stdout
    if "--json" in words:
        assert json.loads(done.stdout)["destination"] == str(target)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (
            "scaffold ",
            {"adapter-plugin", "javascript", "python", "rust", "typescript", "update"},
        ),
        ("scaffold py", {"python"}),
        ("scaffold up", {"update"}),
        ("scaffold --dr", {"--dry-run"}),
        ("scaffold update --dr", {"--dry-run"}),
        ("ada", {"adapters", "adapter"}),
    ],
)
def test_a_tab_offers_what_fits(words: str, offered: set[str]) -> None:
    done = command(_III_SKILL_COMPLETE="bash_complete", COMP_LINE=f"iii-skill {words}")
    assert {line.partition(",")[2] for line in done.stdout.split()} >= offered
    assert all(line.startswith("plain,") for line in done.stdout.split())


@pytest.mark.parametrize("words", ["scaffold python ", "scaffold update "])
def test_a_tab_after_the_template_offers_directories(words: str) -> None:
    done = command(_III_SKILL_COMPLETE="bash_complete", COMP_LINE=f"iii-skill {words}")
    assert done.stdout.split() == ["dir,"]
