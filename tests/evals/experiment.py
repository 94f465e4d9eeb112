"""Let an agent do the tasks, with the skill and without it, and judge what it made: `scripts/evals run`."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evals.agents import Agent, Answered, agent_of, ask
from evals.run import TASKS, Task, judge_directory, tasks
from support.skill_tools import NODE_SDK, PYTHON_SDK, RUST_SDK, npm_program
from support.tree import MIRROR, SKILL_NAME

from iii_skill import __version__

INSTALLER = ("skills", "1.5.18")
"""The newest one that runs on Node 20."""
WITH, WITHOUT = "skill", "baseline"


@dataclass(frozen=True)
class Attempt:
    """One run of one task."""

    arm: str
    task: str
    run: int
    passed: bool
    checks: dict[str, str]
    seconds: float
    tokens: dict[str, int]
    models: list[str]
    exit_code: int | None


def environment_of(home: Path) -> dict[str, str]:
    """What the agent and its installer get: an own HOME, keys of the caller's environment, nothing of iii."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("III_", "XDG_", "PYTHONPATH", "VIRTUAL_ENV", "CLAUDE_CONFIG", "CODEX_HOME"))
    }
    settings = Path.home() / ".npmrc"
    registry = {"npm_config_userconfig": str(settings)} if settings.is_file() else {}
    return kept | registry | {"HOME": str(home), "DISABLE_TELEMETRY": "1"}


