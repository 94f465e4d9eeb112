"""`iii-skill scaffold`: arguments, answers, plans, conflicts, next steps, and every exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from iii_skill.cli.scaffold import scaffold

SOURCES = ("w.py", "worker.js", "src/worker.ts", "src/main.rs")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(scaffold, list(arguments), prog_name="iii-skill scaffold")


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_worker_is_written_with_its_next_steps(tmp_path: Path) -> None:
    result = run("python", str(tmp_path / "my-worker"), "--defaults")
    assert result.exit_code == 0, result.output
    assert "serve --config iii-config.yaml" in result.output
    assert "curl -X POST http://127.0.0.1:3111/products" in result.output
    written = files(tmp_path / "my-worker")
    assert {"my_worker.py", "tests/test_worker.py", "pyproject.toml", ".gitignore", "README.md"} < set(
        written
    )
    about = tomllib.loads(written[".iii-skill.toml"].decode())
    assert (about["template"], about["answers"]["name"]) == ("python", "my-worker")
    assert os.listdir(tmp_path) == ["my-worker"]


def test_without_a_terminal_nothing_is_asked(tmp_path: Path) -> None:
    """A process without a terminal ends by itself, with the defaults."""
    command = [sys.executable, "-m", "iii_skill", "scaffold", "python", str(tmp_path / "w")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


def test_at_a_terminal_each_question_is_asked(tmp_path: Path) -> None:
    main, side = pty.openpty()
    command = [sys.executable, "-m", "iii_skill", "scaffold", "rust", str(tmp_path / "w"), "--no-http"]
    with subprocess.Popen(command, stdin=side, stdout=side, stderr=side) as process:
        os.close(side)
        os.write(main, b"my-name\nfn\norder\n" + b"\n" * 12)
        shown = b""
        try:
            while chunk := os.read(main, 4096):
                shown += chunk
        except OSError:
            pass
        assert process.wait(timeout=20) == 0, shown.decode()
    os.close(main)
    assert b"reserved word of rust" in shown
    answers = tomllib.loads((tmp_path / "w" / ".iii-skill.toml").read_text())["answers"]
    assert (answers["name"], answers["entity"], answers["plural"]) == ("my-name", "order", "orders")
    assert answers["http"] is False


def test_a_default_that_does_not_fit_is_not_offered_and_leaving_writes_nothing(tmp_path: Path) -> None:
    main, side = pty.openpty()
    command = [sys.executable, "-m", "iii_skill", "scaffold", "python", str(tmp_path / "My Worker")]
    with subprocess.Popen(command, stdin=side, stdout=side, stderr=side) as process:
        os.close(side)
        shown = b""
        while b"\r\nname: " not in shown:
            shown += os.read(main, 4096)
        os.write(main, b"\x04")
        try:
            while chunk := os.read(main, 4096):
                shown += chunk
        except OSError:
            pass
        assert process.wait(timeout=20) == 130, shown.decode()
    os.close(main)
    assert b"Interrupted: nothing was written." in shown
    assert list(tmp_path.iterdir()) == []


def test_records_without_a_whole_number_get_no_counter(tmp_path: Path) -> None:
    result = run("python", str(tmp_path / "w"), "--defaults", "--entity", "note", "--fields", "title:text")
    assert result.exit_code == 0, result.output
    answers = tomllib.loads((tmp_path / "w" / ".iii-skill.toml").read_text())["answers"]
    assert answers["operations"] == ["create", "get", "list", "update", "delete", "session"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["python"], 2, "write `iii-skill scaffold python my-worker`"),
        (["my-worker"], 2, "write `iii-skill scaffold TEMPLATE my-worker`"),
        ([], 2, "Give TEMPLATE and DEST"),
        (["nope", "DEST"], 5, "There is no template 'nope'. There are: adapter-plugin, javascript"),
        (["worker", "DEST"], 5, "There is no template 'worker'"),
        (["python", ""], 4, "DEST must be the path"),
        (["python", "DEST", "--name", "Upper"], 2, "--name: 'Upper' must be lower case words"),
        (["python", "DEST", "--name", "class"], 2, "--name: 'class' is a reserved word of python"),
        (["rust", "DEST", "--name", "crate"], 2, "reserved word of rust"),
        (["typescript", "DEST", "--entity", "interface"], 2, "reserved word of typescript"),
        (["python", "DEST", "--name", "iii-sdk"], 2, "'iii-sdk' is taken"),
        (["python", "DEST", "--fields", "name"], 2, "'name' must be NAME:TYPE"),
        (["python", "DEST", "--fields", "a:text,a:text"], 2, "names 'a' twice"),
        (["python", "DEST", "--fields", "id:text"], 2, "is taken by the worker itself"),
        (["python", "DEST", "--fields", "import:text"], 2, "reserved word of python"),
        (["python", "DEST", "--fields", "a:blob"], 2, "the types are text, amount, integer, boolean"),
        (
            ["python", "DEST", "--fields", "a:integer=x"],
            2,
            "its type integer: a whole number of at most 9 digits",
        ),
        (["python", "DEST", "--fields", "a:amount=1.555"], 2, "at most 2 decimals"),
        (["rust", "DEST", "--fields", "a:integer=-1", "--operations", "counter"], 2, "at 0 or above"),
        (
            ["python", "DEST", "--fields", "a:text", "--operations", "counter"],
            2,
            "needs a field of type integer",
        ),
        (
            ["python", "DEST", "--counter-field", "name"],
            2,
            "'name' is no integer field of --fields; take stock",
        ),
        (["python", "DEST", "--operations", "fly"], 2, "--operations: 'fly' must be one of create"),
        (["python", "DEST", "--operations", ""], 2, "Choose at least one operation"),
        (
            ["python", "DEST", "--with", "mail"],
            2,
            "--with: 'mail' must be one of queue, pubsub, cron, stream",
        ),
        (["rust", "DEST", "--with", "queue", "--operations", "get,list"], 2, "--with: The queue takes a job"),
        (["python", "DEST", "--with", "cron", "--operations", "cache,flag"], 2, "--with: Companions go with"),
        (["javascript", "DEST", "--with", "stream,cron", "--operations", "hold"], 2, "--with: Companions go"),
        (["python", "DEST", "--with", "queue", "--operations", "skeleton"], 2, "--with: Companions go with"),
        (["adapter-plugin", "DEST", "--with", "queue"], 2, "has no question 'with'"),
        (["python", "DEST", "--operations", "flag,create", "--plural", "flags"], 2, "owns the name"),
        (["python", "DEST", "--scope", 'x"y'], 2, "--scope"),
        (
            ["python", "DEST", "--adapter", "cloud"],
            2,
            "--adapter: 'cloud' must be one of memory, file, redis",
        ),
        (["python", "DEST", "--data", "x=1"], 2, "has no question 'x'"),
        (["python", "DEST", "--data", "missing.toml"], 2, "no file of answers"),
        (["python", "DEST", "--answers", "missing.toml"], 2, "There is no missing.toml"),
        (["adapter-plugin", "DEST", "--adapter", "redis"], 2, "is taken by iii-skill or the engine"),
        (["adapter-plugin", "DEST", "--http"], 2, "has no question 'http'"),
        (["update", "DEST"], 2, "was not made by"),
    ],
)
def test_what_is_wrong_is_refused_before_a_byte_is_written(
    arguments: list[str], code: int, words: str, tmp_path: Path
) -> None:
    target = tmp_path / "dest"
    result = run(*(str(target) if word == "DEST" else word for word in arguments))
    assert result.exit_code == code, result.output
    assert words in result.output.replace("\n", " ")
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("given", "kept"), [("1.50", "1.5"), ("2.00", "2"), ("0.05", "0.05"), ("7", "7")])
def test_an_amount_may_end_in_zeros(given: str, kept: str, tmp_path: Path) -> None:
    target = tmp_path / "shop"
    assert run("python", str(target), "--defaults", "--fields", f"price:amount={given}").exit_code == 0
    assert f'data = {{"price": {kept}, **data}}' in (target / "shop.py").read_text()


def test_a_directory_name_that_is_no_project_name_asks_for_the_option(tmp_path: Path) -> None:
    result = run("python", str(tmp_path / "My Worker"))
    assert result.exit_code == 2
    assert "give --name" in result.output
    assert run("python", str(tmp_path / "My Worker"), "--name", "fine").exit_code == 0


def test_a_plan_is_shown_and_nothing_written(tmp_path: Path) -> None:
    target = tmp_path / "w"
    result = run("rust", str(target), "--dry-run", "--json")
    planned = json.loads(result.output)
    assert planned["written"] is False
    assert {"path": "rustfmt.toml", "action": "create", "bytes": 45, "conflicts": 0} in planned["files"]
    assert [step["run"] for step in planned["next"]][1] == "cargo build"
    assert not target.exists()
    assert "create    src/main.rs" in run("rust", str(target), "--dry-run").output


def test_files_in_the_way_stop_it(tmp_path: Path) -> None:
    (tmp_path / "w.py").write_text("mine")
    before = files(tmp_path)
    result = run("python", str(tmp_path), "--name", "w")
    assert result.exit_code == 3
    assert "w.py" in result.output
    assert files(tmp_path) == before
    shown = run("python", str(tmp_path), "--name", "w", "--on-conflict", "diff")
    assert shown.exit_code == 3
    assert "-mine" in shown.output
    assert files(tmp_path) == before


def test_a_project_with_other_answers_is_led_to_update(tmp_path: Path) -> None:
    """The files that remember differ too, but nobody reads an archive at a terminal."""
    assert run("python", str(tmp_path), "--name", "w").exit_code == 0
    shown = run("python", str(tmp_path), "--name", "w", "--plural", "goods", "--on-conflict", "diff")
    assert shown.exit_code == 3
    assert "+++ w.py (template)" in shown.output
    assert "+++ .iii-skill" not in shown.output
    assert (
        f"To bring other answers into an edited project: iii-skill scaffold update {tmp_path}."
        in shown.output
    )


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"])
def test_the_repository_is_made_in_the_project_whatever_git_was_told(
    tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a hook of another repository."""
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv(variable, str(elsewhere))
    assert run("python", str(tmp_path / "w"), "--defaults", "--git").exit_code == 0
    assert (tmp_path / "w" / ".git" / "HEAD").is_file()
    assert not elsewhere.exists()


