"""Every verb of `state`, and `trigger`, against every kind of place: the same answers and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cli.test_state import attached
from click.testing import CliRunner, Result
from support import postgres, redis
from support.host import running_host

from iii_skill.cli.main import cli
from iii_skill.cli.state import VERBS

BIG = '{"n":9007199254740993,"f":1.0,"e":1E2}'
MORE = BIG.replace("993", "994")


@dataclass(frozen=True)
class Step:
    """One command and what is to come of it; `{dir}`, `{other}` and `{editor}` are those of the place."""

    words: list[str]
    stdout: str = ""
    code: int | None = 0
    """None: 0, and stdout tells the time."""
    stdin: str | None = None
    says: str = ""
    """What stderr has."""
    only: tuple[str, ...] = ()
    """The places in which it is so; all without one."""
    env: dict[str, str] = field(default_factory=dict)


STORES = ("file", "redis", "postgres")
HOSTS = ("host", "memory", "attached")

TABLE = [
    Step(["scopes"]),
    Step(["get", "s", "k"], code=3, says="There is no key"),
    Step(["set", "s", "k", BIG]),
    Step(["set", "s", "k", "0", "--if-absent"], code=4),
    Step(["set", "s", "k", "word"], code=2, says="That is no JSON"),
    Step(["set", "s", "k", "[" * 200 + "]" * 200], code=6, says="levels"),
    Step(["set", "s", "from stdin"], stdin='["ü"]\n'),
    Step(["get", "s", "k"], BIG + "\n"),
    Step(["get", "s", "k", "--json"], f'{{"scope":"s","key":"k","value":{BIG}}}\n'),
    Step(
        ["update", "s", "k", "--op", '{"type":"increment","path":"n","by":1}'],
        MORE.replace("1E2", "1E2") + "\n",
    ),
    Step(["update", "s", "k", "--op", '{"type":"increment","path":"a","by":"x"}'], code=1),
    Step(["scopes", "--json"], '{"scope":"s"}\n'),
    Step(["keys", "s"], "k\nfrom stdin\n"),
    Step(["list", "s", "--prefix", "f"], 'from stdin\t["ü"]\n'),
    Step(["edit", "s", "from stdin"], env={"EDITOR": "{editor}"}),
    Step(["get", "s", "from stdin"], '["edited"]\n'),
    Step(["expire", "s", "nope", "1h"], code=3, says="There is no key"),
    Step(["expire", "s", "k", "1h"], code=None),
    Step(["expire", "s", "k", "--clear", "--json"], '{"scope":"s","key":"k","expires_at_ms":null}\n'),
    # Nobody was asked to keep versions here; tests of history do.
    *(
        Step([*words, "--json"], code=1, says="HISTORY_ERROR")
        for words in (["history", "s", "k"], ["diff", "s", "k", "1"], ["revert", "s", "k", "1"])
    ),
    *(
        Step([verb, "s", "k", number], code=2, says="is not in the range")
        for verb in ("diff", "revert")
        for number in ("0", str(1 << 63), "9" * 30)
    ),
    Step(["watch", "--since", "start", "--timeout", "0.1"], only=HOSTS),
    Step(["watch"], code=2, says="no changes to watch", only=STORES),
    Step(["export", "-o", "{dir}/all.ndjson"], says="2 keys of 1 scope"),
    Step(["delete", "s", "--prefix", "f"], code=2, says="Add --yes"),
    Step(["delete", "s", "--all", "--dry-run"], 'would delete "k"\nwould delete "from stdin"\n'),
    Step(["delete", "s", "--all", "--yes"]),
    Step(["delete", "s", "k"], code=3),
    Step(["import", "{dir}/all.ndjson", "--dry-run"], says="2 keys of 1 scope would be written"),
    Step(["keys", "s"]),
    Step(["import", "{dir}/all.ndjson", "--json"], '{"count":2,"written":2,"deleted":0,"atomic":true}\n'),
    Step(["list", "s"], f'k\t{MORE}\nfrom stdin\t["edited"]\n'),
    Step(["copy", "--to", "{other}", "--dry-run"], says="2 keys would be written"),
    Step(["copy", "--to", "{other}"], says="2 keys written"),
    Step(["copy", "--to", "{other}"], says="0 keys written"),
    Step(["delete", "s", "k"]),
    Step(["keys", "s"], "from stdin\n"),
    Step(
        ["backup", "{dir}/copy", "--data-dir", "{dir}/store"],
        says="1 key, all of them checked",
        only=("file",),
    ),
    Step(["backup", "{dir}/copy"], code=2, says="There is no store", only=("redis", "postgres", "memory")),
]
"""In this order; what follows builds on what came before."""


@dataclass
class Place:
    """Where the commands go."""

    name: str
    options: list[str]
    directory: Path
    other: str

    def run(self, *words: str, stdin: str | None = None, own: bool = False, **env: str) -> Result:
        clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith("III_")}
        options = [] if own else self.options
        runner = CliRunner(env={**clean, **env})
        before = Path.cwd()
        os.chdir(self.directory)
        try:
            return runner.invoke(cli, [*words, *options], input=stdin, prog_name="iii-skill")
        finally:
            os.chdir(before)


@pytest.fixture(params=[*HOSTS, *STORES])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    name = request.param
    (tmp_path / "other").mkdir()
    (tmp_path / "home").mkdir()
    with ExitStack() as stack:
        other = stack.enter_context(running_host(tmp_path / "other", "--adapter", "memory")).ws
        if name == "host":
            options = ["--url", stack.enter_context(running_host(tmp_path / "home")).ws]
        elif name == "memory":
            host = stack.enter_context(running_host(tmp_path / "home", "--adapter", "memory"))
            options = ["--url", host.ws]
        elif name == "attached":
            options = ["--url", stack.enter_context(attached(tmp_path / "home"))]
        elif name == "file":
            options = ["--data-dir", str(tmp_path / "store")]
        else:
            settings = redis.settings() if name == "redis" else postgres.settings()
            options = ["--adapter", name]
            for setting, value in settings.items():
                options += ["--adapter-config", f"{setting}={value}"]
        yield Place(name, options, tmp_path, other)


@pytest.mark.timeout(600)
def test_every_verb_answers_the_same_in_every_place(place: Place, tmp_path: Path) -> None:
    script = tmp_path / "editor.py"
    script.write_text("import sys; open(sys.argv[1], 'w').write('[\"edited\"]')")
    editor = f"{sys.executable} {script}"

    def filled(text: str) -> str:
        return (
            text.replace("{dir}", str(tmp_path)).replace("{other}", place.other).replace("{editor}", editor)
        )

    for number, step in enumerate(TABLE):
        if step.only and place.name not in step.only:
            continue
        words = [filled(word) for word in step.words]
        env = {name: filled(value) for name, value in step.env.items()}
        done = place.run("state", *words, stdin=step.stdin, own=words[0] == "backup", **env)
        about = (number, step.words, done.output, done.exception)
        assert done.exit_code == (step.code or 0), about
        if step.code not in (1, None):
            assert done.stdout == step.stdout, about
        assert step.says in done.stderr, about
        if step.code:
            said = place.run(
                "state", *words, "--json", "-q", stdin=step.stdin, own=words[0] == "backup", **env
            )
            assert said.exit_code == step.code
            if step.code not in (1, 2, 4):
                assert set(json.loads(said.stderr)["error"]) >= {"code", "message"}, about
    done = place.run("trigger", "state::get", "scope=s", "key=from stdin")
    assert (done.exit_code, done.stdout) == (0, '["edited"]\n')
    assert place.run("trigger", "nope::x").exit_code == 3


def test_the_table_has_every_verb_and_every_code_but_those_of_breaks() -> None:
    assert {step.words[0] for step in TABLE} == set(VERBS)
    assert {step.code or 0 for step in TABLE} == {0, 1, 2, 3, 4, 6}


def test_what_breaks_has_its_codes(tmp_path: Path) -> None:
    """5: nothing answers; 7: a part was left behind; 130: interrupted."""
    nowhere = Place("nowhere", ["--url", "ws://127.0.0.1:9"], tmp_path, "")
    (tmp_path / "x.ndjson").write_text("")
    values: dict[str, list[str]] = {
        "get": ["s", "k"],
        "set": ["s", "k", "1"],
        "update": ["s", "k", "--op", "{}"],
        "keys": ["s"],
        "list": ["s"],
        "delete": ["s", "k"],
        "edit": ["s", "k"],
        "expire": ["s", "k"],
        "history": ["s", "k"],
        "diff": ["s", "k", "1"],
        "revert": ["s", "k", "1"],
        "copy": ["--to", "ws://127.0.0.1:9"],
        "import": [str(tmp_path / "x.ndjson")],
    }
    for verb in VERBS:
        if verb == "backup":
            continue
        done = nowhere.run("state", verb, *values.get(verb, []), "--json", "-q")
        assert done.exit_code == 5, (verb, done.output)
        assert json.loads(done.stderr)["error"]["code"] == "unreachable"
    assert nowhere.run("trigger", "a::b").exit_code == 5


def test_an_interrupt_ends_with_130(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "memory") as host:
        words = [sys.executable, "-m", "iii_skill", "state", "watch", "--url", host.ws]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
            assert watching.stderr is not None
            assert watching.stdout is not None
            assert host.ws in watching.stderr.readline()
            # It has begun once it tells of a change.
            setting = [sys.executable, "-m", "iii_skill", "state", "set", "--url", host.ws, "s"]
            heard = threading.Thread(target=watching.stdout.readline, daemon=True)
            heard.start()
            for number in range(200):
                subprocess.run([*setting, str(number), "1"], check=True, capture_output=True)
                heard.join(0.1)
                if not heard.is_alive():
                    break
            watching.send_signal(signal.SIGINT)
            assert watching.wait(30) == 130
            assert watching.stderr.read() == ""