def install(agent: Agent, project: Path, environment: Mapping[str, str], origin: Path) -> Path:
    """Put the skill into the project as its users do; the folder that it lies in."""
    command = ["node", npm_program(*INSTALLER), "add", str(origin), "-y", "-a", agent.installs_for]
    done = subprocess.run(
        command, cwd=project, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    found = [path.parent for path in project.glob(f".*/skills/{SKILL_NAME}/SKILL.md")]
    if done.returncode or not found:
        raise RuntimeError(f"the installer failed: {done.stdout}{done.stderr}")
    return found[0]


def attempt(agent: Agent, task: Task, arm: str, run: int, out: Path, seconds: float) -> Attempt:
    """One run: a fresh HOME and project, the agent, then the checks of the task."""
    kept = out / arm / str(run)
    kept.mkdir(parents=True, exist_ok=True)
    # The agent works far from the repository, where the reference solutions lie.
    with tempfile.TemporaryDirectory(prefix="iii-eval-") as base:
        home, project = Path(base) / "home", Path(base) / "project"
        home.mkdir()
        if task.given.is_dir():
            shutil.copytree(task.given, project)
        else:
            project.mkdir()
        environment = environment_of(home)
        if arm == WITH:
            origin = Path(base) / "origin" / SKILL_NAME
            shutil.copytree(MIRROR, origin)
            install(agent, project, environment, origin)
            shutil.rmtree(origin.parent)
        log = kept / f"{task.id}.log"
        answered = ask(agent, (TASKS / task.id / "prompt.md").read_text(), project, environment, log, seconds)
        shutil.rmtree(kept / task.id, ignore_errors=True)
        shutil.copytree(project, kept / task.id, symlinks=True, ignore=_not_produced)
    checks = asyncio.run(judge_directory(kept, [task]))[task.id]
    passed = all(verdict == "ok" for verdict in checks.values())
    return _attempt(arm, task, run, passed, checks, answered)


def _attempt(
    arm: str, task: Task, run: int, passed: bool, checks: dict[str, str], answered: Answered
) -> Attempt:
    return Attempt(
        arm=arm,
        task=task.id,
        run=run,
        passed=passed,
        checks=checks,
        seconds=answered.seconds,
        tokens=answered.tokens,
        models=answered.models,
        exit_code=answered.exit_code,
    )


def _not_produced(_folder: str, names: list[str]) -> set[str]:
    """What is too large to be kept and can be made again."""
    return {"node_modules", "target", ".venv", "venv", "__pycache__"} & set(names)


def summary(attempts: Sequence[Attempt], runs: int) -> dict[str, Any]:
    """For each arm: pass@1 (share of runs that passed), pass^N (share of tasks that passed every time)."""
    arms: dict[str, Any] = {}
    for arm in (WITH, WITHOUT):
        by_task: dict[str, list[Attempt]] = {}
        for one in attempts:
            if one.arm == arm:
                by_task.setdefault(one.task, []).append(one)
        whole = {task: some for task, some in by_task.items() if len(some) == runs}
        if not whole:
            continue
        known = [sum(one.tokens.values()) for some in whole.values() for one in some if one.tokens]
        arms[arm] = {
            "tasks": {task: f"{sum(one.passed for one in some)}/{runs}" for task, some in whole.items()},
            "pass@1": _share([one.passed for some in whole.values() for one in some]),
            f"pass^{runs}": _share([all(one.passed for one in some) for some in whole.values()]),
            "seconds_median": statistics.median(one.seconds for some in whole.values() for one in some),
            "tokens_median": statistics.median(known) if known else None,
        }
    if set(arms) == {WITH, WITHOUT}:
        arms["delta_pass@1"] = round(arms[WITH]["pass@1"] - arms[WITHOUT]["pass@1"], 3)
    return arms


def _share(passed: list[bool]) -> float:
    return round(sum(passed) / len(passed), 3)


def skill_digest() -> str:
    """Which text of the skill was tried."""
    digest = hashlib.sha256()
    for path in sorted(MIRROR.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(MIRROR)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def results(agent: Agent, attempts: Sequence[Attempt], runs: int, version: str | None) -> dict[str, Any]:
    """All that was found, as it is written to results.json."""
    return {
        "format": "iii-evals/1",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "iii-skill": __version__,
            "skill_sha256": skill_digest(),
            "agent": version,
            "models": sorted({model for one in attempts for model in one.models}),
            "installer": "@".join(INSTALLER),
            "sdk": {"python": PYTHON_SDK, "javascript": NODE_SDK, "rust": RUST_SDK},
        },
        "agent": agent.name,
        "runs": runs,
        "arms": summary(attempts, runs),
        "attempts": [asdict(one) for one in attempts],
    }


def main(words: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/evals run", description=__doc__)
    parser.add_argument(
        "--agent",
        required=True,
        metavar="CMD",
        help="claude, codex, opencode, or a command line: {prompt} in it is replaced, else stdin has it; "
        "it runs without asking for permissions, so use a machine that may be broken",
    )
    parser.add_argument("--baseline", action="store_true", help="also without the skill")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="how often each task (default: 1)")
    parser.add_argument("--task", action="append", help="only this task (may be repeated)")
    parser.add_argument(
        "--out", type=Path, default=Path("evals-out"), help="for results.json and what was made"
    )
    parser.add_argument("--seconds", type=float, default=1800, help="that one run may take (default: 1800)")
    given = parser.parse_args(words)
    known = {task.id: task for task in tasks()}
    if unknown := set(given.task or ()) - set(known):
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if given.runs < 1:
        parser.error("--runs is at least 1")
    try:
        agent = agent_of(given.agent)
    except ValueError as error:
        parser.error(str(error))
    if agent.missing is not None:
        print(f"skipped: there is no program {agent.missing} here to run the tasks with", file=sys.stderr)
        return 0
    if absent := [name for name in ("node", "npm") if shutil.which(name) is None]:
        print(f"skipped: there is no {absent[0]} here to install the skill with", file=sys.stderr)
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    version, attempts = agent.version(), []
    arms = (WITH, WITHOUT) if given.baseline else (WITH,)
    for task in (known[name] for name in given.task or known):
        for run in range(1, given.runs + 1):
            for arm in arms:
                done = attempt(agent, task, arm, run, given.out, given.seconds)
                attempts.append(done)
                failed = [name for name, verdict in done.checks.items() if verdict != "ok"]
                said = "passed" if done.passed else f"failed: {', '.join(failed)}"
                print(f"{arm} {task.id} {run}/{given.runs} {done.seconds:g} s {said}", file=sys.stderr)
                # After each one, so that an interrupt keeps what was paid for.
                _write(given.out / "results.json", results(agent, attempts, given.runs, version))
    print(json.dumps(summary(attempts, given.runs), indent=2))
    return 0


def _write(path: Path, content: dict[str, Any]) -> None:
    half = path.with_suffix(".half")
    half.write_text(json.dumps(content, indent=2) + "\n")
    half.replace(path)
