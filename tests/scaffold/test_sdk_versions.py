"""The reference workers run, unchanged, with every SDK they claim: old ones differ in imports and errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.exercise import exercise, functions_of
from support.scaffold import covering
from support.sdk import link_node_modules, python_sdk, tool
from support.served import served_host, serving_worker
from support.tree import ROOT


def run(command: list[str], project: Path) -> None:
    with (
        served_host("--adapter", "memory", cwd=project) as host,
        serving_worker(command, host, functions_of(covering()[0]), cwd=project) as log,
    ):
        exercise(host, covering()[0], log)


@pytest.mark.parametrize("version", ["0.10.0", "0.11.6", "0.16.1", "0.19.7", "0.23.0", "0.25.0"])
def test_the_python_reference_runs(version: str, tmp_path: Path) -> None:
    run([str(python_sdk(version)), str(ROOT / "references" / "state-management.py")], tmp_path)


@pytest.mark.parametrize("version", ["0.11.2", "0.11.6", "0.22.1"])
def test_the_javascript_reference_runs(version: str, tmp_path: Path) -> None:
    link_node_modules(tmp_path, version)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(ROOT / "references" / "state-management.js", tmp_path / "worker.js")
    run([tool("node"), "worker.js"], tmp_path)
