"""Every code block of the skill's pages runs, compiles or is answered by the host as it stands there.

The words after a block's language say how: see RULES. A block without a rule fails.
"""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml
from support.markdown import Block, blocks
from support.sdk import (
    BUILD_SECONDS,
    cargo_environment,
    cargo_lock,
    link_node_modules,
    python_sdk,
    rust_binary,
    tool,
    untimed,
)
from support.skill_tools import NODE_SDK, PYTHON_SDK, RUST_NEXT, RUST_SDK
from support.tree import ROOT
from support.workers import Site, becomes, logged, running_site, running_worker, written

from iii_skill import open_host
from iii_skill.config import load_config
from iii_skill.errors import InvocationError
from iii_skill.plugins import load_plugins

ELSEWHERE = {
    "README.md": "tests/test_readme.py",
    "adapters.md": "tests/testing/test_adapters_page.py",
    "shared-adapters.md": "tests/testing/test_shared_adapters_page.py",
}
"""Pages with blocks that another test runs."""
PAGES = [
    page
    for page in (ROOT / "SKILL.md", *sorted((ROOT / "references").glob("*.md")))
    if page.name not in ELSEWHERE
]
ALL = [block for page in PAGES for block in blocks(page)]

COMPANIONS = {kind.name for kind in load_plugins().companions().values()}

RULES = {
    ("text", ""): "a picture",
    ("text", "calls"): "calls and their exact answers; those of a page share one host",
    ("python", ""): "compiles",
    ("python", "call"): "runs inside a handler; those of a page run one after another",
    (
        "python",
        "worker",
    ): "is a whole worker: it registers its functions, does what PROBES ask, ends by SIGTERM with 0",
    ("python", "test"): "is a test file that pytest passes",
    ("ts", "test"): "is run by tests/testing/clients/test_node.py",
    ("rust", "test"): "is run by tests/testing/clients/test_rust.py",
    ("control", ""): "is asked by tests/testing/control/test_page.py",
    ("python", "checks"): "is run by tests/testing/workers/test_page.py",
    ("js", "call"): "as python call",
    ("js", "worker"): "as python worker",
    ("rust", "worker"): "as python worker, built first",
    ("rust", "next"): "compiles with the SDK that is yet to come out",
    ("bash", "terminal"): "is run line by line against a host; what it prints is in the test",
    ("bash", "start"): "finds the folder of the skill, wherever an installer put it",
    ("bash", "run"): "is run by test_first_steps as one script",
    ("bash", "versions"): "names the versions that the tests use",
    ("bash", "doctor"): "is run by tests/doctor/test_page.py",
    ("bash", "backup"): "is run by tests/plugins/file/test_backup.py",
    ("bash", "restore"): "is run by tests/plugins/file/test_backup.py",
    ("bash", "check"): "is run by tests/plugins/file/test_backup.py",
    ("bash", "watch"): "is run by test_watching",
    ("bash", "completion"): "is tried by tests/cli/test_completion.py",
    ("bash", "console"): "is run by tests/console/test_command.py",
    ("json", ""): "parses",
    ("json", "mcp"): "is started by tests/cli/test_mcp.py",
    ("yaml", ""): "parses",
    ("yaml", "config"): "is a configuration that the host takes",
    ("toml", ""): "parses",
}

TEXT_IS_MISSING = {"error": {"code": "INVALID_INPUT", "message": "text is missing"}}
NO_UTF8 = {"error": {"code": "INVALID_INPUT", "message": "the id is no UTF-8"}}

