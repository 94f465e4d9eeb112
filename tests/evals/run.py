"""Run the checks of the tasks on a directory of produced workers: `scripts/evals DIR`.

`scripts/evals run --agent CMD` lets an agent make them first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evals.checks_repair
import evals.checks_rooms
import evals.checks_shared  # noqa: F401 they add their checks
from evals.checks import BEFORE, BEHAVIOURS, Check, Subject
from support.sdk import cargo_environment, cargo_lock, link_node_modules, python_sdk, tool, untimed
from support.skill_tools import NODE_SDK, PYTHON_SDK, RUST_SDK
from support.workers import running_site, running_worker

TASKS = Path(__file__).parent / "tasks"
FILES = {
    "python": ("worker.py",),
    "javascript": ("worker.mjs", "worker.js"),
    "rust": ("main.rs", "src/main.rs"),
    "text": ("iii-config.yaml", "answer.json"),
}


@dataclass(frozen=True)
class Task:
    """One task: its folder is named `<language>-<behaviour>`."""

    id: str

    @property
    def language(self) -> str:
        return self.id.partition("-")[0]

    @property
    def behaviour(self) -> str:
        return self.id.partition("-")[2]

    @property
    def given(self) -> Path:
        """What the agent finds in its project; there may be nothing."""
        return TASKS / self.id / "given"

    @property
    def checks(self) -> list[str]:
        return list(BEHAVIOURS[self.behaviour])

    def solution(self, folder: Path) -> Path | None:
        """The worker in a produced folder."""
        return next((folder / name for name in FILES[self.language] if (folder / name).is_file()), None)


def tasks() -> list[Task]:
    """Every task, by id."""
    return [Task(folder.name) for folder in sorted(TASKS.iterdir())]


@dataclass(frozen=True)
class Started:
    """How a worker is started."""

    command: Sequence[str]
    cwd: Path


def prepare(language: str, source: str, folder: Path) -> Started:
    """Put the text of a Python or JavaScript worker where its SDK is found."""
    folder.mkdir(parents=True, exist_ok=True)
    if language == "python":
        (folder / "worker.py").write_text(source)
        return Started([str(python_sdk(PYTHON_SDK)), "worker.py"], folder)
    (folder / "worker.mjs").write_text(source)
    link_node_modules(folder, NODE_SDK)
    return Started([tool("node"), "worker.mjs"], folder)


def place(task: Task, path: Path, folder: Path) -> Started | Path:
    """A produced solution that is no Rust, in a folder of its own."""
    if task.language != "text":
        return prepare(task.language, path.read_text(), folder)
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(path, folder))


CARGO = f"""[package]
name = "produced"
version = "0.1.0"
edition = "2024"

