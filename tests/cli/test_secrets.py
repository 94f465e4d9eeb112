"""Tokens and passwords: where they come from, which are refused, and who can read them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.client import raw_client
from support.host import running_host
from websockets.exceptions import InvalidStatus

from iii_skill.cli.main import cli
from iii_skill.cli.secrets import without_secrets


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


async def accepted(url: str, token: str) -> bool:
    try:
        async with raw_client(url, additional_headers={"Authorization": f"Bearer {token}"}) as worker:
            return bool((await worker.result("configuration::list", {}))["configurations"])
    except InvalidStatus as error:
        return error.response.status_code != 401


@pytest.mark.parametrize("form", [("--token", "s3cret"), ("--token=s3cret",)], ids=["two words", "one word"])
async def test_a_token_of_the_command_line_is_not_in_the_list_of_processes(
    tmp_path: Path, form: tuple[str, ...]
) -> None:
    with running_host(tmp_path, "--adapter", "memory", *form) as host:
        line = command_line(host.pid)
        assert "s3cret" not in line
        assert "--adapter memory" in line
        assert host.pid == host.process.pid
        assert await accepted(host.ws, "s3cret")
        assert not await accepted(host.ws, "other")


@pytest.mark.parametrize("content", ["s3cret", "s3cret\n", "s3cret\r\n"])
async def test_a_token_out_of_a_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content, newline="")
    with running_host(tmp_path, "--adapter", "memory", "--token-file", str(path)) as host:
        assert await accepted(host.ws, "s3cret")
        assert not await accepted(host.ws, "other")


async def test_the_command_line_wins_over_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("of-file")
    environment = {"III_SKILL_TOKEN": "of-environment"}
    with running_host(tmp_path, "--adapter", "memory", "--token-file", str(path), env=environment) as host:
        assert await accepted(host.ws, "of-file")
    environment = {"III_SKILL_TOKEN_FILE": str(path)}
    with running_host(tmp_path, "--adapter", "memory", env=environment) as host:
        assert await accepted(host.ws, "of-file")


REFUSED = {
    "trailing blank": (("--token", "s3cret "), "", "begins or ends with a blank"),
    "leading tab": (("--token", "\ts3cret"), "", "begins or ends with a blank"),
    "line break": (("--token", "s3cret\n"), "", "begins or ends with a blank"),
    "blank of a file": (("--token-file", "FILE"), "s3cret \n", "begins or ends with a blank"),
    "two breaks of a file": (("--token-file", "FILE"), "s3cret\n\n", "begins or ends with a blank"),
    "empty": (("--token", ""), "", "The token is empty"),
    "empty file": (("--token-file", "FILE"), "\n", "is empty"),
    "umlaut": (("--token", "schlüssel"), "", "not every worker can send"),
    "control character": (("--token", "a\x01b"), "", "not every worker can send"),
    "a large file": (("--token-file", "FILE"), "x" * 100_000, "is longer than 8192 characters"),
    "no file": (("--token-file", "nowhere"), "", "cannot be read: No such file or directory"),
    "both": (("--token", "a", "--token-file", "FILE"), "a", "The token is given twice"),
}


@pytest.mark.parametrize("command", ["serve", "attach"])
@pytest.mark.parametrize(("arguments", "content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_token_that_would_let_nobody_in_is_refused(
    tmp_path: Path, command: str, arguments: tuple[str, ...], content: str, message: str
) -> None:
    path = tmp_path / "token"
    path.write_text(content, newline="")
    given = [str(path) if one == "FILE" else one for one in arguments]
    result = CliRunner().invoke(cli, [command, "--adapter", "memory", *given])
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.stderr.split())
    assert "s3cret" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "rest", "secrets"),
    [
        (["--port", "0", "--token", "a b"], ["--port", "0"], {"III_SKILL_TOKEN": "a b"}),
        (["--token=", "x"], ["x", "--token", ""], {}),
        (["--token"], ["--token"], {}),
        (["--redis-url", "redis://h:1"], ["--redis-url", "redis://h:1"], {}),
        (["--redis-url=redis://u:p@h"], [], {"III_SKILL_SERVE_REDIS_URL": "redis://u:p@h"}),
        (["--database-url", "postgresql:///app"], ["--database-url", "postgresql:///app"], {}),
        (
            ["--database-url", "postgresql://h/app?user=u&password=p"],
            [],
            {"III_SKILL_SERVE_DATABASE_URL": "postgresql://h/app?user=u&password=p"},
        ),
        (
            ["--adapter-config", "dsn=x", "--adapter-config", "size=3", "--no-state"],
            ["--no-state"],
            {"III_SKILL_SERVE_ADAPTER_CONFIG": "dsn=x size=3"},
        ),
        (["--adapter-config", "dsn=a b"], ["--adapter-config", "dsn=a b"], {}),
        (["--adapter-config", "cache_bytes=3"], ["--adapter-config", "cache_bytes=3"], {}),
    ],
)
def test_what_is_secret_goes_into_the_environment(
    arguments: list[str], rest: list[str], secrets: dict[str, str]
) -> None:
    assert without_secrets("serve", arguments) == (rest, secrets)


def test_passwords_of_both_sides_of_a_migration_are_secret() -> None:
    arguments = ["--from", "iii-redis", "--from-config", "redis_url=redis://u:p@h", "--to", "file"]
    secrets = {"III_SKILL_MIGRATE_FROM_CONFIG": "redis_url=redis://u:p@h"}
    assert without_secrets("migrate", arguments) == (["--from", "iii-redis", "--to", "file"], secrets)


def test_settings_with_a_secret_arrive_through_the_environment(tmp_path: Path) -> None:
    directory = tmp_path / "kept@here"
    settings = ("--adapter-config", f"data_dir={directory}", "--adapter-config", "cache_bytes=4096")
    with running_host(tmp_path, "--adapter", "file", *settings) as host:
        assert host.ready["data_dir"] == str(directory)
        assert "kept@here" not in command_line(host.pid)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_host_that_is_started_with_a_closed_standard_file_ends_with_0(tmp_path: Path, closed: str) -> None:
    serve = f"exec {sys.executable} -m iii_skill serve --adapter memory --port 0 --http-port 0 {closed}"
    process = subprocess.Popen(
        ["sh", "-c", serve], cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        wait_for_handlers(process.pid)
        process.terminate()
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors


def wait_for_handlers(pid: int) -> None:
    """Until the process catches SIGTERM: then it serves."""
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) & (1 << 14):
            return
        os.sched_yield()