PROBES: dict[tuple[str, str], list[tuple[str, str, Any, int, Any]]] = {
    ("SKILL.md", "visits::add"): [
        ("POST", "/visits/ann", None, 200, {"n": 1}),
        ("POST", "/visits/ann", {}, 200, {"n": 2}),
    ],
    ("once.md", "names::register"): [
        ("PUT", "/names/pen", {"owner": "ann"}, 201, {"name": "pen", "taken_by": "ann"}),
        ("PUT", "/names/pen", {"owner": "ann"}, 200, {"name": "pen", "taken_by": "ann"}),
        ("PUT", "/names/pen", {"owner": "bob"}, 409, {"name": "pen", "taken_by": "ann"}),
        ("PUT", "/names/__proto__", {"owner": "bob"}, 201, {"name": "__proto__", "taken_by": "bob"}),
        (
            "PUT",
            "/names/ink",
            [],
            400,
            {"error": {"code": "INVALID_INPUT", "message": "owner is missing"}},
        ),
    ],
    ("sdk.md", "visits::add"): [
        ("POST", "/visits/ann", None, 200, {"n": 1}),
        ("POST", "/visits/ann", {}, 200, {"n": 2}),
    ],
    ("http.md", "notes::put"): [
        ("PUT", "/notes/n1", {"text": "hi"}, 201, {"id": "n1", "text": "hi"}),
        ("GET", "/notes/n1", None, 200, {"id": "n1", "text": "hi"}),
        ("PUT", "/notes/n2", [], 400, TEXT_IS_MISSING),
        ("GET", "/notes/n1?as=xml", None, 200, {"id": "n1", "text": "hi"}),
        ("GET", "/latest", None, 200, {"id": "n1", "text": "hi"}),
        ("PUT", "/notes/a%2Fb", {"text": "x"}, 201, {"id": "a/b", "text": "x"}),
        ("GET", "/notes/a%2fb", None, 200, {"id": "a/b", "text": "x"}),
        (
            "GET",
            "/notes/%FF",
            None,
            400,
            NO_UTF8,
        ),
        ("HEAD", "/notes/n1", None, 404, None),
        ("PUT", "/notes/n3", {"text": "\ud800"}, 400, TEXT_IS_MISSING),
        ("PUT", "/notes/n3", {"text": 5}, 400, TEXT_IS_MISSING),
        ("PUT", "/notes/n3", {}, 400, TEXT_IS_MISSING),
        ("GET", "/notes/n2", None, 404, {"error": {"code": "NOT_FOUND", "message": "no such note"}}),
    ],
    ("running.md", "hits::add"): [
        ("POST", "/hits", None, 200, {"n": 1}),
        ("POST", "/hits", {}, 200, {"n": 2}),
    ],
    ("queues.md", "reports::accept"): [
        ("PUT", "/reports/r%C3%BC1", {"numbers": [1, 2, 39]}, 202, {"id": "rü1"}),
        ("PUT", "/reports/r%C3%BC1", {"numbers": [1, 2, 39]}, 202, {"id": "rü1"}),
        (
            "PUT",
            "/reports/r%C3%BC1",
            {"numbers": [7]},
            409,
            {"error": {"code": "CONFLICT", "message": "this id is in use"}},
        ),
        (
            "PUT",
            "/reports/r2",
            [],
            400,
            {"error": {"code": "INVALID_INPUT", "message": "numbers is no list"}},
        ),
        ("GET", "/reports/r2", None, 404, {"error": {"code": "NOT_FOUND", "message": "no such report"}}),
        (
            "GET",
            "/reports/%FF",
            None,
            400,
            NO_UTF8,
        ),
    ],
}
"""(page, a function of the worker) -> HTTP requests with the status and body that must come."""

TEXTS = {
    ("http.md", "notes::put"): [
        ("/notes/n1?as=text", 200, {"content-type": "text/plain; charset=utf-8"}, "hi"),
        ("/notes/n1?as=json&as=text", 200, {"content-type": "text/plain; charset=utf-8"}, "hi"),
        ("/latest", 303, {"location": "/notes/n1"}, "{}"),
    ],
}
"""(page, a function of the worker) -> GET requests with the status, headers and text that must come."""

ORDER = {"customer": "ann", "cents": 900}
FIRST: dict[str, Any] = {"id": "o1", "customer": "ann", "cents": 900}
SECOND: dict[str, Any] = {"id": "o2", "customer": "ann", "cents": 40}

