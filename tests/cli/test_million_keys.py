"""A million keys exported, imported and exported again: byte for byte, in bounded memory."""

from __future__ import annotations

import filecmp
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 1_000_000 if os.environ.get("III_SKILL_TEST_ALL") else 10_000
MOST_MB = 200


def write_export(path: Path) -> None:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        file.write(b'{"format":"iii-state/1"}\n')
        for n in range(COUNT):
            value = b'{"n":%d,"big":9007199254740993,"text":"%b"}' % (n, b"x" * 90)
            line = b'{"scope":"s%d","key":"key-%07d","value":%b}\n' % (n % 10, n, value)
            digest.update(line)
            file.write(line)
        file.write(b'{"end":true,"count":%d,"sha256":"%b"}\n' % (COUNT, digest.hexdigest().encode()))


PROGRAM = """
import atexit, pathlib, sys
place = pathlib.Path(sys.argv.pop(1))
atexit.register(lambda: place.write_text(pathlib.Path("/proc/self/status").read_text()))
from iii_skill.cli.main import main
main()
"""
"""Not `ru_maxrss`: that begins with what the process held that started it."""


def megabytes(place: Path, *words: str) -> float:
    """Run a verb of `state`; the most memory that it held."""
    status = place / "status"
    command = [sys.executable, "-c", PROGRAM, str(status), "state", *words]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    (peak,) = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(peak) / 1024


@pytest.mark.timeout(3600)
def test_all_keys_come_back_byte_for_byte(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.ndjson" for name in ("first", "second", "third"))
    write_export(first)
    used = [
        megabytes(tmp_path, "import", str(first), "--data-dir", str(tmp_path / "one")),
        megabytes(tmp_path, "export", "-o", str(second), "--data-dir", str(tmp_path / "one")),
        megabytes(tmp_path, "import", str(second), "--data-dir", str(tmp_path / "two")),
        megabytes(tmp_path, "export", "-o", str(third), "--data-dir", str(tmp_path / "two")),
    ]
    assert filecmp.cmp(second, third, shallow=False)
    assert sorted(first.read_bytes().splitlines()[1:-1]) == sorted(second.read_bytes().splitlines()[1:-1])
    assert max(used) < MOST_MB, used
