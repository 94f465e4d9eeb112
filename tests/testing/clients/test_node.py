"""The Node client as npm packs it, with vitest and the real SDK, in a project that has it installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.markdown import blocks
from support.node_client import FILES, SOURCE, dependencies, install, packed
from support.sdk import tool
from support.served import children_of, runs, wait_until
from support.tree import ROOT

from iii_skill import __version__

HERE = Path(__file__).parent / "node"
SHOP = Path(__file__).parents[1] / "engine" / "shop.mjs"
HOST = {"III_SKILL": f"{sys.executable} -m iii_skill", "CI": "true", "NO_COLOR": "1"}

PAGES = [
    block
    for page in ("README.md", "references/testing.md", "clients/node/README.md")
    for block in blocks(ROOT / page)
    if block.language == "ts"
]
"""What readers see as their first test."""

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the package, the tests beside this one, and a worker."""
    place = tmp_path_factory.mktemp("project")
    install(place)
    for path in (*HERE.iterdir(), SHOP):
        shutil.copy(path, place)
    (worker,) = (
        one for one in blocks(ROOT / "SKILL.md") if (one.language, one.directive) == ("js", "worker")
    )
    (place / "worker.mjs").write_text(worker.text)
    for number, block in enumerate(PAGES):
        (place / f"page{number}.test.ts").write_text(block.text)
    return place


def run(
    command: Sequence[str], project: Path, environment: Mapping[str, str] = HOST
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("node"), *command], cwd=project, env=os.environ | environment, capture_output=True, text=True
    )


def vitest(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run vitest; a loaded machine is slow."""
    program = str(project / "node_modules" / "vitest" / "vitest.mjs")
    slow = ("--testTimeout", "60000", "--hookTimeout", "60000")
    return run([program, "run", *slow, *arguments], project, HOST | environment)


def test_every_verb_works(project: Path) -> None:
    done = vitest(project, "engine.test.ts")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout


def test_what_the_pages_show_passes(project: Path) -> None:
    assert len(PAGES) == 3
    done = vitest(project, "page")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 5 passed" in done.stdout


def test_a_first_test_has_less_than_fifteen_lines() -> None:
    assert len(PAGES[0].text.splitlines()) < 15


def test_the_tests_know_their_types(project: Path) -> None:
    done = run(["node_modules/typescript/bin/tsc", "-p", "."], project)
    assert done.returncode == 0, done.stdout


def test_a_failing_test_shows_what_happened_and_what_workers_wrote(project: Path) -> None:
    done = vitest(project, "failing.test.ts")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    for wanted in (
        "AssertionError: no event (scope='shop', key='table') within 0.1 s.",
        "--- iii engine ---",
        "state:created  shop / chair  null -> 1",
        "--- worker ",
        "I am here",
    ):
        assert wanted in said, said


def test_one_host_serves_all_files(project: Path, tmp_path: Path) -> None:
    """With the setup the host is started once, and ends with the run."""
    (project / "shared.config.mjs").write_text(
        "export default { test: { globalSetup: 'iii-skill-test/vitest-setup' } }\n"
    )
    for name in ("one", "two"):
        (project / f"shared-{name}.test.ts").write_text(
            "import { appendFileSync } from 'node:fs'\n"
            "import { test } from 'iii-skill-test/vitest'\n"
            "test('told', async ({ iiiEngine }) => {\n"
            "  const { pid } = JSON.parse(process.env.III_SKILL_CONTROL ?? '') as { pid: number }\n"
            "  appendFileSync(process.env.TOLD ?? '', `${pid}\\n`)\n"
            "  await iiiEngine.settle()\n"
            "})\n"
        )
    told = tmp_path / "told"
    done = vitest(project, "--config", "shared.config.mjs", "shared", TOLD=str(told))
    assert done.returncode == 0, done.stdout + done.stderr
    (one, two) = told.read_text().split()
    assert one == two
    assert not Path(f"/proc/{one}").exists()


def test_it_works_without_a_test_runner(project: Path) -> None:
    done = run(["plain.mjs"], project)
    assert (done.returncode, done.stdout) == (0, "sold\n"), done.stderr


def test_a_host_that_is_lost_is_said_and_started_again(project: Path) -> None:
    done = run(["lost.mjs"], project)
    assert done.returncode == 0, done.stderr
    said = ["ENGINE_LOST", "the host of the engines ended (SIGKILL): ", []]
    assert json.loads(done.stdout) == said


def test_a_killed_test_run_leaves_no_host_and_no_worker(project: Path) -> None:
    with subprocess.Popen(
        [tool("node"), "killed.mjs"], cwd=project, env=os.environ | HOST, stdout=subprocess.PIPE, text=True
    ) as killed:
        try:
            assert killed.stdout is not None
            told = json.loads(killed.stdout.readline())
            children = children_of(killed.pid)
        finally:
            killed.kill()
    assert told["worker"] in children
    wait_until("the end of what it started", lambda: not any(map(runs, children)))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("/no/such/iii-skill", "/no/such/iii-skill cannot be started. Install iii-skill"),
        (f"{sys.executable} -c 'raise SystemExit(\"broken\")'", "ended with 1: broken"),
        (f"{sys.executable} -c 'print(chr(123)+chr(125))'", "install versions that belong together"),
    ],
)
def test_a_host_that_does_not_come_up_says_why(project: Path, command: str, says: str) -> None:
    done = run(["plain.mjs"], project, {"III_SKILL": command})
    assert done.returncode == 1
    assert says in done.stderr


def test_a_function_without_the_sdk_says_what_to_install(project: Path, tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    shutil.copytree(project / "node_modules" / "iii-skill-test", tmp_path / "node_modules" / "iii-skill-test")
    (tmp_path / "inside.mjs").write_text(
        "import { startEngine } from 'iii-skill-test'\n"
        "const engine = await startEngine()\n"
        "await engine.worker(() => {}).finally(() => engine.close())\n"
    )
    done = run(["inside.mjs"], tmp_path)
    assert done.returncode == 1
    assert "npm install iii-sdk" in done.stderr


def test_what_is_published_is_what_users_need() -> None:
    with tarfile.open(packed()) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
        package = json.load(archive.extractfile("package/package.json") or sys.stdin)
    assert {name.split("/")[0] for name in names} == {"package.json", "README.md", "LICENSE", "dist"}
    for export in package["exports"].values():
        for file in export.values() if isinstance(export, dict) else [export]:
            assert file.removeprefix("./") in names
    assert (package["version"], package["license"]) == (__version__, "Apache-2.0")
    assert "dependencies" not in package
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert package["homepage"] == urls["Documentation"]
    assert package["repository"]["url"] == f"git+{urls['Repository']}.git"
    assert (SOURCE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_sources_are_formatted(tmp_path: Path) -> None:
    prettier = str(dependencies() / "prettier" / "bin" / "prettier.cjs")
    for name in FILES:
        source = SOURCE / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    shutil.copytree(HERE, tmp_path / "tests")
    shutil.copy(SOURCE / ".prettierrc.json", tmp_path)
    done = run([prettier, "--check", "src", "tests", "*.json", "README.md"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