CALLS: dict[tuple[str, str], list[tuple[str, Any, Any]]] = {
    ("sdk.md", "greeter::last-seen"): [
        ("greeter::last-seen", {"id": "ann"}, {"seen": False}),
        ("state::set", {"scope": "seen", "key": "ann", "value": 0}, {"new_value": 0, "old_value": None}),
        ("greeter::last-seen", {"id": "ann"}, {"seen": True}),
    ],
    ("observers.md", "totals::on-order"): [
        (
            "state::set",
            {"scope": "orders", "key": "o1", "value": ORDER},
            {"new_value": ORDER, "old_value": None},
        ),
        ("state::delete", {"scope": "orders", "key": "o1"}, ORDER),
        (
            "state::set",
            {"scope": "orders", "key": "o2", "value": ORDER},
            {"new_value": ORDER, "old_value": None},
        ),
    ],
    ("triggers.md", "orders::changed"): [
        ("state::set", {"scope": "orders", "key": "odd", "value": 5}, {"new_value": 5, "old_value": None}),
        (
            "state::set",
            {"scope": "orders", "key": "elsewhere", "value": FIRST},
            {"new_value": FIRST, "old_value": None},
        ),
        *(
            (
                "state::set",
                {"scope": "orders", "key": order["id"], "value": order},
                {"new_value": order, "old_value": old},
            )
            for order, old in ((FIRST, None), (SECOND, None), (SECOND | {"cents": 7}, SECOND))
        ),
        ("state::delete", {"scope": "orders", "key": "o1"}, FIRST),
    ],
}
"""(page, a function of the worker) -> calls with the result that must come."""

AFTERWARDS = {
    ("observers.md", "totals::on-order"): (
        "totals::show",
        {"path_params": {"customer": "ann"}},
        {"status_code": 200, "body": {"cents": 900}},
    ),
    ("triggers.md", "orders::changed"): (
        "state::get",
        {"scope": "order-totals", "key": "ann"},
        {"id": "ann", "cents": 7},
    ),
    ("queues.md", "reports::accept"): (
        "reports::read",
        {"path_params": {"id": "r%C3%BC1"}},
        {"status_code": 200, "body": {"status": "done", "sum": 42}},
    ),
}
"""What a call must answer in the end."""

LOGGED = {
    ("observers.md", "totals::on-order"): "ann: 900",
    ("once.md", "names::register"): "name pen: 201",
    ("sdk.md", "visits::add"): "visit of ann counted",
    ("SKILL.md", "visits::add"): "visit of ann counted",
    ("http.md", "notes::put"): "note n1 stored",
    ("queues.md", "reports::accept"): "report rü1 done",
    ("running.md", "hits::add"): "hit 2 counted",
    ("sdk.md", "greeter::last-seen"): "ann was asked for",
    ("triggers.md", "orders::changed"): "total of ann is 7",
}
"""(page, a function of the worker) -> the line that stands in the worker's own output afterwards."""


def of(language: str, directive: str) -> list[Block]:
    """The blocks under one rule."""
    return [block for block in ALL if (block.language, block.directive) == (language, directive)]


def pages(language: str, directive: str) -> list[list[Block]]:
    """The blocks under one rule, page by page."""
    found = of(language, directive)
    return [[block for block in found if block.page == page] for page in dict.fromkeys(b.page for b in found)]


def page_name(group: list[Block]) -> str:
    return group[0].page.name


def test_every_block_has_a_rule() -> None:
    lost = [f"{block}: ```{block.language} {block.directive}" for block in ALL]
    ruled = [f"{block}: ```{block.language} {block.directive}" for rule in RULES for block in of(*rule)]
    assert sorted(set(lost) - set(ruled)) == []


def test_no_sample_gives_its_worker_a_name() -> None:
    """An engine refuses the second live worker of one name, and samples are started twice."""
    named = re.compile(r"worker_name=|workerName:|worker_name:")
    assert [str(block) for block in ALL if named.search(block.text)] == []


@pytest.mark.parametrize("name", ELSEWHERE)
def test_pages_left_out_have_a_test_of_their_own(name: str) -> None:
    assert (ROOT / ELSEWHERE[name]).is_file()


PARSERS: dict[tuple[str, str], Callable[[str], Any]] = {
    ("json", ""): json.loads,
    ("yaml", ""): yaml.safe_load,
    ("toml", ""): tomllib.loads,
    ("python", ""): ast.parse,
}