@pytest.mark.parametrize(("choice", "kept"), [("skip", True), ("overwrite", False)])
def test_files_in_the_way_are_kept_or_replaced_when_told(tmp_path: Path, choice: str, kept: bool) -> None:
    (tmp_path / "w.py").write_text("mine")
    assert run("python", str(tmp_path), "--name", "w", "--on-conflict", choice).exit_code == 0
    assert ((tmp_path / "w.py").read_text() == "mine") is kept
    assert (tmp_path / "README.md").exists()


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    assert run("javascript", str(tmp_path / "w")).exit_code == 0
    before = files(tmp_path)
    result = run("javascript", str(tmp_path / "w"), "--json")
    assert {entry["action"] for entry in json.loads(result.output)["files"]} == {"same"}
    assert files(tmp_path) == before


@pytest.mark.parametrize("template", ["python", "javascript", "typescript", "rust"])
@pytest.mark.parametrize(
    ("operations", "there", "absent"),
    [
        ("get", ["products::get"], ["products::create", "products::list-all", "uuid"]),
        ("list", ["products::list-all"], ["products::create", "products::get"]),
        ("counter", ["products::adjust-stock"], ["products::create", "products::get"]),
        ("claim", ["claims::take", "claims::get"], ["products", "SCOPE", "session"]),
        ("hold", ["stocks::hold", "stocks::confirm"], ["products", "SCOPE", "created_at", "session"]),
        ("skeleton", ["visits::add"], ["products", "SCOPE", "created_at", "session"]),
    ],
)
def test_an_operation_brings_nothing_along(
    template: str, operations: str, there: list[str], absent: list[str], tmp_path: Path
) -> None:
    assert run(template, str(tmp_path / "w"), "--defaults", "--operations", operations).exit_code == 0
    (worker,) = [tmp_path / "w" / name for name in SOURCES if (tmp_path / "w" / name).is_file()]
    text = worker.read_text()
    assert all(word in text for word in there)
    assert [word for word in absent if word in text] == []


