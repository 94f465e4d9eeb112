"""`iii-skill state` and `iii-skill trigger`: the same answers from every kind of place."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import many_edits
from support.host import running_host

from iii_skill.cli.reach import Stopped
from iii_skill.cli.state.export_file import ExportWriter, rows, target
from iii_skill.plugins import load_plugins
from iii_skill.state.functions import IMPORT
from iii_skill.testing.engine.local import LocalEngine

BIG = '{"n":9007199254740993,"f":1.0,"e":1E2}'


@dataclass
class Place:
    """Where the commands of a test go."""

    options: list[str]
    directory: Path
    watches: bool

    def run(self, *words: str, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("III_")}
        return subprocess.run(
            [sys.executable, "-m", "iii_skill", *words, *self.options],
            cwd=self.directory,
            env={**clean, **env},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ok(self, *words: str, **more: Any) -> str:
        done = self.run(*words, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, code: int, *words: str, **more: Any) -> str:
        done = self.run(*words, **more)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stderr


@contextmanager
def attached(directory: Path) -> Iterator[str]:
    """An engine whose state another process serves."""
    with running_host(directory, "--no-state") as engine:
        command = [
            *(sys.executable, "-m", "iii_skill", "attach", "--engine", engine.ws, "--ready-json"),
            *("--data-dir", str(directory / "attached")),
        ]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(command, **pipes) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            try:
                yield engine.ws
            finally:
                process.terminate()
                process.wait()


@pytest.fixture(params=["host", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    work = tmp_path / "work"
    work.mkdir()
    with ExitStack() as stack:
        if request.param == "host":
            host = stack.enter_context(running_host(tmp_path))
            yield Place(["--url", host.ws], work, True)
        else:
            yield Place(["--data-dir", str(tmp_path / "store")], work, False)


def test_values_are_set_read_changed_and_deleted_as_they_are(place: Place) -> None:
    assert place.ok("state", "scopes") == ""
    place.ok("state", "set", "s", "k", BIG)
    assert place.ok("state", "get", "s", "k") == BIG + "\n"
    assert place.ok("state", "get", "s", "k", "--pointer", "/n") == "9007199254740993\n"
    place.ok("state", "set", "s", "from stdin", stdin='["ü", null]\n')
    place.ok("state", "set", "s", "text", "--string", "no json")
    assert place.ok("state", "scopes") == "s\n"
    assert place.ok("state", "keys", "s") == "k\nfrom stdin\ntext\n"
    assert place.ok("state", "keys", "s", "--prefix", "f", "--json") == '{"scope":"s","key":"from stdin"}\n'
    assert place.ok("state", "list", "s") == f'k\t{BIG}\nfrom stdin\t["ü", null]\ntext\t"no json"\n'
    op = '{"type": "increment", "path": "n", "by": 1}'
    assert '"n":9007199254740994' in place.ok("state", "update", "s", "k", "--op", op)
    place.ok("state", "delete", "s", "k")
    assert "There is no key" in place.fails(3, "state", "get", "s", "k")
    assert place.ok("state", "delete", "s", "--prefix", "f", "--dry-run") == 'would delete "from stdin"\n'
    assert "Add --yes" in place.fails(2, "state", "delete", "s", "--all")
    place.ok("state", "delete", "s", "--all", "--yes")
    assert place.ok("state", "keys", "s") == ""


def test_conditions_and_errors_have_codes(place: Place) -> None:
    place.ok("state", "set", "s", "k", "1", "--if-absent")
    place.fails(4, "state", "set", "s", "k", "2", "--if-absent")
    place.fails(4, "state", "set", "s", "k", "2", "--if-equals", "5")
    place.ok("state", "set", "s", "k", "2", "--if-equals", "1")
    assert place.ok("state", "get", "s", "k") == "2\n"
    said = json.loads(place.fails(3, "state", "get", "s", "nope", "--json", "-q"))
    assert said == {"error": {"code": "not_found", "message": 'There is no key "nope" in scope "s".'}}
    assert "That is no JSON" in place.fails(2, "state", "set", "s", "k", "word")
    deep = "[" * 200 + "]" * 200
    assert "levels" in place.fails(6, "state", "set", "s", "k", deep)
    op = '{"type":"increment","path":"a","by":1}'
    assert "target_not_object" in place.fails(1, "state", "update", "s", "k", "--op", op)
    place.fails(2, "state", "delete", "s")


def test_any_function_can_be_called(place: Place) -> None:
    assert place.ok("trigger", "state::set", "scope=s", "key=k", 'value={"a":[1]}').startswith("{")
    assert place.ok("trigger", "state::get", "scope=s", "key=k") == '{"a":[1]}\n'
    assert place.ok("trigger", "state::list", "--payload", '{"scope":"s"}') == '[{"a":[1]}]\n'
    assert "nope::x" in place.fails(3, "trigger", "nope::x")


@pytest.mark.parametrize("name", ["all.ndjson", "all.ndjson.gz"])
def test_an_export_comes_back_byte_for_byte(place: Place, name: str) -> None:
    values = {"a": BIG, "ü \n": '"x"', "": "[1,  2]", "deep": "[" * 100 + "]" * 100}
    for key, value in values.items():
        place.ok("state", "set", "one", key, value)
    place.ok("state", "set", "two", "k", "null")
    before = place.ok("state", "list", "one", "--json")
    place.ok("state", "export", "-o", name)
    content = (place.directory / name).read_bytes()
    lines = (gzip.decompress(content) if name.endswith(".gz") else content).splitlines()
    assert len(lines) == 7
    assert place.ok("state", "import", name, "--dry-run") == ""
    place.ok("state", "delete", "one", "--all", "--yes")
    place.ok("state", "set", "one", "extra", "1")
    place.ok("state", "import", name, "--replace", "--yes")
    assert place.ok("state", "list", "one", "--json") == before
    place.ok("state", "set", "one", "a", "5")
    place.ok("state", "import", name, "--if-absent")
    assert place.ok("state", "get", "one", "a") == "5\n"


@pytest.fixture
def store(tmp_path: Path) -> Place:
    return Place(["--data-dir", str(tmp_path / "store")], tmp_path, False)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text.replace(b'"value":1', b'"value":2'), "its sum does not fit"),
        (lambda text: b"\n".join(text.splitlines()[:-1]) + b"\n", "its last line is missing"),
        (lambda text: text[: len(text) // 2], "line"),
        (lambda _text: b"{}\n", "was not written by"),
        (lambda _text: b"", "its last line is missing"),
        (lambda text: text + b"{}\n", "after the end"),
        (lambda text: text[:-20], "its last line is cut off"),
        (lambda text: text.replace(b'"k1"', b'"\xff"'), "line 3 is no row"),
        (
            lambda text: text.replace(b'"value":1', b'"value":' + b"[" * 9999 + b"]" * 9999, 1),
            "line 2 is no row",
        ),
    ],
)
def test_a_damaged_file_is_refused_before_anything_is_written(store: Place, damage: Any, words: str) -> None:
    for number in range(5):
        store.ok("state", "set", "s", f"k{number}", "1")
    store.ok("state", "export", "-o", "x.ndjson")
    file = store.directory / "x.ndjson"
    file.write_bytes(damage(file.read_bytes()))
    store.ok("state", "delete", "s", "--all", "--yes")
    assert words in store.fails(2, "state", "import", "x.ndjson")
    assert store.ok("state", "keys", "s") == ""


def test_a_packed_file_with_a_wrong_byte_is_refused_wherever_that_is(tmp_path: Path) -> None:
    with target(tmp_path / "x.gz") as whole:
        writer = ExportWriter(whole)
        for number in range(20):
            writer.row("s", f"k{number}", b'"%b"' % hashlib.sha256(b"%d" % number).hexdigest().encode())
        writer.end()
    content = (tmp_path / "x.gz").read_bytes()
    assert len(list(rows(tmp_path / "x.gz"))) == 20
    # From the packed bytes on to the sum at the end; the name and the time in the head are of no meaning.
    for place in range(20, len(content)):
        (tmp_path / "y.gz").write_bytes(
            content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
        )
        with pytest.raises(Stopped):
            list(rows(tmp_path / "y.gz"))


def test_an_import_that_fails_says_why_also_when_it_cannot_be_taken_back(tmp_path: Path) -> None:
    with LocalEngine(plugins=load_plugins()) as engine:
        here = Place(["--url", engine.url], tmp_path, True)
        here.ok("state", "set", "s", "k", "1")
        here.ok("state", "export", "-o", "x.ndjson")
        # The first call begins the import, the second brings a part, the third would take it back.
        engine.faults.fail(IMPORT, code="STORE_FULL", message="There is no room for it.", skip=1, times=1)
        engine.faults.fail(IMPORT, message="Nor for this.", skip=1, times=1)
        told = here.fails(1, "state", "import", "x.ndjson")
        assert "There is no room for it." in told
        assert "Nor for this." not in told
        here.ok("state", "import", "x.ndjson")


def test_an_export_that_is_interrupted_leaves_the_old_file(store: Place) -> None:
    (store.directory / "x.ndjson").write_text("old")
    store.fails(2, "state", "export", "-o", "x.ndjson", "--adapter", "nope")
    assert (store.directory / "x.ndjson").read_text() == "old"
    said = store.fails(2, "state", "export", "-o", "missing/x.ndjson")
    assert "missing/x.ndjson cannot be written: No such file or directory" in said
    assert [path.name for path in store.directory.iterdir() if path.name.startswith(".x")] == []


def editor(directory: Path, script: str) -> str:
    """A program that does to the file what a person would do in the editor."""
    path = directory / "editor.py"
    head = "import sys, json, subprocess, os\nfile = sys.argv[1]\ntext = open(file).read()\n"
    path.write_text(head + script)
    return f"{sys.executable} {path}"


def test_edit_stores_what_the_editor_left(place: Place) -> None:
    place.ok("state", "set", "s", "k", '{"a":1,"n":9007199254740993}')
    change = editor(place.directory, 'open(file, "w").write(text.replace(\'"a": 1\', \'"a": 2\'))')
    place.ok("state", "edit", "s", "k", EDITOR=change)
    assert place.ok("state", "get", "s", "k") == '{"a":2,"n":9007199254740993}\n'
    place.ok("state", "edit", "s", "k", EDITOR="true")
    broken = editor(place.directory, 'open(file, "w").write("{")')
    done = place.run("state", "edit", "s", "k", EDITOR=broken)
    assert done.returncode == 2
    kept = done.stderr.split("your edit is kept in ")[1].split("\n")[0]
    assert Path(kept).read_text() == "{"
    os.unlink(kept)


def test_an_edit_and_another_change_are_merged_or_the_edit_is_kept(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        place = Place(["--url", host.ws], tmp_path, True)
        place.ok("state", "set", "s", "k", '{"a":1,"b":1}')
        mine = 'open(file, "w").write(text.replace(\'"a": 1\', \'"a": 2\'))\n'

        def other(value: str) -> str:
            words = [sys.executable, "-m", "iii_skill", "state", "set", "s", "k", value, "--url", host.ws]
            return f"subprocess.run({words!r})\n"

        meanwhile = editor(tmp_path, mine + other('{"a":1,"b":5}'))
        place.ok("state", "edit", "s", "k", EDITOR=meanwhile)
        assert json.loads(place.ok("state", "get", "s", "k")) == {"a": 2, "b": 5}
        place.ok("state", "set", "s", "k", '{"a":1,"b":1}')
        clash = editor(tmp_path, mine + other('{"a":7,"b":1}'))
        said = place.fails(4, "state", "edit", "s", "k", EDITOR=clash)
        assert '"/a"' in said
        kept = said.split("your edit is kept in ")[1].split("\n")[0]
        assert '"a": 2' in Path(kept).read_text()
        assert json.loads(place.ok("state", "get", "s", "k")) == {"a": 7, "b": 1}
        os.unlink(kept)


@pytest.mark.timeout(600)
def test_many_edits_at_once_lose_no_change(tmp_path: Path) -> None:
    """Each adds a member of its own: all of them are there, whoever was first."""
    count = 200 if os.environ.get("III_SKILL_TEST_ALL") else 30
    script = tmp_path / "add.sh"
    script.write_text('sed -i "1s/{/{\\"e$$\\": 1,/" "$1"\n')
    with running_host(tmp_path) as host:
        place = Place(["--url", host.ws], tmp_path, True)
        place.ok("state", "set", "s", "k", '{"n":9007199254740993}')
        words = [sys.executable, "-P", many_edits.__file__, host.ws, str(count), "s", "k"]
        env = {**os.environ, "EDITOR": f"sh {script}", "TMPDIR": str(tmp_path)}
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=500, check=True)
        assert json.loads(done.stdout) == {"0": count}, done.stderr[-2000:]
        value = place.ok("state", "get", "s", "k")
        assert len(json.loads(value)) == count + 1
        assert '"n":9007199254740993' in value


def test_watch_shows_changes_and_goes_on_after_a_break(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        place = Place(["--url", host.ws], tmp_path, True)
        first = json.loads(place.ok("trigger", "iii-skill::state::changes"))["next"]
        for number in range(3):
            place.ok("state", "set", "s", "k", str(number))
        place.ok("state", "delete", "s", "k")
        seen = place.ok("state", "watch", "--since", first, "--count", "4")
        assert seen == "created\ts\tk\t0\nupdated\ts\tk\t1\nupdated\ts\tk\t2\ndeleted\ts\tk\n"
        rows = place.ok("state", "watch", "s", "--since", first, "--count", "2", "--json").splitlines()
        cursor = json.loads(rows[1])["cursor"]
        assert place.ok("state", "watch", "--since", cursor, "--count", "1").startswith("updated\ts\tk\t2")
        assert place.ok("state", "watch", "--timeout", "0.2") == ""
        place.ok("state", "watch", "--since", first, "--count", "1", "--exec", "cat > seen.json")
        assert json.loads((tmp_path / "seen.json").read_text())["new_value"] == 0
        host.restart()
        said = place.fails(7, "state", "watch", "--since", cursor, "--json", "-q")
        assert json.loads(said)["error"]["code"] == "CURSOR_TOO_OLD"


def test_a_watch_survives_the_end_of_the_host_and_tells_of_the_gap(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        place = Place(["--url", host.ws], tmp_path, True)
        since = json.loads(place.ok("trigger", "iii-skill::state::changes"))["next"]
        place.ok("state", "set", "s", "k", "1")
        command = [sys.executable, "-m", "iii_skill", "state", "watch", "--since", since, "--url", host.ws]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as watching:
            try:
                assert watching.stdout.readline() == "created\ts\tk\t1\n"
                assert host.ws in watching.stderr.readline()
                host.restart()
                assert "the connection is lost" in watching.stderr.readline()
                assert watching.wait(30) == 7
            finally:
                watching.kill()


def test_it_says_where_it_goes_and_finds_the_host_of_the_directory(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    place = Place([], below, True)
    with running_host(tmp_path) as host:
        done = place.run("state", "scopes")
        assert (done.returncode, done.stderr) == (0, f"[{host.ws}]\n")
        assert place.run("state", "scopes", "-q").stderr == ""
        host.sigterm()
    assert not (tmp_path / ".iii" / "host.json").exists()
    said = place.fails(5, "state", "scopes", III_URL="ws://127.0.0.1:9")
    assert "Nothing answers at ws://127.0.0.1:9" in said
    assert "Start `iii-skill serve`" in said


def test_a_store_in_use_names_its_host(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        place = Place(["--data-dir", str(tmp_path / ".iii" / "state")], tmp_path, False)
        said = place.fails(1, "state", "scopes")
        assert str(host.pid) in said


def test_an_engine_without_keys_is_told_of(tmp_path: Path) -> None:
    with running_host(tmp_path, "--no-state") as host:
        place = Place(["--url", host.ws], tmp_path, True)
        said = place.fails(3, "state", "keys", "s")
        assert "cannot do `keys`" in said
        assert "iii-skill attach" in said


def test_copy_leaves_equal_keys_alone(tmp_path: Path) -> None:
    store = Place(["--data-dir", str(tmp_path / "store")], tmp_path, False)
    for number in range(3):
        store.ok("state", "set", "s", f"k{number}", str(number))
    (tmp_path / "other").mkdir()
    with running_host(tmp_path / "other") as host:
        other = Place(["--url", host.ws], tmp_path, True)
        other.ok("state", "set", "s", "k1", "1")
        done = store.run("state", "copy", "s", "--to", host.ws)
        assert (done.returncode, "2 keys written" in done.stderr) == (0, True)
        assert sorted(other.ok("state", "list", "s").splitlines()) == ["k0\t0", "k1\t1", "k2\t2"]
        assert "0 keys written" in store.run("state", "copy", "--to", host.ws).stderr