@pytest.mark.parametrize("block", [block for rule in PARSERS for block in of(*rule)], ids=str)
def test_block_parses(block: Block) -> None:
    PARSERS[block.language, block.directive](block.text)


async def answer(host: Any, function_id: str, payload: bytes) -> str:
    """What the host answers, written as the pages write it."""
    try:
        result = await host.engine.trigger(function_id, payload, caller_id=host.session_id, timeout=10)
    except InvocationError as error:
        return f"error {error.code}"
    if result is None:
        return "nothing"
    value = msgspec.json.decode(result)
    if isinstance(value, dict) and value.get("errors"):
        return "op_errors " + " ".join(error["code"] for error in value["errors"])
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("group", pages("text", "calls"), ids=page_name)
async def test_calls_answer_what_the_page_says(group: list[Block]) -> None:
    async with open_host(adapter="memory") as host:
        for block in group:
            lines = block.text.splitlines()
            assert len(lines) % 2 == 0, f"{block}: a call or its answer is missing"
            for call, expected in zip(lines[::2], lines[1::2], strict=True):
                function_id, payload = call.split(" ", 1)
                found = await answer(host, function_id, payload.encode())
                said = expected.removeprefix("-> ")
                if said[0] in '{[-0123456789"' or said in ("true", "false", "null"):
                    said = json.dumps(json.loads(said), sort_keys=True)
                assert found == said, f"{block}: {call}"


PYTHON_RUNNER = """
import ast, json, sys, time, traceback
from iii import InitOptions, InvocationError, register_worker

blocks = json.load(open(sys.argv[1]))
iii = register_worker(options=InitOptions(worker_name="blocks"))


async def run(_payload):
    space = {"iii": iii, "__name__": "page"}
    for place, text in blocks:
        try:
            code = compile(text, place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            waiting = eval(code, space)
            if waiting is not None:
                await waiting
        except BaseException:
            return {"failed": place, "trace": traceback.format_exc()}
    return {"ran": len(blocks)}


iii.register_function("blocks::run", run)
try:
    while True:
        try:
            print(json.dumps(iii.trigger({"function_id": "blocks::run", "payload": {}})))
            break
        except InvocationError as error:
            if error.code != "function_not_found":  # the registration is still on its way
                raise
            time.sleep(0.05)
finally:
    iii.shutdown()
"""


ON_EVERY_ENGINE = ("once.md", "queues.md", "running.md", "triggers.md", "SKILL.md", "http.md")
"""Pages whose samples need no function that only this host and newer workers have."""


async def outcome(command: list[str], cwd: Path, page: str) -> dict[str, Any]:
    """What a program that connects to a host prints as its last line, as JSON."""
    async with running_site(engine_functions_only=page in ON_EVERY_ENGINE) as site:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=site.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode() + errors.decode()
    return dict(json.loads(output.decode().strip().splitlines()[-1]))


@pytest.mark.parametrize("group", pages("python", "call"), ids=page_name)
async def test_python_calls_run(group: list[Block], tmp_path: Path) -> None:
    (tmp_path / "blocks.json").write_text(json.dumps([[str(block), block.text] for block in group]))
    (tmp_path / "runner.py").write_text(PYTHON_RUNNER)
    result = await outcome(
        [str(python_sdk(PYTHON_SDK)), "runner.py", "blocks.json"], tmp_path, page_name(group)
    )
    assert result == {"ran": len(group)}, result.get("trace")


JS_RUNNER = """
import {{ registerWorker }} from 'iii-sdk'
const iii = registerWorker(process.env.III_URL, {{ workerName: 'blocks' }})
async function page() {{
{body}
}}
let answer
try {{ await page(); answer = {{ ran: {count} }} }} catch (error) {{ answer = {{ trace: error.stack }} }}
console.log(JSON.stringify(answer))
await iii.shutdown()
process.exit(0)
"""


def javascript_folder(folder: Path) -> Path:
    """A folder where the SDK can be imported."""
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    link_node_modules(folder, NODE_SDK)
    return folder


