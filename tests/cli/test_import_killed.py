"""`state import` is all or nothing: SIGKILL at any of its points leaves the old state or the new one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from support import killed_import, postgres, redis

POINTS = 100 if os.environ.get("III_SKILL_TEST_ALL") else 12


def export_file(path: Path, rows: Iterable[tuple[str, str, object]]) -> Path:
    """A file as `state export` writes it."""
    lines = [
        json.dumps({"scope": scope, "key": key, "value": value}).encode() + b"\n"
        for scope, key, value in rows
    ]
    end = {"end": True, "count": len(lines), "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}
    path.write_bytes(
        b'{"format":"iii-state/1"}\n' + b"".join(lines) + json.dumps(end, separators=(",", ":")).encode()
    )
    return path


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("adapter", ["file", "redis", "postgres"])
def test_sigkill_leaves_old_or_new(adapter: str, tmp_path: Path) -> None:
    if adapter == "file":
        options = ["--data-dir", str(tmp_path / "store")]
    else:
        settings = redis.settings() if adapter == "redis" else postgres.settings()
        options = ["--adapter", adapter]
        for name, value in settings.items():
            options += ["--adapter-config", f"{name}={value}"]
    old = export_file(
        tmp_path / "old.ndjson", [(f"s{n % 3}", f"k{n}", {"n": n, "old": True}) for n in range(400)]
    )
    new = export_file(tmp_path / "new.ndjson", [(f"s{n % 3}", f"k{n}", {"n": n}) for n in range(200, 700)])
    arguments = [json.dumps(options), str(new), str(old), str(POINTS)]
    done = subprocess.run(
        [sys.executable, "-P", killed_import.__file__, *arguments],
        capture_output=True,
        text=True,
        timeout=3500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["differ"]
    counts = Counter(found["outcomes"])
    assert set(counts) == {"old", "new"}, (counts, found["points"])
