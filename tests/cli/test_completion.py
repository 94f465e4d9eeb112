"""What a real bash offers, and inserts, at a tab."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.host import running_host
from support.markdown import blocks
from support.tree import ROOT

from iii_skill.cli.main import COMMANDS

PROMPT = b"ready> "


class Bash:
    """An interactive bash on a terminal of its own."""

    def __init__(self, directory: Path, terminal: int) -> None:
        self.directory = directory
        self._terminal = terminal
        self.told(PROMPT)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def told(self, wanted: bytes, seconds: float = 60) -> str:
        """What it shows until the wanted text is there."""
        shown, end = b"", time.monotonic() + seconds
        while wanted not in shown:
            assert time.monotonic() < end, shown
            if select.select([self._terminal], [], [], 0.1)[0]:
                shown += os.read(self._terminal, 65536)
        return shown.decode()

    def line(self, typed: str) -> list[str]:
        """The words of the command line after a tab, as bash would run them."""
        self.type(f"show {typed}\t")
        # Keys that come while it completes are taken afterwards.
        self.type("\n")
        return re.findall(r"<(.*?)>", self.told(PROMPT).partition("\n")[2])


@contextmanager
def bash(directory: Path) -> Iterator[Bash]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("III_", "_III"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    (directory / "rc").write_text(
        'eval "$(iii-skill completion bash)"\n'
        # The same completion for a command that shows its words, as the shell splits them.
        "show() { printf '<%s>' \"$@\"; echo; }\n"
        "_show() { _iii_skill_completion iii-skill; }\ncomplete -o nosort -F _show show\n"
        "bind 'set bell-style none'\nbind 'set enable-bracketed-paste off'\n"
        f"PS1='{PROMPT.decode()}'\n"
    )
    ours, theirs = pty.openpty()
    words = ["bash", "--noprofile", "--rcfile", str(directory / "rc"), "-i"]
    env = {**clean, "PATH": path, "TERM": "dumb"}
    with subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=directory, env=env, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            yield Bash(directory, ours)
        finally:
            process.kill()
            os.close(ours)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bash]:
    directory = tmp_path_factory.mktemp("shell")
    with running_host(directory) as host:
        for key in ("cart:1", "cart:22", "a key", "plain"):
            words = ["state", "set", "shop", key, "1", "--url", host.ws]
            subprocess.run([sys.executable, "-m", "iii_skill", *words], check=True, capture_output=True)
        with bash(directory) as opened:
            yield opened


def test_verbs_scopes_and_keys_are_completed(shell: Bash) -> None:
    assert shell.line("sta") == ["state"]
    assert shell.line("state sco") == ["state", "scopes"]
    assert shell.line("state get sh") == ["state", "get", "shop"]
    assert shell.line("state get shop pl") == ["state", "get", "shop", "plain"]
    assert shell.line("state get shop a") == ["state", "get", "shop", "a key"]
    assert shell.line("state get shop cart:2") == ["state", "get", "shop", "cart:22"]
    assert shell.line("state get shop ca") == ["state", "get", "shop", "cart:"]
    assert shell.line("state export --out") == ["state", "export", "--output"]


def test_nothing_is_offered_and_nothing_said_where_nothing_answers(shell: Bash) -> None:
    assert shell.line("state --nothing get sh") == ["state", "--nothing", "get", "sh"]
    words = ["state", "get", "--url", "ws://127.0.0.1:9", "sh"]
    assert shell.line(" ".join(words)) == words
    words = ["state", "get", "--data-dir", "nowhere", "sh"]
    assert shell.line(" ".join(words)) == words
    assert not (shell.directory / "nowhere").exists()


def test_the_page_says_how_it_is_switched_on() -> None:
    (block,) = [
        block for block in blocks(ROOT / "references" / "terminal.md") if block.directive == "completion"
    ]
    assert 'eval "$(iii-skill completion bash)"' in block.text


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_every_shell_has_its_script_and_every_command_is_offered(shell_name: str) -> None:
    program = str(Path(sys.executable).parent / "iii-skill")
    done = subprocess.run([program, "completion", shell_name], capture_output=True, text=True, check=True)
    assert f"_III_SKILL_COMPLETE={shell_name}_complete" in done.stdout
    env = {**os.environ, "_III_SKILL_COMPLETE": "zsh_complete", "COMP_WORDS": "iii-skill ", "COMP_CWORD": "1"}
    offered = subprocess.run([program], env=env, capture_output=True, text=True, check=True).stdout
    assert set(COMMANDS) <= set(offered.split("\n"))
