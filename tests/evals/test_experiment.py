"""`scripts/evals run`: a made-up agent, the real installer, the real checks."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from evals.agents import KNOWN, Agent, agent_of, ask, models, objects, tokens
from evals.experiment import main
from support.served import runs, wait_until
from support.tree import ROOT

from iii_skill import __version__

RUN = [sys.executable, "-m", "evals.run", "run"]


def evals(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests"), "III_URL": "ws://127.0.0.1:1"}
    return subprocess.run(
        [*RUN, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


@pytest.mark.timeout(600)  # it installs the skill by npm: as slow as the machine
def test_both_arms_are_run_judged_and_summed_up(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    counter.write_text("0")
    fake = f"env PYTHONPATH={ROOT / 'tests'} {sys.executable} {Path(__file__).parent / 'fake_agent.py'}"
    agent = f"{fake} {{prompt}} {shlex.quote(str(counter))}"
    done = evals("--agent", agent, "--baseline", "--runs", "2", "--task", "python-cart", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "evals-out" / "results.json").read_text())
    assert found["versions"]["iii-skill"] == __version__
    assert found["versions"]["models"] == ["fake-1"]
    arms = found["arms"]
    assert json.loads(done.stdout) == arms
    assert arms["delta_pass@1"] == 0.5
    for arm, passed, once, always in (("skill", "1/2", 0.5, 0.0), ("baseline", "0/2", 0.0, 0.0)):
        assert arms[arm]["tasks"] == {"python-cart": passed}
        assert (arms[arm]["pass@1"], arms[arm]["pass^2"]) == (once, always)
        assert arms[arm]["tokens_median"] == 123
    by_arm = {(one["arm"], one["run"]): one for one in found["attempts"]}
    assert by_arm["skill", 1]["passed"]
    assert [name for name, said in by_arm["skill", 2]["checks"].items() if said != "ok"] == ["is-sold-once"]
    assert set(by_arm["baseline", 1]["checks"].values()) == {"missing: python-cart/worker.py"}
    made = tmp_path / "evals-out" / "skill" / "1" / "python-cart"
    assert (made / "worker.py").is_file()
    assert not (tmp_path / "evals-out" / "baseline" / "1" / "python-cart" / ".claude").exists()
    assert str(ROOT) not in "".join(path.read_text() for path in made.rglob("*.json"))


def test_without_the_agent_it_is_skipped_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["--agent", "no-such-agent --go {prompt}", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err == "skipped: there is no program no-such-agent here to run the tasks with\n"
    assert (said.out, out.exists()) == ("", False)


def test_without_what_installs_the_skill_it_is_skipped_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agent").write_text("#!/bin/sh\n")
    (tmp_path / "agent").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "out"
    assert main(["--agent", "agent", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err == "skipped: there is no node here to install the skill with\n"
    assert (said.out, out.exists()) == ("", False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--agent", "true", "--task", "x"], "no task x; there are"),
        (["--agent", "true", "--runs", "0"], "--runs is at least 1"),
        (["--agent", " "], "--agent is empty"),
        ([], "--agent"),
    ],
)
def test_wrong_arguments_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_an_agent_that_does_not_end_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    script = 'sleep 600 & echo $! > child; echo \'{"type":"result"\'; cat > prompt; sleep 600'
    agent = Agent("slow", ("sh", "-c", script), "claude-code")
    prompt, seconds = tmp_path / "prompt", 1.0
    while not prompt.exists() or prompt.read_text() != "do it":  # until it has had the time to begin
        answered = ask(agent, "do it", tmp_path, dict(os.environ), tmp_path / "slow.log", seconds)
        assert answered.exit_code is None
        assert answered.tokens == {}
        seconds *= 4
    child = int((tmp_path / "child").read_text())
    wait_until("the end of what it started", lambda: not runs(child))


CLAUDE = (
    '{"type":"result","usage":{"input_tokens":5,"cache_read_input_tokens":2,"output_tokens":3},'
    '"modelUsage":{"m":{}}}'
)
CODEX = (
    '{"type":"thread.started","thread_id":"x"}\nno json\n'
    '{"type":"turn.completed","usage":{"input_tokens":4,"cached_input_tokens":2,"output_tokens":1}}\n'
    '{"type":"turn.completed","usage":{"input_tokens":3,"cached_input_tokens":0,"output_tokens":2}}\n'
)
OPENCODE = (
    '{"type":"step_finish","part":{"type":"step-finish","tokens":'
    '{"input":1,"output":2,"reasoning":1,"cache":{"read":6,"write":0}}}}\n'
)


@pytest.mark.parametrize(("output", "total"), [(CLAUDE, (7, 3)), (CODEX, (7, 3)), (OPENCODE, (7, 3))])
def test_tokens_are_read_from_what_each_agent_writes(output: str, total: tuple[int, int]) -> None:
    said = list(objects(output.encode()))
    assert tokens(said) == {"input": total[0], "output": total[1]}
    assert models(said) == (["m"] if output is CLAUDE else [])


@pytest.mark.parametrize(
    "output", ["", "text", "[1]", '{"usage":1}', "[" * 100_000, '{"type":"result","usage":{}}']
)
def test_output_without_tokens_has_none(output: str) -> None:
    assert tokens(list(objects(output.encode()))) == {}


def test_known_agents_and_templates() -> None:
    for name, agent in KNOWN.items():
        assert agent_of(name) is agent
        assert agent.command[0] == name
        assert "{prompt}" in agent.command
    assert agent_of("my-agent --do '{prompt} now'").command == ("my-agent", "--do", "{prompt} now")
