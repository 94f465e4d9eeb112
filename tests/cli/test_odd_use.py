"""What people and scripts do to the command line that nobody plans for: one clear end to each."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.host import HostProcess, running_host

from iii_skill.cli.state import VERBS
from iii_skill.cli.trigger import EXAMPLES

PROGRAM = [sys.executable, "-m", "iii_skill"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("III_")}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with running_host(tmp_path_factory.mktemp("odd")) as running:
        yield running


def run(host: HostProcess, *words: Any, **more: Any) -> subprocess.CompletedProcess[str]:
    """The command in the shell's directory of the test, against the host."""
    fields: dict[str, Any] = {"stdin": subprocess.DEVNULL, "env": CLEAN} | more
    return subprocess.run(
        [*PROGRAM, *words, "--url", host.ws],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **fields,
    )


def shell(host: HostProcess, line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`$I` is the program, `$U` the host."""
    names = {"I": f"{sys.executable} -m iii_skill", "U": host.ws}
    return subprocess.run(
        ["bash", "-c", line],
        env={**CLEAN, **names, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("state", "get", b"\xff", "k"),
        ("state", "set", "s", "k", b"\xff"),
        ("state", "get", "s", "k", "--pointer", b"/\xff"),
        ("state", "export", "s", b"\xff"),
        ("trigger", b"f\xff"),
        ("trigger", "f", b"\xff=1"),
    ],
)
def test_an_argument_that_is_not_utf_8_is_a_wrong_call(host: HostProcess, words: tuple[Any, ...]) -> None:
    done = run(host, *words)
    assert (done.returncode, "\\xff" in done.stderr, "is not UTF-8" in done.stderr) == (2, True, True), done


def test_a_closed_standard_file_is_an_empty_one(host: HostProcess) -> None:
    assert shell(host, '$I state set odd k 1 --url "$U"').returncode == 0
    for line, code in {
        '$I state get odd k --url "$U" >&-': 0,
        '$I state export odd --url "$U" >&-': 0,
        '$I state get odd k --url "$U" 2>&-': 0,
        '$I state set odd k2 --url "$U" <&-': 2,
        '$I state delete odd --all --url "$U" <&-': 2,
    }.items():
        done = shell(host, line)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), (line, done)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("state", "get"), "usage", "Missing argument 'SCOPE'."),
        (("state", "nope"), "usage", "No such command 'nope'."),
        (("state", "get", "s", "k", "--data-dir", "x"), "usage", "--url names a host"),
        (("state", "get", "s", "k", "--token-file", "nowhere"), "failed", "nowhere"),
        (("trigger", "f", "=1"), "usage", "is not KEY=VALUE"),
    ],
)
def test_with_json_a_wrong_call_is_an_object_too(
    host: HostProcess, words: tuple[str, ...], code: str, says: str
) -> None:
    done = run(host, *words, "--json")
    told = json.loads(done.stderr)["error"]
    assert (told["code"], says in told["message"], done.stdout) == (code, True, "")
    assert done.returncode == (2 if code == "usage" else 1)


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1"])
def test_what_is_no_time_is_a_wrong_call(host: HostProcess, seconds: str) -> None:
    for words in (("state", "watch"), ("doctor",)):
        done = run(host, *words, "--timeout", seconds)
        assert (done.returncode, "Invalid value for '--timeout'" in done.stderr) == (2, True), done


def test_a_call_that_no_message_holds_is_not_sent(host: HostProcess) -> None:
    value = '"' + "x" * (64 * 1024 * 1024) + '"'
    for words in (("state", "set", "odd", "big"), ("trigger", "state::get", "--payload", "-")):
        done = run(host, *words, input=value, stdin=None)
        assert (done.returncode, "Nothing was sent." in done.stderr) == (6, True), done.stderr
    assert run(host, "state", "get", "odd", "big").returncode == 3


def test_what_is_no_value_says_what_to_do(host: HostProcess) -> None:
    assert "There is no value. Give it as JSON" in run(host, "state", "set", "odd", "k").stderr
    assert "--string" in run(host, "state", "set", "odd", "k", "word").stderr
    for words in (("trigger", "f", "--payload", "word"), ("state", "update", "s", "k", "--op", "word")):
        done = run(host, *words)
        assert (done.returncode, "quotes" in done.stderr, "--string" in done.stderr) == (2, True, False)
    assert run(host, "state", "set", "odd", "k", "{}").returncode == 0
    assert run(host, "state", "get", "odd", "k", "--pointer", "a").returncode == 2


@pytest.mark.parametrize("pointer", ["/" + "9" * 5000, "/\u00b2", "/01", "/-1", "/-", "/\u0661", "/0/0"])
def test_what_is_no_place_in_an_array_is_nothing(host: HostProcess, pointer: str) -> None:
    assert run(host, "state", "set", "odd", "array", "[1, 2]").returncode == 0
    done = run(host, "state", "get", "odd", "array", "--pointer", pointer)
    assert (done.returncode, "The value has nothing at" in done.stderr) == (3, True), done.stderr
    assert run(host, "state", "get", "odd", "array", "--pointer", "/1").stdout == "2\n"


def test_the_http_port_is_told_from_a_place_where_nothing_listens(host: HostProcess) -> None:
    for url, says in {
        host.http.replace(
            "http", "ws", 1
        ): "does not answer as a host or an engine: it answers HTTP 404; a worker",
        host.http: "those begin with ws:// or wss://.",
        "ws://127.0.0.1:9": "Nothing answers at ws://127.0.0.1:9: Connection refused.",
    }.items():
        for words in ("get s k", "export"):
            done = shell(host, f"$I state {words} --url {url}")
            assert (done.returncode, says in done.stderr) == (5, True), done.stderr


def on_terminal(words: list[str], typed: bytes = b"", **env: str) -> tuple[int, str]:
    """Exit code and what a command writes to a terminal of its own that types this when it is asked."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [*PROGRAM, *words], {**CLEAN, **env})
    shown, end = b"", time.monotonic() + 60
    while True:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        # A signal between the question and the wait for the answer ends neither: then it is typed once more.
        if not select.select([terminal], [], [], 2)[0]:
            if b"?" in shown:
                with contextlib.suppress(OSError):  # it ended just now
                    os.write(terminal, typed)
            continue
        try:
            some = os.read(terminal, 65_536)
        except OSError:  # the other side is closed
            break
        if not some:
            break
        shown += some
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return code, shown.decode()


def test_a_value_cannot_steer_a_terminal_and_leaves_a_pipe_as_it_is(host: HostProcess) -> None:
    value = '"\u009b31m \u202e \u2028 \u200d ü"'
    assert run(host, "state", "set", "steer", "k", value).returncode == 0
    for verb in (["list", "steer"], ["get", "steer", "k"], ["list", "steer", "--json"]):
        _, shown = on_terminal(["state", *verb, "--url", host.ws])
        assert '"\\u009b31m \\u202e \\u2028 \u200d ü"' in shown
    done = run(
        host, "state", "get", "steer", "k", env={**CLEAN, "PYTHONIOENCODING": "latin-1"}, encoding="utf-8"
    )
    assert done.stdout == f"{value}\n"


def test_a_question_is_answered_or_interrupted(host: HostProcess) -> None:
    assert run(host, "state", "set", "asked", "k", "1").returncode == 0
    words = ["state", "delete", "asked", "--all", "--url", host.ws]
    code, shown = on_terminal(words, b"n\n")
    assert (code, "Delete 1 key of scope" in shown, "Nothing was changed." in shown) == (1, True, True)
    assert on_terminal(words, b"\x03")[0] == 130
    assert run(host, "state", "get", "asked", "k").returncode == 0
    assert on_terminal(words, b"y\n")[0] == 0
    assert run(host, "state", "get", "asked", "k").returncode == 3


def test_an_interrupt_ends_the_doctor_with_130() -> None:
    came = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def silent() -> None:
            connection, _ = server.accept()
            came.set()
            with connection:
                while connection.recv(65_536):
                    pass

        threading.Thread(target=silent, daemon=True).start()
        url = f"ws://127.0.0.1:{server.getsockname()[1]}"
        with subprocess.Popen(
            [*PROGRAM, "doctor", "--timeout", "60", "--url", url],
            env=CLEAN,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert came.wait(60)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in told) == (130, False), told


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk of its own that takes 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_file_that_cannot_be_written_is_named(host: HostProcess, small: Path) -> None:
    assert (
        run(host, "state", "set", "large", "k", input='"' + "x" * 2_000_000 + '"', stdin=None).returncode == 0
    )
    (small / "old").write_text("old")
    done = run(host, "state", "export", "large", "-o", str(small / "old"))
    assert done.returncode == 1
    assert f"{small / 'old'} cannot be written: No space left on device." in done.stderr
    assert [file.name for file in small.iterdir()] == ["old"]
    assert (small / "old").read_text() == "old"
    assert run(host, "state", "export", "large", "-o", str(small)).returncode == 2
    copying = ["state", "backup", str(small / "copy"), "--data-dir", str(host.ready["data_dir"])]
    copied = subprocess.run([*PROGRAM, *copying], env=CLEAN, capture_output=True, text=True, check=False)
    assert copied.returncode == 1
    assert f"The copy in {small / 'copy'} cannot be written (No space left on device)" in copied.stderr


def test_an_export_goes_through_a_pipe(host: HostProcess, tmp_path: Path) -> None:
    assert run(host, "state", "set", "piped", "k", "1E2").returncode == 0
    export, into = '$I state export piped --url "$U" -q', f"--data-dir {tmp_path / 'store'}"
    for line in (
        f"{export} | $I state import - {into}",
        f"{export} | gzip | $I state import - {into}",
        f"$I state import <({export}) {into}",
    ):
        done = shell(host, line, TMPDIR=str(tmp_path))
        assert (done.returncode, "1 of 1 keys written" in done.stderr) == (0, True), (line, done.stderr)
        got = shell(host, f"$I state get piped k {into}; $I state delete piped k {into}")
        assert got.stdout == "1E2\n"
    broken = shell(host, f"{export} | head -2 | $I state import - {into}", TMPDIR=str(tmp_path))
    assert (broken.returncode, "its last line is missing" in broken.stderr) == (2, True), broken.stderr
    assert list(tmp_path.glob("iii-skill-*")) == []


def test_a_scope_without_keys_is_told_of(host: HostProcess, tmp_path: Path) -> None:
    done = run(host, "state", "export", "no such", "-o", str(tmp_path / "file"))
    assert (done.returncode, 'scope "no such" has no keys' in done.stderr) == (0, True)
    assert 'scope "no such" has no keys' in run(host, "state", "copy", "no such", "--to", host.ws).stderr


def edited(host: HostProcess, directory: Path, editor: str) -> subprocess.CompletedProcess[str]:
    """`edit` with a script as editor, whose argument is the file; that is in the directory."""
    script = directory / "editor.sh"
    script.write_text(editor)
    env = {**CLEAN, "EDITOR": f"sh {script}", "TMPDIR": str(directory)}
    assert run(host, "state", "set", "edited", "k", '{"n": 1}').returncode == 0
    return run(host, "state", "edit", "edited", "k", env=env)


@pytest.mark.parametrize(
    ("editor", "code", "says"),
    [
        ("exit 3", 1, "Editing failed"),
        ('rm "$1"', 1, "The editor left no file behind"),
        (': > "$1"', 0, "nothing was changed"),
        ("true", 0, "nothing was changed"),
    ],
)
def test_an_editor_that_gives_up_leaves_value_and_disk_as_they_were(
    host: HostProcess, tmp_path: Path, editor: str, code: int, says: str
) -> None:
    done = edited(host, tmp_path, editor)
    assert (done.returncode, says in done.stderr, "kept" in done.stderr) == (code, True, False), done.stderr
    assert list(tmp_path.glob("iii-skill-*")) == []
    assert run(host, "state", "get", "edited", "k").stdout == '{"n": 1}\n'


def test_an_edit_of_a_key_that_was_deleted_meanwhile_is_kept(host: HostProcess, tmp_path: Path) -> None:
    command = f"{sys.executable} -m iii_skill state delete edited k --url {host.ws}"
    done = edited(host, tmp_path, f'sed -i s/1/2/ "$1"\n{command}\n')
    assert (done.returncode, "Somebody else deleted the key." in done.stderr) == (4, True), done.stderr
    (kept,) = tmp_path.glob("iii-skill-*")
    assert json.loads(kept.read_text()) == {"n": 2}


def test_an_editor_that_leaves_what_is_no_json_is_not_opened_for_ever(
    host: HostProcess, tmp_path: Path
) -> None:
    assert run(host, "state", "set", "edited", "k", '{"n": 1}').returncode == 0
    script = tmp_path / "editor.sh"
    script.write_text('echo "{" > "$1"; echo opened\n')
    env = {"EDITOR": f"sh {script}", "TMPDIR": str(tmp_path)}
    code, shown = on_terminal(["state", "edit", "edited", "k", "--url", host.ws], **env)
    assert (code, shown.count("opened")) == (2, 2), shown


def test_an_interrupt_goes_to_the_editor_and_ends_the_edit_if_that_fails(
    host: HostProcess, tmp_path: Path
) -> None:
    assert run(host, "state", "set", "edited", "k", '{"n": 1}').returncode == 0
    script = tmp_path / "editor.sh"
    words = ["state", "edit", "edited", "k", "--url", host.ws]
    env = {"EDITOR": f"sh {script}", "TMPDIR": str(tmp_path)}
    script.write_text("trap 'sed -i s/1/2/ \"$1\"; exit 0' INT\necho ready?\nwhile :; do sleep 0.1; done\n")
    assert on_terminal(words, b"\x03", **env)[0] == 0
    assert run(host, "state", "get", "edited", "k").stdout == '{"n":2}\n'
    script.write_text("echo ready?\nwhile :; do sleep 0.1; done\n")
    assert on_terminal(words, b"\x03", **env)[0] == 130


def test_the_examples_of_the_help_do_what_they_say(tmp_path: Path) -> None:
    """All of them, in the order of the table but for what another one needs."""
    (tmp_path / "chair.json").write_text('{"stock": 1}')
    (tmp_path / ".iii").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "iii-skill").write_text(f'#!/bin/sh\nexec {sys.executable} -m iii_skill "$@"\n')
    (tmp_path / "bin" / "iii-skill").chmod(0o755)
    (tmp_path / "other").mkdir()
    order = {name: index for index, name in enumerate(["set", "update", "export"])}
    lines = [
        f"iii-skill state {example}"
        for name in sorted(VERBS, key=lambda name: order.get(name, len(order)))
        for example in VERBS[name].examples
    ]
    (tmp_path / "iii-config.yaml").write_text(
        "workers: [{name: iii-state, config: {adapter: {name: file, config: {history: {keep: 9}}}}}]\n"
    )
    with (
        running_host(tmp_path, "--config", "iii-config.yaml") as first,
        running_host(tmp_path / "other") as other,
    ):
        env = {
            **CLEAN,
            "III_URL": first.ws,
            "EDITOR": "true",
            "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        for line in [*lines, *(f"iii-skill trigger {example}" for example in EXAMPLES)]:
            line = line.replace("ws://127.0.0.1:49135", other.ws).replace("--timeout 60", "--timeout 0.1")
            line = line.replace("../monday", "monday")
            if "shop chair 1" in line:
                line = line.replace("shop chair 1", f"shop chair {revision(env)}")
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            assert done.returncode == (4 if "--if-absent" in line else 0), (line, done.stderr)


def revision(env: dict[str, str]) -> int:
    """The oldest version of the chair, 1 where there is none yet."""
    done = subprocess.run(
        [*PROGRAM, "state", "history", "shop", "chair", "--json"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return int(json.loads(done.stdout.splitlines()[-1])["revision"]) if done.stdout else 1
