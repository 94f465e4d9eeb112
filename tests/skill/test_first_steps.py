"""Who follows only SKILL.md reaches a running worker, and what it stored survives SIGKILL of the host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.host import free_port
from support.markdown import blocks
from support.skill_tools import CACHE, clean_environment, python_tools
from support.tree import MIRROR, ROOT, SKILL_NAME, copy_tracked


def environment_for(home: Path, *tools: Path) -> dict[str, str]:
    """An environment where the default ports of the text lead to free ones."""
    port, http_port = free_port(), free_port()
    environment = clean_environment(home, *tools)
    (home / ".curlrc").write_text(f'connect-to = "127.0.0.1:3111:127.0.0.1:{http_port}"\n')
    return environment | {
        "III_SKILL_SERVE_PORT": str(port),
        "III_SKILL_SERVE_HTTP_PORT": str(http_port),
        "III_URL": f"ws://127.0.0.1:{port}",
        "PIP_CACHE_DIR": str(CACHE / "pip"),
    }


def script_of(page: Path) -> str:
    """The blocks of a page that are to be run, as one script."""
    return "set -eu\n" + "".join(
        block.text for block in blocks(page) if (block.language, block.directive) == ("bash", "run")
    )


class Shell:
    """Scripts of one process group, so that what they start in the background ends with the test."""

    def __init__(self, project: Path, environment: Mapping[str, str]) -> None:
        self.project = project
        self.environment = environment
        self.groups: list[int] = []

    def run(self, script: str, *, seconds: float = 400) -> str:
        """The output of a script; what it leaves in the background goes on."""
        output, errors = self.project.parent / "output", self.project.parent / "errors"
        with output.open("w") as out, errors.open("w") as err:
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.project,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            self.groups.append(process.pid)
            code = process.wait(timeout=seconds)
        assert code == 0, f"exit {code}\n{output.read_text()}\n{errors.read_text()}"
        return output.read_text()

    def close(self) -> None:
        """End every process of the groups."""
        for group in self.groups:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    os.killpg(group, signal.SIGKILL)
                except ProcessLookupError:
                    break
                time.sleep(0.02)


pytestmark = pytest.mark.timeout(900)
"""Two installations by pip are bounded by the load and the network alone."""


@pytest.fixture(params=["whole repository, uv", "skill alone, no uv"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    project = tmp_path / "project"
    folder = project / ".agents" / "skills" / SKILL_NAME
    alone = request.param == "skill alone, no uv"
    if alone:
        shutil.copytree(MIRROR, folder)
    else:
        copy_tracked(folder)
    environment = environment_for(tmp_path / "home", *(() if alone else (python_tools(),)))
    if alone:
        assert shutil.which("uvx", path=environment["PATH"]) is None
        assert shutil.which("iii-skill", path=environment["PATH"]) is None
    shell = Shell(project, environment)
    yield shell
    shell.close()


def values(text: str) -> list[Any]:
    """The JSON objects that stand one after another at the end of a text."""
    found, rest = [], text[f"\n{text}".index("\n{") :].strip()
    while rest:
        value, end = json.JSONDecoder().raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found


def test_following_the_skill_reaches_a_worker_with_durable_state(shell: Shell) -> None:
    created, listed = values(shell.run(script_of(ROOT / "SKILL.md")))
    assert (created["name"], created["price"]) == ("Pen", 2.5)
    assert listed == {"count": 1, "products": [created]}
    ready = json.loads((shell.project / "host.log").read_text().splitlines()[0])
    assert ready["adapter"] == "file"
    os.kill(ready["pid"], signal.SIGKILL)
    again = "python3 .agents/skills/iii-state-management/scripts/iii_skill_run.py serve > again.log &\n"
    fetch = "curl -sf --retry 60 --retry-delay 1 --retry-all-errors http://127.0.0.1:3111/products"
    assert values(shell.run(again + fetch)) == [listed]