@pytest.mark.parametrize("group", pages("js", "call"), ids=page_name)
async def test_javascript_calls_run(group: list[Block], tmp_path: Path) -> None:
    body = "\n".join(block.text for block in group)
    (javascript_folder(tmp_path) / "page.mjs").write_text(JS_RUNNER.format(body=body, count=len(group)))
    result = await outcome([tool("node"), "page.mjs"], tmp_path, page_name(group))
    assert result == {"ran": len(group)}, result.get("trace")


def command_for(block: Block, folder: Path) -> list[str]:
    """Write the worker of a block into the folder; what starts it there."""
    if block.language == "python":
        (folder / "worker.py").write_text(block.text)
        return [str(python_sdk(PYTHON_SDK)), "worker.py"]
    if block.language == "rust":
        (folder / "main.rs").write_text(block.text)
        return [str(rust_binary(RUST_SDK, folder / "main.rs", name=f"page-{block.page.stem}"))]
    (javascript_folder(folder) / "worker.mjs").write_text(block.text)
    return [tool("node"), "worker.mjs"]


WORKERS = [block for language in ("python", "js", "rust") for block in of(language, "worker")]


@pytest.mark.parametrize("block", WORKERS, ids=str)
async def test_worker_runs(block: Block, tmp_path: Path) -> None:
    command = await asyncio.to_thread(command_for, block, tmp_path)
    async with (
        running_site(engine_functions_only=block.page.name in ON_EVERY_ENGINE) as site,
        running_worker(command, tmp_path, site, environment=site.environment_of_a_reader) as functions,
    ):
        keys = [(block.page.name, re.sub(r"-\d+$", "", function)) for function in functions]
        probed = [key for key in keys if key in PROBES or key in CALLS]
        assert probed, f"{block}: nothing probes {keys}"
        for key in probed:
            await probe(key, site)
        logged = [LOGGED[key] for key in keys if key in LOGGED]
        assert logged, f"{block}: no line of its log is known"
        for line in logged:
            await becomes(f"{line!r} in the output of {block}", written(tmp_path / "worker.log", line))


