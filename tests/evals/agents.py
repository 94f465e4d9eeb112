"""Agents: the command lines of coding agents, and what their output tells of tokens and models."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROMPT = "{prompt}"


@dataclass(frozen=True)
class Agent:
    """A command line whose word `{prompt}` is replaced; without one the prompt is written to stdin."""

    name: str
    command: tuple[str, ...]
    installs_for: str
    """What installers of skills call it."""

    @property
    def missing(self) -> str | None:
        """The program that is not there, if so."""
        return None if shutil.which(self.command[0]) else self.command[0]

    def version(self) -> str | None:
        """What it says of its version; None when it says nothing."""
        try:
            done = subprocess.run(
                [self.command[0], "--version"],
                capture_output=True,
                text=True,
                timeout=20,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip().partition("\n")[0][:100] or None if done.returncode == 0 else None


KNOWN = {
    "claude": Agent(
        "claude",
        ("claude", "-p", PROMPT, "--output-format", "json", "--dangerously-skip-permissions"),
        "claude-code",
    ),
    "codex": Agent(
        "codex",
        ("codex", "exec", "--json", "--skip-git-repo-check", "--sandbox", "workspace-write", PROMPT),
        "codex",
    ),
    "opencode": Agent("opencode", ("opencode", "run", "--format", "json", PROMPT), "opencode"),
}


def agent_of(text: str) -> Agent:
    """A known agent by its name, else the command line that the text is; ValueError for an empty one."""
    if text in KNOWN:
        return KNOWN[text]
    words = shlex.split(text)
    if not words:
        raise ValueError("--agent is empty")
    return Agent(text, tuple(words), "claude-code")


@dataclass(frozen=True)
class Answered:
    """How a run of an agent ended."""

    exit_code: int | None
    """None: it was stopped, its time was over."""
    seconds: float
    tokens: dict[str, int]
    """`input` (cached ones among them) and `output`; empty where the agent does not say."""
    models: list[str]


def ask(
    agent: Agent, prompt: str, project: Path, environment: Mapping[str, str], log: Path, seconds: float
) -> Answered:
    """Give an agent a task in a directory; what it writes goes to `log` and `log`.err."""
    command = [word.replace(PROMPT, prompt) for word in agent.command]
    given = b"" if any(PROMPT in word for word in agent.command) else prompt.encode()
    began = time.monotonic()
    with log.open("wb") as output, log.with_suffix(".err").open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        code: int | None
        try:
            process.communicate(given, timeout=seconds)
            code = process.returncode
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # Whatever it left running (hosts, workers) must not meet the next run.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
    said = list(objects(log.read_bytes()))
    return Answered(code, round(time.monotonic() - began, 1), tokens(said), models(said))


def objects(output: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects of an output: the whole of it, or one a line."""
    for text in (output, *output.splitlines()):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        for one in found if isinstance(found, list) else [found]:
            if isinstance(one, dict):
                yield one
        if text is output:
            return


def tokens(said: list[dict[str, Any]]) -> dict[str, int]:
    """The tokens of a run: Claude's `result`, the turns of Codex, the steps of OpenCode."""
    total = {"input": 0, "output": 0}
    for one in said:
        usage, cached = one.get("usage"), ("cache_creation_input_tokens", "cache_read_input_tokens")
        part = one.get("part")
        if one.get("type") == "result" and isinstance(usage, dict):
            total["input"] += sum(_count(usage, name) for name in ("input_tokens", *cached))
            total["output"] += _count(usage, "output_tokens")
        elif one.get("type") == "turn.completed" and isinstance(usage, dict):
            total["input"] += _count(usage, "input_tokens")
            total["output"] += _count(usage, "output_tokens")
        elif one.get("type") == "step_finish" and isinstance(part, dict):
            usage = part.get("tokens")
            if isinstance(usage, dict):
                cache = usage.get("cache")
                cache = cache if isinstance(cache, dict) else {}
                total["input"] += _count(usage, "input") + sum(_count(cache, name) for name in cache)
                total["output"] += _count(usage, "output") + _count(usage, "reasoning")
    return total if any(total.values()) else {}


def models(said: list[dict[str, Any]]) -> list[str]:
    """The models that an output names."""
    found: set[str] = set()
    for one in said:
        used = one.get("modelUsage")
        found |= set(used) if isinstance(used, dict) else set()
        if isinstance(one.get("model"), str):
            found.add(one["model"])
    return sorted(found)


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0
