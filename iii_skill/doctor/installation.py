"""Installation: Python, the packages, the command itself, plugins and limits of the process."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from iii_skill.doctor.outcome import Outcome, Outcomes, SetupCheck, fail, ok, page, skipped, warn
from iii_skill.doctor.setup import Setup
from iii_skill.errors import PluginError

PACKAGES = (
    "click",
    "httptools",
    "jinja2",
    "jsonschema_rs",
    "msgspec",
    "orjson",
    "picows",
    "pluggy",
    "sqlite3",
    "tomli_w",
    "yaml",
)
FEW_FILES = 256
PREFIX = "III_SKILL_"
OF_TESTS = "III_SKILL_TEST_"
"""Switches of this project's own tests."""
_REINSTALL = (
    f"Install it again: {os.path.basename(sys.executable)} -m pip install --force-reinstall iii-skill"
)


def packages(_setup: Setup) -> Outcomes:
    """Whether everything that the host is made of can be imported."""
    broken = [outcome for name in PACKAGES if (outcome := _import_fault(name)) is not None]
    return broken or ok(
        f"Python {'.'.join(map(str, sys.version_info[:3]))}, {len(PACKAGES)} packages can be imported"
    )


def _import_fault(name: str) -> Outcome | None:
    try:
        importlib.import_module(name)
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        if name == "sqlite3":
            return fail(
                f"This Python comes without sqlite3 ({what}).", "Use a Python that was built with SQLite."
            )
        return fail(f"The package {name} cannot be imported ({what}).", _REINSTALL)
    return None


def uvloop(_setup: Setup) -> Outcome:
    """Whether the quick event loop is there."""
    try:
        importlib.import_module("uvloop")
    except Exception as error:
        return warn(
            f"uvloop cannot be imported ({type(error).__name__}: {error}), so the host runs slower.",
            "pip install --force-reinstall uvloop",
        )
    return ok("uvloop can be imported")


def command(setup: Setup) -> Outcome:
    """Whether `iii-skill` on PATH is this installation."""
    found = shutil.which("iii-skill", path=setup.env.get("PATH", os.defpath))
    if found is None:
        return skipped("no iii-skill on PATH")
    python = _interpreter_of(Path(found))
    if python is None or python == Path(sys.executable) or _same_environment(python):
        return ok(f"iii-skill on PATH is {found}")
    return warn(
        f"`iii-skill` on PATH is {found}, of another environment than this one ({sys.prefix}).",
        f"Call {Path(sys.executable).parent / 'iii-skill'}, or activate the environment that you mean.",
    )


def _interpreter_of(script: Path) -> Path | None:
    try:
        with script.open("rb") as file:
            first = file.readline(1024)
    except OSError:
        return None
    words = first[2:].split() if first.startswith(b"#!") else []
    path = Path(os.fsdecode(words[0])) if words else None
    return path if path is not None and path.is_absolute() and path.name.startswith("python") else None


def _same_environment(python: Path) -> bool:
    return Path(sys.executable).parent.resolve() == python.parent.resolve()


def variables(setup: Setup) -> Outcomes:
    """Whether a variable that looks like an option is one."""
    known = setup.asked.variables()
    strange = sorted(
        name
        for name in setup.env
        if name.startswith(PREFIX) and name not in known and not name.startswith(OF_TESTS)
    )
    if not known or not strange:
        return ok("every III_SKILL_* variable is an option")
    return [_strange(name, known) for name in strange]


def _strange(name: str, known: Iterable[str]) -> Outcome:
    near = get_close_matches(name, known, n=1)
    fix = (
        f"Rename it to {near[0]}, or unset it." if near else "Unset it, or look at the --help of the command."
    )
    return warn(f"The environment variable {name} is no option of any command: nobody reads it.", fix)


def open_files(_setup: Setup) -> Outcome:
    """Whether the process may open as many files as a host needs for its connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        return warn(
            f"This process may open {hard} files, and each connection is one.",
            "Raise the limit where it was set: ulimit -n 10240, or LimitNOFILE= of the service.",
        )
    return ok("unlimited" if hard == resource.RLIM_INFINITY else f"{hard} files may be open")


def plugins(setup: Setup) -> Outcomes:
    """Whether every plugin could be loaded."""
    found = setup.plugins
    found.load_adapters()
    found.companions()  # what these hooks raise is reported too
    found.template_directories()
    if not found.broken:
        return ok(f"{len(found.sources)} plugins, adapters: {', '.join(sorted(found.adapters))}")
    return [
        fail(
            f"The plugin {broken.source} is left out: {broken.reason}",
            f"Update or remove the package: pip install --upgrade {broken.source.package}, "
            f"or pip uninstall {broken.source.package}",
        )
        for broken in found.broken
    ]


def adapter(setup: Setup) -> Outcome:
    """Whether the chosen adapter is installed."""
    try:
        kind = setup.adapter_type
    except PluginError as error:
        known = ", ".join(sorted(setup.plugins.adapters))
        return fail(error.message, f"Choose one of: {known}; or install the package that brings it.")
    return skipped("no state is served") if kind is None else ok(f"adapter {kind.name}")


_PAGE = page("installation")
CHECKS = (
    SetupCheck("python.packages", "Packages", packages, _PAGE),
    SetupCheck("python.uvloop", "Event loop", uvloop, _PAGE),
    SetupCheck("python.files", "Open files", open_files, _PAGE),
    SetupCheck("command.path", "The command", command, _PAGE),
    SetupCheck("command.variables", "Variables", variables, _PAGE, after=("python.packages",)),
    SetupCheck("plugins.load", "Plugins", plugins, _PAGE, after=("python.packages",)),
    SetupCheck(
        "plugins.adapter",
        "The adapter",
        adapter,
        _PAGE,
        after=("plugins.load", "config.file", "config.variable"),
    ),
)
