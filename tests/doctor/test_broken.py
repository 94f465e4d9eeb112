"""Broken set-ups: the cause comes first, and every check is made to speak by what is really broken."""

from __future__ import annotations

import asyncio
import json
import os
import resource

import pytest
from doctor.broken import BROKEN
from doctor.place import Place
from support.broken_plugins import HEAD
from support.distributions import install
from support.host import free_port
from support.markdown import headings
from support.sdk_workers import running_worker
from support.tree import ROOT
from support.workers import becomes
from websockets.asyncio.server import ServerConnection, serve

from iii_skill.doctor.examine import CHECKS
from iii_skill.doctor.outcome import Status

IN_A_PROCESS = {
    "python.packages",
    "python.uvloop",
    "python.files",
    "plugins.load",
    "command.variables",
    "engine.localhost",
}
"""Checks that are broken by the tests below, in a process of its own."""

COMMANDS = ("pip", "chmod", "rm", "sudo", "redis-cli")
"""A remedy is a sentence, or begins with one of these."""

TELLS = {"engine.kind"}
"""Checks that only tell."""


def test_every_check_is_broken_by_some_set_up() -> None:
    assert {check for check, _ in BROKEN.values()} | IN_A_PROCESS | TELLS == {check.id for check in CHECKS}
    assert len(BROKEN) + len(IN_A_PROCESS) >= 30


def test_every_check_has_an_anchor_and_a_line_on_its_page() -> None:
    for check in CHECKS:
        file, _, anchor = check.page.partition("#")
        text = (ROOT / file).read_text()
        assert anchor in headings(text), check.id
        assert f"`{check.id}`" in text, check.id


@pytest.mark.parametrize("name", BROKEN)
async def test_the_cause_comes_first(name: str, place: Place) -> None:
    wanted, make = BROKEN[name]
    await make(place)
    report = await place.look()
    assert report.first == wanted, [(f.id, f.status.value, f.found) for f in report.findings[:6]]
    finding = report.of(wanted)
    assert finding.found
    assert finding.fix[0].isupper() or finding.fix.split()[0] in COMMANDS, finding.fix
    assert not [f for f in report.findings if f.status is Status.UNKNOWN], report.findings[:4]


def shadowed(place: Place, module: str) -> None:
    """A package that cannot be imported, in the place of the installed one."""
    site = place.cwd.parent / "site"
    site.mkdir()
    (site / f"{module}.py").write_text(f"raise ImportError('{module} was built for another Python')\n")
    place.env["PYTHONPATH"] = str(site)


@pytest.mark.parametrize("module", ["jsonschema_rs", "picows", "httptools"])
def test_a_package_that_cannot_be_imported_comes_first(module: str, place: Place) -> None:
    shadowed(place, module)
    report, code = place.report()
    assert (report["likeliest_cause"], code) == ("python.packages", 1)
    assert module in report["checks"][0]["found"]
    assert "pip install" in report["checks"][0]["fix"]


def test_a_missing_uvloop_is_a_warning(place: Place) -> None:
    shadowed(place, "uvloop")
    report, code = place.report("--only", "python")
    assert (report["checks"][0]["id"], report["checks"][0]["status"]) == ("python.uvloop", "warn")
    assert code == 0
    assert place.report("--only", "python", "--strict")[1] == 1


def test_few_open_files_are_a_warning(place: Place) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))

    report, _ = place.report("--only", "python.files", preexec_fn=limit)
    assert report["checks"][0]["status"] == "warn"
    assert "128" in report["checks"][0]["found"]


def test_a_plugin_that_failed_is_named_with_its_package(place: Place) -> None:
    site = place.cwd.parent / "site"
    site.mkdir()
    install(site, "acme-iii-store", HEAD + "import acme_gone\n")
    place.env["PYTHONPATH"] = str(site)
    report, code = place.report()
    assert (report["likeliest_cause"], code) == ("plugins.load", 1)
    assert "acme-iii-store 1.2.3" in report["checks"][0]["found"]
    assert "acme_gone" in report["checks"][0]["found"]


def test_a_variable_that_nobody_reads_is_named_with_the_near_one(place: Place) -> None:
    place.env |= {"III_SKILL_SERVE_PROT": "1", "III_SKILL_SERVE_PORT": "2", "III_SKILL_TOKEN": "t"}
    report, _ = place.report("--only", "command.variables")
    (check,) = report["checks"]
    assert "III_SKILL_SERVE_PROT" in check["found"]
    assert "III_SKILL_SERVE_PORT" in check["fix"]


