"""A bar on a terminal, and nothing of it where nobody looks."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def store(tmp_path: Path) -> list[str]:
    words = ["--data-dir", str(tmp_path / "store")]
    run(["set", "s", "k", "1", *words])
    return words


def run(words: list[str], stderr: int = subprocess.DEVNULL) -> None:
    command = [sys.executable, "-m", "iii_skill", "state", *words]
    subprocess.run(command, stderr=stderr, stdout=subprocess.DEVNULL, check=True, timeout=60)


def shown(words: list[str]) -> bytes:
    """What a terminal shows of stderr."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "iii_skill", "state", *words]
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL) as process:
            os.close(theirs)
            said = b""
            # In pieces, and to its end, which is an error: a terminal hands on later what it was given.
            with contextlib.suppress(OSError):
                while piece := terminal.read(65536):
                    said += piece
        assert process.returncode == 0, said
    return said


def test_long_work_shows_a_bar_on_a_terminal_alone(store: list[str], tmp_path: Path) -> None:
    file = str(tmp_path / "x.ndjson")
    assert b"export" in shown(["export", "-o", file, *store])
    said = shown(["import", file, *store])
    assert b"bring" in said
    assert b"store" in said
    assert b"100%" in said
    assert b"delete" in shown(["delete", "s", "--all", "--yes", *store])
    quiet = tmp_path / "said"
    with quiet.open("wb") as stderr:
        run(["import", file, *store], stderr.fileno())
    assert quiet.read_text().splitlines()[1:] == ["1 of 1 keys written"]
