"""The README's test in an environment of its own: nothing but `iii-skill[test]` and the SDK is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.markdown import blocks
from support.tree import ROOT, copy_tracked

pytestmark = pytest.mark.skipif(
    not os.environ.get("III_SKILL_TEST_ALL"), reason="installs for a minute: --all"
)


@pytest.mark.timeout(600)
def test_the_example_passes_after_two_installations(tmp_path: Path) -> None:
    source = copy_tracked(tmp_path / "source")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", f"{source}[test]", "iii-sdk==0.25.0"], check=True)
    project = tmp_path / "project"
    project.mkdir()
    worker = next(block for block in blocks(ROOT / "SKILL.md") if block.directive == "worker")
    (project / "worker.py").write_text(worker.text)
    example = next(
        one for one in blocks(ROOT / "README.md") if (one.language, one.directive) == ("python", "test")
    )
    assert len(example.text.strip().splitlines()) < 15
    (project / "test_worker.py").write_text(example.text)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    run = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(run, cwd=project, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
