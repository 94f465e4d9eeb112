"""The Rust client with the real SDK: every verb, what a failing test shows, and what would be published."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.controlled import controlled
from support.markdown import blocks
from support.sdk import CACHE, cargo_environment, cargo_lock, tool
from support.served import children_of, runs, wait_until
from support.tree import ROOT

from iii_skill import __version__

HERE = Path(__file__).parent / "rust"
SOURCE = ROOT / "clients" / "rust"
PLACE = CACHE / "client-rust"

SDK_PAGE = ROOT / "references" / "sdk.md"
PAGES = [
    block
    for page, language, directive in (
        ("README.md", "rust", "test"),
        ("references/testing.md", "rust", "test"),
        ("clients/rust/README.md", "rust", ",ignore"),
    )
    for block in blocks(ROOT / page)
    if (block.language, block.directive) == (language, directive)
]
"""What readers see as their first test."""

pytestmark = pytest.mark.timeout(1500)  # a first build takes its time


def cargo(*arguments: str, cwd: Path = PLACE, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**cargo_environment(), "III_SKILL": f"{sys.executable} -m iii_skill", **environment}
    with cargo_lock():
        return subprocess.run([tool("cargo"), *arguments], cwd=cwd, env=env, capture_output=True, text=True)


def write(path: Path, text: str) -> None:
    """A file of the package, written only when it differs: cargo builds again what is newer."""
    target = PLACE / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


@pytest.fixture(scope="module")
def project() -> Path:
    """The package beside this test, always in the same place, so that cargo builds only what is new."""
    for path in HERE.rglob("*"):
        if path.is_file():
            write(path.relative_to(HERE), path.read_text().replace('"CLIENT"', json.dumps(str(SOURCE))))
    (worker,) = (one for one in blocks(SDK_PAGE) if (one.language, one.directive) == ("rust", "worker"))
    write(Path("src", "bin", "visits.rs"), worker.text)
    for number, block in enumerate(PAGES):
        write(Path("tests", f"page{number}.rs"), block.text)
    done = cargo("test", "--quiet", "--no-run")
    assert done.returncode == 0, done.stderr
    return PLACE


def program(project: Path) -> str:
    """The compiled tests."""
    done = cargo("test", "--no-run", "--message-format", "json", cwd=project)
    built = [json.loads(line) for line in done.stdout.splitlines()]
    return next(one["executable"] for one in built if one.get("target", {}).get("name") == "engine")


def test_every_verb_works(project: Path) -> None:
    done = cargo("test", "--quiet", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" passed; 0 failed") >= 1 + len(PAGES)


def test_the_pages_show_first_tests_of_less_than_fifteen_lines() -> None:
    assert [block.text.count("#[test]") for block in PAGES] == [1, 2, 2]
    assert len(PAGES[0].text.splitlines()) < 15


def test_a_failing_test_shows_what_happened_and_what_workers_wrote(project: Path) -> None:
    done = cargo("test", "--quiet", "wrong", "--", "--ignored", cwd=project)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for wanted in (
        "no event (scope='shop', key='table') within 0.01 s.",
        "--- iii engine ---",
        "state:created  shop / chair  null -> 1",
        "--- worker ",
        "the shop opens",
        "tests/engine.rs:",
    ):
        assert wanted in said, said


def test_a_host_that_is_lost_is_said_and_started_again(project: Path) -> None:
    done = cargo("test", "--quiet", "lost", "--", "--ignored", cwd=project)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_running_host_is_taken_when_one_is_named(project: Path, tmp_path: Path) -> None:
    with controlled(cwd=tmp_path) as control:
        named = {"III_SKILL": "/no/such", "III_SKILL_CONTROL": json.dumps(control.ready)}
        done = cargo("test", "--quiet", "the_clock", cwd=project, **named)
        assert done.returncode == 0, done.stdout
        assert control.ask("")["engine"] == "3"  # the first is the host's own, the second was the test's


def test_a_killed_test_run_leaves_no_host_and_no_worker(project: Path) -> None:
    environment = {**os.environ, "III_SKILL": f"{sys.executable} -m iii_skill"}
    command = [program(project), "killed", "--ignored", "--nocapture"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as killed:
        try:
            assert killed.stdout is not None
            lines = (line.removeprefix("test killed ... ").strip() for line in killed.stdout)
            worker = next(line for line in lines if line.isdigit())
            children = children_of(killed.pid)
        finally:
            killed.kill()
    assert int(worker) in children
    assert len(children) == 2
    wait_until("the end of what it started", lambda: not any(map(runs, children)))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("/no/such/iii-skill", "/no/such/iii-skill cannot be started. Install iii-skill"),
        (f"{sys.executable} -c 'raise SystemExit(\"broken\")'", "broken"),
        (f"{sys.executable} -c 'print(chr(123)+chr(125))'", "install versions that belong together"),
    ],
)
def test_a_host_that_does_not_come_up_says_why(project: Path, command: str, says: str) -> None:
    done = cargo("test", "--quiet", "the_clock", cwd=project, III_SKILL=command)
    assert done.returncode != 0
    assert says in done.stdout


def test_the_sources_are_formatted_and_clippy_has_nothing_to_say(project: Path) -> None:
    done = cargo("fmt", "--check", cwd=SOURCE)
    assert done.returncode == 0, done.stdout
    rustfmt = [tool("rustfmt"), "--check", "--edition", "2024", "src/main.rs", "tests/engine.rs"]
    done = subprocess.run(rustfmt, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for place in (SOURCE, project):
        done = cargo("clippy", "--quiet", "--all-targets", "--", "-D", "warnings", cwd=place)
        assert done.returncode == 0, done.stderr


def test_the_documentation_of_the_crate_is_whole(project: Path) -> None:
    done = cargo("doc", "--quiet", "--no-deps", cwd=SOURCE, RUSTDOCFLAGS="-D warnings")
    assert done.returncode == 0, done.stderr


def test_what_is_published_is_what_users_need(project: Path, tmp_path: Path) -> None:
    source = tmp_path / "crate"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("target", "Cargo.lock"))
    listed = cargo("package", "--list", "--allow-dirty", cwd=source)
    assert listed.returncode == 0, listed.stderr
    names = set(listed.stdout.split()) - {"Cargo.lock", "Cargo.toml.orig"}
    sources = {f"src/{path.name}" for path in (SOURCE / "src").iterdir()}
    assert names == {"Cargo.toml", "README.md", "LICENSE"} | sources
    packaged = cargo("package", "--quiet", "--allow-dirty", "--no-verify", cwd=source)
    assert (packaged.returncode, packaged.stderr) == (0, ""), packaged.stderr
    package = tomllib.loads((SOURCE / "Cargo.toml").read_text())["package"]
    assert (package["version"], package["license"]) == (__version__, "Apache-2.0")
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert (package["homepage"], package["repository"]) == (urls["Documentation"], urls["Repository"])
    assert (SOURCE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