[dependencies]
iii-sdk = "={RUST_SDK}"
iii-helpers = "={RUST_SDK}"
serde = {{ version = "1", features = ["derive"] }}
serde_json = "1"
tokio = {{ version = "1", features = ["rt-multi-thread", "macros", "signal", "sync", "time"] }}
uuid = {{ version = "1", features = ["v4"] }}
"""


def build_rust(sources: Mapping[str, str], folder: Path) -> dict[str, Started | str]:
    """Compile Rust workers into one program; when that fails each by itself, to tell which one is broken.

    What the folder already holds from the same sources is taken as it is.
    """
    if not sources:
        return {}
    names = {name: f"w{number}" for number, name in enumerate(sources)}
    program = folder / "program"
    with cargo_lock(), untimed():
        broken = None if program.exists() else compile_rust(sources, names, program)
    if broken is None:
        return {name: Started([str(program), module], folder) for name, module in names.items()}
    if len(sources) == 1:
        return dict.fromkeys(sources, f"does not compile: {broken[-2000:]}")
    found: dict[str, Started | str] = {}
    for name, source in sources.items():
        found |= build_rust({name: source}, folder / f"only-{names[name]}")
    return found


def compile_rust(sources: Mapping[str, str], names: Mapping[str, str], program: Path) -> str | None:
    """Make the program, which runs the worker whose module it is given; what the compiler says on failure."""
    folder = program.parent
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "Cargo.toml").write_text(CARGO)
    for name, module in names.items():
        (folder / "src" / f"{module}.rs").write_text(sources[name] + "\npub fn start() { let _ = main(); }\n")
    modules = "".join(f"mod {module};\n" for module in names.values())
    arms = "".join(f'        "{module}" => {module}::start(),\n' for module in names.values())
    choice = f"match std::env::args().nth(1).unwrap().as_str() {{\n{arms}        _ => panic!(),\n    }}"
    text = f"#![allow(dead_code, unused)]\n{modules}fn main() {{\n    {choice}\n}}\n"
    (folder / "src" / "main.rs").write_text(text)
    done = subprocess.run(
        [tool("cargo"), "build", "--quiet", "--message-format=json-render-diagnostics"],
        cwd=folder,
        env=cargo_environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return done.stderr
    artifacts = [json.loads(line) for line in done.stdout.splitlines()]
    built = next(item["executable"] for item in artifacts if item.get("executable"))
    shutil.copy(built, folder / "half")
    (folder / "half").rename(program)
    return None


VALUES: dict[str, Any] = {"null": None, "zero": 0, "false": False, "empty": ""}


async def judge(task: Task, started: Started | Path | str, *, only: Sequence[str] = ()) -> dict[str, str]:
    """The verdict of each check of a task: "ok" or what is wrong. A path is an answer that is no worker."""
    names = [name for name in task.checks if not only or name in only]
    if isinstance(started, str):
        return dict.fromkeys(names, started)
    if isinstance(started, Path):
        subject = Subject(file=started)
        return {name: await verdict(BEHAVIOURS[task.behaviour][name], subject) for name in names}
    async with running_site() as site:
        running = AsyncExitStack()

        async def start() -> None:
            await running.aclose()
            await running.enter_async_context(running_worker(started.command, started.cwd, site))

        subject = Subject(site, command=started.command, cwd=started.cwd, restart=start)

        async def compute(payload: Any) -> Any:
            subject.computed.append(payload["key"])
            kind, _, rest = payload["key"].partition(":")
            return {"value": VALUES[kind] if kind in VALUES else rest.upper()}

        site.host.register_function("slow::compute", compute)
        if before := BEFORE.get(task.behaviour):
            await before(subject)
        verdicts: dict[str, str] = {}
        try:
            async with running:
                await start()
                for name in names:
                    verdicts[name] = await verdict(BEHAVIOURS[task.behaviour][name], subject)
        except (AssertionError, TimeoutError) as error:  # it did not start, or did not stop
            verdicts = {name: str(error) or "it did not end after SIGTERM" for name in names}
    return verdicts


async def verdict(check: Check, subject: Subject) -> str:
    """What one check says."""
    try:
        await check(subject)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


async def judge_directory(directory: Path, chosen: Sequence[Task]) -> dict[str, dict[str, str]]:
    """The verdicts for every task whose folder is in the directory; a missing worker fails its checks."""
    found = {task: task.solution(directory / task.id) for task in chosen}
    verdicts = {}
    with tempfile.TemporaryDirectory() as base:
        rust = {task.id: path.read_text() for task, path in found.items() if path and task.language == "rust"}
        built = build_rust(rust, Path(base) / "rust")
        for task, path in found.items():
            if path is None:
                wanted = " or ".join(FILES[task.language])
                verdicts[task.id] = dict.fromkeys(task.checks, f"missing: {task.id}/{wanted}")
                continue
            started: Started | Path | str = built.get(task.id) or place(task, path, Path(base) / task.id)
            verdicts[task.id] = await judge(task, started)
    return verdicts


def main() -> int:
    """The command line; `run` as its first word lets an agent make what is judged."""
    if sys.argv[1:2] == ["run"]:
        from evals import experiment  # it needs what is above

        return experiment.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="scripts/evals", description=__doc__)
    parser.add_argument(
        "directory",
        type=Path,
        help="holds <task>/worker.py, worker.mjs, main.rs or the answer for each task",
    )
    parser.add_argument("--task", action="append", help="only this task (may be repeated)")
    arguments = parser.parse_args()
    known = {task.id: task for task in tasks()}
    if unknown := set(arguments.task or ()) - set(known):
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if not arguments.directory.is_dir():
        parser.error(f"{arguments.directory} is no directory")
    chosen = [known[name] for name in arguments.task or known]
    verdicts = asyncio.run(judge_directory(arguments.directory, chosen))
    passed = {task: all(verdict == "ok" for verdict in checks.values()) for task, checks in verdicts.items()}
    print(json.dumps({"passed": passed, "checks": verdicts}, indent=2))
    return 0 if all(passed.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