def test_what_serve_is_told_by_its_environment_holds_here_too(place: Place) -> None:
    place.env |= {"III_SKILL_SERVE_ADAPTER": "dynamo"}
    assert place.report()[0]["likeliest_cause"] == "plugins.adapter"
    place.env["III_SKILL_DOCTOR_ADAPTER"] = "memory"
    place.env["III_SKILL_SERVE_ADDRESS"] = "0.0.0.0"
    assert place.report()[0]["likeliest_cause"] == "config.exposure"


async def test_localhost_that_leads_elsewhere_first(place: Place) -> None:
    """A name service that answers ::1 first, and a host that listens on 127.0.0.1."""
    await place.host()
    hosts = place.cwd / "hosts"
    hosts.write_text("::1 localhost\n127.0.0.1 localhost\n")
    script = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh")
    port = place.asked["port"]
    report, code = await asyncio.to_thread(place.report, "--url", f"ws://localhost:{port}", prefix=prefix)
    assert (report["likeliest_cause"], code) == ("engine.localhost", 1), report["checks"][:3]
    assert f"ws://127.0.0.1:{port}" in report["checks"][0]["fix"]


async def test_what_cannot_be_looked_at_ends_with_two(place: Place) -> None:
    """An engine that greets and then answers nothing."""

    async def greet(socket: ServerConnection) -> None:
        greeting = {"type": "workerregistered", "worker_id": "w", "reattach_token": "t"}
        await socket.send(json.dumps(greeting))
        await socket.wait_closed()

    async with serve(greet, "127.0.0.1", place.asked["port"]):
        report, code = await asyncio.to_thread(place.report, "--timeout", "3")
    assert (report["likeliest_cause"], report["ok"], code) == ("engine.kind", False, 2)
    assert report["checks"][0]["status"] == "unknown"
    assert "engine::functions::list was not answered" in report["checks"][0]["found"]


@pytest.mark.parametrize(("sdk", "status"), [("python-0.23.0", Status.WARN), ("python-0.25.0", Status.OK)])
async def test_a_real_sdk_says_the_version_that_is_looked_at(sdk: str, status: Status, place: Place) -> None:
    host = await place.host()

    async def there() -> bool:
        rows = (await host.trigger("engine::workers::list"))["workers"]
        return any(row["runtime"] == "python" and row["version"] for row in rows)

    url = f"ws://127.0.0.1:{place.asked['port']}"
    with running_worker(sdk, place.cwd / "worker", url):
        await becomes("the worker to say who it is", there)
        report = await place.look("workers")
    found = report.of("workers.sdk")
    assert found.status is status, found
    if status is Status.WARN:
        assert sdk.partition("-")[2] in found.found
        assert "1 MiB" in found.found


async def test_what_follows_from_a_cause_is_not_shown(place: Place) -> None:
    place.env["III_URL"] = f"ws://127.0.0.1:{free_port()}"
    place.config("workers: [\n")
    report = await place.look()
    assert report.loud == ["config.file", "engine.reachable"]
    assert report.of("config.adapter").found == "first mend config.file"


async def test_fixing_does_what_is_safe_and_says_so(place: Place) -> None:
    await place.host()
    (place.cwd / "token").write_text("secret")
    (place.cwd / "token").chmod(0o644)
    place.asked["token_file"] = place.cwd / "token"
    link = place.cwd / ".claude" / "skills" / "iii-state-management"
    link.parent.mkdir(parents=True)
    link.symlink_to(place.cwd / "gone")
    before = await place.look()
    assert {"config.token", "skill.links"} == set(before.loud)
    assert before.done == []
    assert (place.cwd / "token").stat().st_mode & 0o777 == 0o644, "looking changes nothing"
    after = await place.look(mend=True)
    assert after.loud == []
    assert sorted(line.partition(":")[0] for line in after.done) == sorted(before.loud)
    assert (place.cwd / "token").stat().st_mode & 0o777 == 0o600
    assert not link.is_symlink()


async def test_fixing_a_file_that_was_left_behind_finds_the_host(place: Place) -> None:
    _, make = BROKEN["a_host_that_was_killed"]
    await make(place)
    report = await place.look(mend=True)
    assert report.loud == []
    assert len(report.done) == 1
    assert not (place.cwd / ".iii" / "host.json").exists()


async def test_it_leaves_no_trace(place: Place) -> None:
    await place.written()
    (place.store / "state.db").chmod(0o644)
    before = sorted(os.listdir(place.store))
    await place.look()
    assert sorted(os.listdir(place.store)) == before
    assert (place.store / "state.db").stat().st_mode & 0o777 == 0o644
    assert sorted(os.listdir(place.cwd)) == [".iii"]