@pytest.mark.parametrize("language", ["python", "js"])
async def test_with_telemetry_the_line_stands_in_the_log_of_the_host_alone(
    language: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the page on running says of the default, for the samples turn telemetry off."""
    (block,) = (block for block in of(language, "worker") if block.page.name == "SKILL.md")
    command = command_for(block, tmp_path)
    caplog.set_level(logging.INFO, logger="iii_skill.workers")
    async with running_site() as site:
        environment = site.environment_of_a_reader | {"OTEL_ENABLED": "true"}
        async with running_worker(command, tmp_path, site, environment=environment):
            assert await site.request("POST", "/visits/ann") == (200, {"n": 1})
            await becomes("the line in the host's log", logged(caplog, "] visit of ann counted"))
    assert "visit of ann" not in (tmp_path / "worker.log").read_text()


TRIGGER = (
    'iii.register_trigger({"type": "state", "function_id": "orders::changed", "config": {"scope": "orders"}})'
)
OBSERVER = (
    'iii.observe({"function_id": "state::on-changed", "filters": {"input.scope": {"$eq": "orders"}}, '
    '"deliver": "input"}, "orders::changed")'
)


async def test_the_totals_follow_an_observer_too(tmp_path: Path) -> None:
    """As the page of observers says of the worker on the page of triggers."""
    (block,) = (block for block in of("python", "worker") if block.page.name == "triggers.md")
    assert block.text.count(TRIGGER) == 1
    (tmp_path / "worker.py").write_text(block.text.replace(TRIGGER, OBSERVER))
    command = [str(python_sdk(PYTHON_SDK)), "worker.py"]
    async with running_site() as site, running_worker(command, tmp_path, site):
        await probe(("triggers.md", "orders::changed"), site)


def plain_get(url: str) -> tuple[int, Mapping[str, str | None], str]:
    """Status, headers and text of a GET that follows no redirect."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), int(parts.port or 80), timeout=15)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


async def probe(key: tuple[str, str], site: Site) -> None:
    """Send what the tables ask and compare."""
    for method, path, body, status, expected in PROBES.get(key, []):
        assert await site.request(method, path, body) == (status, expected)
    for path, status, headers, text in TEXTS.get(key, []):
        found = await asyncio.to_thread(plain_get, site.http + path)
        assert (found[0], {name: found[1][name] for name in headers}, found[2]) == (status, headers, text)
    for function, payload, expected in CALLS.get(key, []):
        assert await site.call(function, payload) == expected
    if key in AFTERWARDS:
        function, payload, expected = AFTERWARDS[key]

        async def there() -> bool:
            return bool(await site.call(function, payload) == expected)

        await becomes(f"{function} to answer {expected}", there)


def test_python_test_files_pass(tmp_path: Path) -> None:
    """`python` is that of the SDK, which tests find as well; `worker.py` is the one of SKILL.md."""
    worker = next(block for block in of("python", "worker") if block.page.name == "SKILL.md")
    (tmp_path / "worker.py").write_text(worker.text)
    files = of("python", "test")
    assert files
    for number, block in enumerate(files):
        (tmp_path / f"test_page{number}.py").write_text(block.text)
    sdk = python_sdk(PYTHON_SDK)
    programs = (sdk.parent, Path(sys.executable).parent, os.environ["PATH"])
    packages = next(sdk.parents[1].glob("lib/python*/site-packages"))
    paths = {"PATH": os.pathsep.join(map(str, programs)), "PYTHONPATH": str(packages)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "."],
        cwd=tmp_path,
        env=os.environ | paths | {"OTEL_ENABLED": "false"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_versions_are_the_tested_ones() -> None:
    text = "".join(block.text for block in of("bash", "versions"))
    for wanted in (f"'iii-sdk=={PYTHON_SDK}'", f"iii-sdk@{NODE_SDK}", f"iii-sdk@={RUST_SDK}"):
        assert wanted in text


async def test_commands_for_a_terminal_do_what_the_page_says(tmp_path: Path) -> None:
    (block,) = of("bash", "terminal")
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    async with running_site() as site:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-euc",
            block.text,
            cwd=tmp_path,
            env=site.environment | {"PATH": programs},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert await site.call("state::get", {"scope": "shop", "key": "pen"}) == {"id": "pen", "left": 2}
    assert process.returncode == 0, errors.decode()
    assert output.decode().splitlines() == [
        '{"id":"pen","left":2}',
        '{"id":"pen","left":2}',
        'pen\t{"id":"pen","left":2}',
        '{"keys":["pen"]}',
        '{"depth":0,"consumer_count":0,"dlq_depth":0,"config":null}',
        "exit code 3",
    ]


def test_the_folder_of_the_skill_is_found(tmp_path: Path) -> None:
    (block,) = of("bash", "start")
    folder = tmp_path / "my project" / ".claude" / "skills" / "iii-state-management"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").touch()
    script = f'{block.text}cd /\nprintf %s "$SKILL_DIR"'
    done = subprocess.run(["bash", "-c", script], cwd=folder.parents[2], capture_output=True, text=True)
    assert done.stdout == str(folder), done.stderr


def test_configurations_are_taken(tmp_path: Path) -> None:
    for block in of("yaml", "config"):
        (tmp_path / "config.yaml").write_text(block.text)
        others = load_config(tmp_path / "config.yaml", {}).companions or ()
        assert {section.name for section in others} <= COMPANIONS, block


def test_rust_programs_of_the_next_sdk_compile(tmp_path: Path) -> None:
    programs = of("rust", "next")
    assert programs
    (tmp_path / "Cargo.toml").write_text(
        '[package]\nname = "page"\nversion = "0.1.0"\nedition = "2024"\n\n[dependencies]\n'
        f'iii-sdk = "={RUST_NEXT}"\nserde_json = "1"\n'
        'tokio = { version = "1", features = ["rt-multi-thread", "macros", "signal"] }\n'
    )
    for number, block in enumerate(programs):
        target = tmp_path / "src" / "bin" / f"block{number}.rs"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text)
    with cargo_lock(), untimed():
        done = subprocess.run(
            [tool("cargo"), "check", "--quiet"],
            cwd=tmp_path,
            env=cargo_environment(),
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
    assert done.returncode == 0, done.stderr
