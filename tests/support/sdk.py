"""The real SDKs from the registries, each version in its own place below `.cache/sdk/`, built once."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.tree import ROOT

CACHE = ROOT / ".cache"
SDKS = CACHE / "sdk"
CARGO_TARGET = CACHE / "cargo-target"
BUILD_SECONDS = 1800
"""What a build may take: it is bounded by the load and the network alone."""


def python_sdk(version: str) -> Path:
    """The `python` of a virtual environment with that `iii-sdk`."""
    place = once(f"python-{version}", lambda target: _install_python(target, version))
    return place / "bin" / "python"


def node_sdk(version: str) -> Path:
    """The `node_modules` with that `iii-sdk`; link it beside a program (`link_node_modules`)."""
    return once(f"node-{version}", lambda target: _install_node(target, version)) / "node_modules"


def link_node_modules(directory: Path, version: str) -> None:
    """Make `import 'iii-sdk'` in `directory` find that version."""
    (directory / "node_modules").symlink_to(node_sdk(version))


def rust_binary(version: str, source: Path, *, name: str = "sdk-worker", crates: str = "") -> Path:
    """The program `source` (a main.rs) built against that `iii-sdk`, and lines of further dependencies."""
    crate = f"{name}-{version.replace('.', '-')}"
    place = SDKS / f"rust-{crate}"
    with cargo_lock():
        (place / "src").mkdir(parents=True, exist_ok=True)
        _write(place / "Cargo.toml", _CARGO_TOML.format(name=crate, version=version, crates=crates))
        _write(place / "src" / "main.rs", source.read_text("utf-8"))
        with untimed():
            _run([tool("cargo"), "build", "--quiet"], cwd=place, env=cargo_environment())
    return CARGO_TARGET / "debug" / crate


def cargo_environment() -> Mapping[str, str]:
    """The environment of every cargo call of the tests: one target directory, so crates build once."""
    return {
        **os.environ,
        "CARGO_TARGET_DIR": str(CARGO_TARGET),
        "CARGO_PROFILE_DEV_DEBUG": "0",
        "CARGO_INCREMENTAL": "0",
    }


@contextmanager
def cargo_lock() -> Iterator[None]:
    """Hold it around every cargo call: one build at a time on this machine."""
    with locked(CACHE / "cargo.lock"):
        yield


@contextmanager
def untimed() -> Iterator[None]:
    """What happens in it is no time of the test, as pytest-timeout counts it: a build, a wait for one."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        if left:
            signal.setitimer(signal.ITIMER_REAL, left)


def tool(name: str) -> str:
    """The path of a program that the tests need; an AssertionError says what to install."""
    path = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / ".cargo" / "bin")))
    found = shutil.which(name, path=path)
    assert found is not None, f"{name} is missing: install {_TOOLS[name]}"
    return found


_TOOLS = {
    "cargo": "Rust 1.85 or newer (https://rustup.rs)",
    "rustfmt": "rustfmt (rustup component add rustfmt)",
    "git": "git",
    "node": "Node 20 or newer (https://nodejs.org)",
    "npm": "npm (it comes with Node)",
}

_CARGO_TOML = """\
[package]
name = "{name}"
version = "0.0.0"
edition = "2024"
publish = false

[dependencies]
iii-sdk = "={version}"
serde_json = "1"
tokio = {{ version = "1", features = ["rt-multi-thread", "macros", "signal", "time"] }}
{crates}
[workspace]
"""


def _install_python(target: Path, version: str) -> None:
    _run([sys.executable, "-m", "venv", "--without-pip", str(target)])
    pip = [sys.executable, "-m", "pip", "--python", str(target / "bin" / "python")]
    _run([*pip, "install", "--quiet", "--disable-pip-version-check", f"iii-sdk=={version}"])


def _install_node(target: Path, version: str) -> None:
    target.mkdir()
    package = {"private": True, "type": "module", "dependencies": {"iii-sdk": version}}
    (target / "package.json").write_text(json.dumps(package), "utf-8")
    _run([tool("npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"], cwd=target)


def once(name: str, build: Callable[[Path], None]) -> Path:
    """Build into a neighbour and rename it: what is there is whole, whoever asks at the same time."""
    place = SDKS / name
    if place.exists():
        return place
    with locked(SDKS / f"{name}.lock"), untimed():
        if not place.exists():
            half = SDKS / f"{name}.half"
            shutil.rmtree(half, ignore_errors=True)
            build(half)
            half.rename(place)
    return place


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of that file; to wait for who holds it is no time of the test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        with untimed():
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"


def _write(path: Path, text: str) -> None:
    """Write only what differs: cargo rebuilds what is newer than its output."""
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")