@pytest.mark.parametrize("form", ["toml", "json", "pairs", "answers"])
def test_answers_come_from_files_and_pairs(tmp_path: Path, form: str) -> None:
    given: Mapping[str, object] = {"entity": "order", "http": False, "operations": "create,counter"}
    if form == "toml":
        (tmp_path / "a.toml").write_text(
            'entity = "order"\nhttp = false\noperations = ["create", "counter"]\n'
        )
        options = ["--data", str(tmp_path / "a.toml")]
    elif form == "json":
        (tmp_path / "a.json").write_text(json.dumps(given))
        options = ["--data", str(tmp_path / "a.json")]
    elif form == "pairs":
        options = ["-d", "entity=order", "-d", "http=no", "-d", "operations=create,counter"]
    else:
        run(
            "rust",
            str(tmp_path / "first"),
            "--entity",
            "order",
            "--no-http",
            "--operations",
            "create,counter",
        )
        options = ["--answers", str(tmp_path / "first" / ".iii-skill.toml")]
    result = run("python", str(tmp_path / "w"), *options)
    assert result.exit_code == 0, result.output
    worker = (tmp_path / "w" / "w.py").read_text()
    assert "orders::create" in worker
    assert "orders::adjust-quantity" in worker
    assert "list_orders" not in worker
    assert "http_input" not in worker


