"""The evals judge rightly: reference solutions pass, each typical mistake fails the check that is for it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from evals.checks import BEHAVIOURS
from evals.run import CARGO, TASKS, Started, Task, build_rust, judge, prepare, tasks
from support.sdk import CACHE
from support.tree import ROOT

pytestmark = pytest.mark.timeout(400)  # the first that needs it compiles all workers in Rust

WRONG: list[dict[str, Any]] = tomllib.loads((TASKS.parent / "wrong.toml").read_text())["wrong"]
FIRST = ("counter", "sessions", "flags", "cache", "cart", "migration")
QUERIES: list[dict[str, str]] = json.loads((TASKS.parent / "trigger_queries.json").read_text())


def reference(task: Task) -> str:
    """The text of the reference solution."""
    path = task.solution(TASKS / task.id)
    assert path is not None
    return path.read_text()


def mistaken(wrong: dict[str, Any]) -> str:
    """The reference solution with the mistake."""
    text = reference(Task(wrong["task"]))
    for edit in wrong["edits"]:
        assert text.count(edit["find"]) == 1, f"{wrong['task']} {wrong['check']}: {edit['find']}"
        text = text.replace(edit["find"], edit["replace"])
    return text


def name_of(wrong: dict[str, Any]) -> str:
    return f"{wrong['task']}:{wrong['check']}"


@pytest.fixture(scope="session")
def rust() -> dict[str, Started | str]:
    """Every Rust solution, right and wrong, in one program that is kept below `.cache`."""
    sources = {task.id: reference(task) for task in tasks() if task.language == "rust"}
    sources |= {name_of(wrong): mistaken(wrong) for wrong in WRONG if wrong["task"].startswith("rust-")}
    stamp = hashlib.sha256(json.dumps([CARGO, sources], sort_keys=True).encode()).hexdigest()[:16]
    return build_rust(sources, CACHE / "evals" / stamp)


def started(
    name: str, task: Task, text: str, folder: Path, rust: dict[str, Started | str]
) -> Started | Path | str:
    if task.language == "text":
        source = task.solution(TASKS / task.id)
        assert source is not None
        answer = folder / source.name
        answer.write_text(text)
        return answer
    if task.language == "rust":
        found = rust[name]
        assert isinstance(found, Started), found
        return Started(found.command, folder)
    return prepare(task.language, text, folder)


@pytest.mark.parametrize("task", tasks(), ids=lambda task: task.id)
async def test_reference_solution_passes_every_check(
    task: Task, tmp_path: Path, rust: dict[str, Started | str]
) -> None:
    verdicts = await judge(task, started(task.id, task, reference(task), tmp_path, rust))
    assert verdicts == dict.fromkeys(task.checks, "ok")


def tried() -> list[dict[str, Any]]:
    """All mistakes of the first twelve tasks and one of each other; every one with III_SKILL_TEST_ALL."""
    if os.environ.get("III_SKILL_TEST_ALL"):
        return WRONG
    seen: set[str] = set()
    some = []
    for wrong in WRONG:
        behaviour = Task(wrong["task"]).behaviour
        if behaviour in FIRST or wrong["task"] not in seen:
            some.append(wrong)
        seen.add(wrong["task"])
    return some


@pytest.mark.parametrize("wrong", tried(), ids=name_of)
async def test_mistake_fails_its_check(
    wrong: dict[str, Any], tmp_path: Path, rust: dict[str, Started | str]
) -> None:
    task = Task(wrong["task"])
    subject = started(name_of(wrong), task, mistaken(wrong), tmp_path, rust)
    verdicts = await judge(task, subject, only=[wrong["check"]])
    assert list(verdicts) == [wrong["check"]]
    assert verdicts[wrong["check"]] != "ok", wrong["why"]


def test_every_check_of_every_task_has_a_mistake() -> None:
    wanted = {(task.id, name) for task in tasks() for name in task.checks}
    assert {(wrong["task"], wrong["check"]) for wrong in WRONG} == wanted


def test_24_tasks_in_every_language_with_a_race_and_a_missing_key_in_each() -> None:
    languages = {"python": 9, "javascript": 7, "rust": 6, "text": 2}
    assert Counter(task.language for task in tasks()) == languages
    for task in tasks():
        assert (TASKS / task.id / "prompt.md").is_file()
    races = ("concurrency", "at-once", "every-read", "counts-hits-exactly", "views-are-exact")
    missing = ("missing", "unknown", "null")
    texts = {task.behaviour for task in tasks() if task.language == "text"}
    for behaviour, checks in BEHAVIOURS.items():
        if behaviour in texts:
            continue
        assert any(word in name for name in checks for word in races), behaviour
        assert any(word in name for name in checks for word in missing), behaviour


def test_trigger_queries_cover_both_sides() -> None:
    assert Counter(query["expected"] for query in QUERIES)["trigger"] >= 20
    assert Counter(query["expected"] for query in QUERIES)["skip"] >= 20
    assert len({query["query"] for query in QUERIES}) == len(QUERIES)
    boundaries = {query["kind"] for query in QUERIES if query["expected"] == "skip"}
    assert boundaries >= {"streams", "reactions", "queues", "cron", "plain-redis", "other-framework"}


def test_command_judges_a_directory(tmp_path: Path) -> None:
    folder = tmp_path / "python-cart"
    folder.mkdir()
    (folder / "worker.py").write_text(reference(Task("python-cart")))
    command = [str(ROOT / "scripts" / "evals"), str(tmp_path), "--task", "python-cart", "--task", "rust-cart"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    report = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert report["passed"] == {"python-cart": True, "rust-cart": False}
    assert report["checks"]["rust-cart"]["is-sold-once"] == "missing: rust-cart/main.rs or src/main.rs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere"], "is no directory"), ([".", "--task", "x"], "no task x; there are")],
)
def test_command_refuses_wrong_arguments(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "evals"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert message in done.stderr
