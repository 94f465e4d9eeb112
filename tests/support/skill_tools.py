"""Programs from npm and PyPI that the tests of the skill run, installed once below `.cache`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.sdk import BUILD_SECONDS, locked, untimed
from support.tree import ROOT

CACHE = ROOT / ".cache"
PYTHON_SDK = "0.25.0"
NODE_SDK = "0.22.1"
RUST_SDK = "0.25.0"
"""The newest SDKs, which the pages and the tasks are written for."""
RUST_NEXT = "0.26.0-rc.4"
"""The next one, which has observers and no triggers."""

PYTHON_TOOLS = {"uv": "0.13.9", "skills-ref": "0.1.1", "skillsaw": "0.22.0", "agnix": "0.59.3"}


def lock_of(folder: Path) -> Path:
    """The lock beside a folder that one process at a time makes."""
    return folder.parent / f".{folder.name}.lock"


def npm(package: str, version: str, *more: str) -> Path:
    """The folder of an npm package of exactly this version; `more` are installed beside it."""
    folder = CACHE / "npm-skill" / f"{package.replace('/', '+')}-{version}"
    with locked(lock_of(folder)), untimed():
        if not (folder / "installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / "package.json").write_text('{"private": true}')
            wanted = [f"{package}@{version}", *more]
            command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *wanted]
            subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr, timeout=BUILD_SECONDS)
            (folder / "installed").touch()
    return folder / "node_modules" / package


def npm_program(package: str, version: str) -> str:
    """The path of the script behind the package's command."""
    folder = npm(package, version)
    entry = json.loads((folder / "package.json").read_text())["bin"]
    name = entry if isinstance(entry, str) else next(iter(entry.values()))
    return str(folder / name)


def node22() -> str:
    """A Node 22 for the programs that refuse Node 20."""
    return str(npm("node", "22.23.3") / "bin" / "node")


def python_tools() -> Path:
    """The `bin` folder of a virtual environment with uv and the validators of skills."""
    folder = CACHE / "pip-skill"
    with locked(lock_of(folder)), untimed():
        if not (folder / "installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            wanted = [f"{name}=={version}" for name, version in PYTHON_TOOLS.items()]
            install = [str(folder / "bin" / "pip"), "install", "--quiet", *wanted]
            subprocess.run(install, check=True, timeout=BUILD_SECONDS)
            (folder / "installed").touch()
    return folder / "bin"


def clean_environment(home: Path, *more_path: Path) -> dict[str, str]:
    """This environment with an empty HOME, no telemetry, and the caches below `.cache`."""
    home.mkdir(parents=True, exist_ok=True)
    return os.environ | {
        "PATH": os.pathsep.join([*map(str, more_path), os.environ["PATH"]]),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "DISABLE_TELEMETRY": "1",
        "UV_CACHE_DIR": str(CACHE / "uv"),
        "npm_config_userconfig": str(Path.home() / ".npmrc"),
    }


NETWORK = ("PIP_", "SSL_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def bare_environment(home: Path, programs: Path) -> dict[str, str]:
    """What a new container has: HOME and PATH, and how pip reaches its index."""
    home.mkdir(parents=True, exist_ok=True)
    network = {name: value for name, value in os.environ.items() if name.upper().startswith(NETWORK)}
    return network | {"HOME": str(home), "PATH": str(programs)}