def test_answers_name_the_template_too(tmp_path: Path) -> None:
    run("rust", str(tmp_path / "first"))
    result = run(str(tmp_path / "second"), "--answers", str(tmp_path / "first" / ".iii-skill.toml"))
    assert result.exit_code == 0, result.output
    assert 'name = "second"' in (tmp_path / "second" / "Cargo.toml").read_text()


def test_git_makes_a_repository(tmp_path: Path) -> None:
    assert run("python", str(tmp_path / "repository"), "--git").exit_code == 0
    assert (tmp_path / "repository" / ".git" / "HEAD").exists()
    assert run("python", str(tmp_path / "plain")).exit_code == 0
    assert not (tmp_path / "plain" / ".git").exists()


def test_the_list_names_every_template() -> None:
    listed = run("--list")
    assert listed.exit_code == 0
    names = [line.split()[0] for line in listed.output.splitlines()]
    assert names == ["adapter-plugin", "javascript", "python", "rust", "typescript"]
    entries = json.loads(run("--list", "--json").output)["templates"]
    questions = {entry["name"]: [question["name"] for question in entry["questions"]] for entry in entries}
    assert questions["adapter-plugin"] == ["name", "adapter", "store"]
    assert questions["rust"][:4] == ["name", "entity", "plural", "scope"]


def test_the_exit_codes_are_in_the_help() -> None:
    for arguments in (["--help"], ["update", "--help"]):
        shown = run(*arguments).output
        for code in ("2 usage", "3 files in the way", "4 unsafe path", "5 template", "6 the disk", "130"):
            assert code in shown


def test_nothing_of_the_host_is_loaded() -> None:
    code = (
        "import sys\nfrom iii_skill.cli.main import cli\n"
        "cli(['scaffold', 'python', sys.argv[1], '--defaults', '--dry-run'], standalone_mode=False)\n"
        "rooms = ('state', 'protocol', 'engine', 'server', 'host', 'plugins', 'http', 'config')\n"
        "print([name for name in sys.modules if name.split('.')[:1] == ['iii_skill']"
        " and name.split('.')[1:2] and name.split('.')[1] in rooms])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "x-y"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("template", "source"), [("python", "w.py"), ("rust", "src/main.rs"), ("javascript", "worker.js")]
)
def test_what_is_not_asked_for_is_not_there(template: str, source: str, tmp_path: Path) -> None:
    result = run(template, str(tmp_path / "w"), "--defaults", "--operations", "get", "--no-trigger")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "w" / source).read_text()
    assert re.findall(r"products::[a-z-]+", text) == ["products::get"]


def test_companions_are_named_one_by_one_or_together(tmp_path: Path) -> None:
    options = ["--defaults", "--operations", "create", "--with", "cron", "--with", "stream,queue"]
    result = run("python", str(tmp_path / "w"), *options)
    assert result.exit_code == 0, result.output
    answers = tomllib.loads((tmp_path / "w" / ".iii-skill.toml").read_text())["answers"]
    assert answers["with"] == ["queue", "cron", "stream"]
    config = (tmp_path / "w" / "iii-config.yaml").read_text()
    sections = re.findall(r"name: (iii-\w+)$", config, re.MULTILINE)
    assert sections == ["iii-http", "iii-state", "iii-queue", "iii-cron", "iii-stream"]
    again = run("update", str(tmp_path / "w"), "--with", "pubsub")
    assert again.exit_code == 0, again.output
    answers = tomllib.loads((tmp_path / "w" / ".iii-skill.toml").read_text())["answers"]
    assert answers["with"] == ["pubsub"]
    assert "iii-queue" not in (tmp_path / "w" / "iii-config.yaml").read_text()
