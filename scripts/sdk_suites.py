"""Run the engine-bound tests of published SDKs, unmodified, against a host of this tree.

`scripts/sdk-suites [--json] [NAME ...]`: names are `rust-0.26.0-rc.4`, `rust-0.25.0` and `python-0.25.0`;
without any, all of them run. The packages come from crates.io and PyPI through cargo and pip; they are built
below `.cache/suites/`, once. The Rust tests are built optimised: one of them counts bytes while it makes a
million calls, which a debug build does not end in time. Of each package those files run that need an engine
and what this host serves; a file that ends without a result is run again test by test, so that one test hides
no other. Exit code 0 when every test passed; `--json` prints one object instead of lines.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "suites"

RUST_FILES = {
    "observe_engine": "observers",
    "state": "state",
    "http_routes": "routes of observers",
    "api_triggers": "routes of triggers",
    "bridge": "calls between workers",
    "data_channels": "channels",
    "middleware": "middleware",
    "healthcheck": "connections",
    "trigger_type_lifecycle": "trigger types",
    "pubsub": "publish and subscribe",
    "stream": "streams",
}
"""Test files of the crate `iii-sdk` that need an engine; not each version has each of them."""

PYTHON_FILES = (
    "test_observe_e2e_local.py",
    "test_observe_e2e_routed.py",
    "test_state.py",
    "test_api_triggers.py",
    "test_middleware.py",
    "test_data_channels.py",
    "test_healthcheck.py",
    "test_pubsub.py",
    "test_streams.py",
)

FILE_S, TEST_S = 240, 60


class Failed(Exception):
    """A suite could not be prepared; the text says why."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(SUITES)}")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in SUITES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(SUITES)}")
    found: dict[str, dict[str, list[str]]] = {}
    try:
        for name in given.names or SUITES:
            version = name.split("-", 1)[1]
            run = SUITES[name](version)
            with host() as urls:
                found[name] = run(
                    {**os.environ, **urls, "III_TELEMETRY_ENABLED": "false", "OTEL_ENABLED": "false"}
                )
            if not given.json:
                print(
                    f"{name}: {len(found[name]['passed'])} passed, {len(found[name]['failed'])} failed",
                    flush=True,
                )
                for test in found[name]["failed"]:
                    print(f"    FAILED {test}", flush=True)
    except Failed as failure:
        print(f"[sdk-suites] {failure}", file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps(found, indent=1))
    return 0 if all(one["passed"] and not one["failed"] for one in found.values()) else 1


@contextmanager
def host() -> Iterator[Mapping[str, str]]:
    """A host of this tree with state in memory, and the variables by which the tests find it."""
    command = [
        sys.executable,
        "-m",
        "iii_skill",
        "serve",
        "--adapter",
        "memory",
        "--port",
        "0",
        "--http-port",
        "0",
    ]
    with (
        tempfile.TemporaryDirectory() as directory,
        open(Path(directory) / "log", "wb") as log,
        subprocess.Popen(
            [*command, "--ready-json", "--log-level", "error"], cwd=directory,
            stdout=subprocess.PIPE, stderr=log, env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise Failed(f"the host did not start:\n{(Path(directory) / 'log').read_text()}")
            ready = json.loads(line)
            yield {"III_URL": ready["ws"], "III_HTTP_URL": ready["http"]}
        finally:
            process.terminate()
            process.wait(20)


def rust(version: str) -> Any:
    """Build the tests of the crate; gives what runs them."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise Failed("cargo is missing: install Rust 1.85 or newer (https://rustup.rs)")
    place = CACHE / f"rust-{version}"
    crate = _unpacked_crate(cargo, version, place)
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": os.fspath(place / "target-opt1"),
        "CARGO_PROFILE_DEV_DEBUG": "0",
        "CARGO_PROFILE_TEST_DEBUG": "0",
        "CARGO_PROFILE_DEV_OPT_LEVEL": "1",
        "CARGO_PROFILE_TEST_OPT_LEVEL": "1",
    }
    files = [name for name in RUST_FILES if (crate / "tests" / f"{name}.rs").exists()]
    wanted = [part for name in files for part in ("--test", name)]
    # Only the files that run: the crate's own unit tests do not compile outside its repository.
    command = [cargo, "test", "--locked", "--all-features", "--no-run", "--message-format=json", *wanted]
    built = subprocess.run(command, cwd=crate, env=environment, capture_output=True, text=True, check=False)
    if built.returncode:
        raise Failed(f"the tests of iii-sdk {version} do not build:\n{built.stderr[-4000:]}")
    binaries = {}
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["kind"] == ["test"]:
            binaries[message["target"]["name"]] = message["executable"]

    def run(env: Mapping[str, str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {"passed": [], "failed": []}
        for name in files:
            for test, fine in _run_binary(binaries[name], crate, env):
                found["passed" if fine else "failed"].append(f"{name}::{test}")
        return found

    return run


def _run_binary(binary: str, crate: Path, env: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    done = _limited([binary], crate, env, FILE_S)
    if done is not None and "\ntest result" in done:
        for test, verdict in re.findall(r"^test (\S+) .*?\.\.\. (?:.*?)(ok|FAILED)$", done, re.MULTILINE):
            yield test, verdict == "ok"
        return
    listed = _limited([binary, "--list"], crate, env, TEST_S) or ""
    for test in re.findall(r"^(\S+): test$", listed, re.MULTILINE):
        alone = _limited([binary, "--exact", test], crate, env, TEST_S)
        yield test, alone is not None and "\ntest result: ok. 1 passed" in alone


def _limited(command: list[str], directory: Path, env: Mapping[str, str], seconds: float) -> str | None:
    """What a command printed; None when it took too long."""
    try:
        done = subprocess.run(
            command, cwd=directory, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    return done.stdout


def _unpacked_crate(cargo: str, version: str, place: Path) -> Path:
    """The crate, three folders below a tree with the file that its tests upload."""
    crate = place / "tree" / "sdk" / "packages" / "rust" / "iii"
    if (crate / ".unpacked").exists():
        return crate
    fetch = place / "fetch"
    (fetch / "src").mkdir(parents=True, exist_ok=True)
    (fetch / "src" / "lib.rs").touch()
    (fetch / "Cargo.toml").write_text(
        '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n'
        f'[dependencies]\niii-sdk = "={version}"\n[workspace]\n'
    )
    done = subprocess.run([cargo, "fetch", "-q"], cwd=fetch, capture_output=True, text=True, check=False)
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    archive = next(home.glob(f"registry/cache/*/iii-sdk-{version}.crate"), None)
    if done.returncode or archive is None:
        raise Failed(f"cargo cannot fetch iii-sdk {version}:\n{done.stderr}")
    shutil.rmtree(place / "tree", ignore_errors=True)
    _unpack(archive, crate)
    assets = place / "tree" / "sdk" / "test-assets"
    assets.mkdir()
    # A stand-in of the kind and size of what the tests upload.
    (assets / "handbook.pdf").write_bytes(
        b"%PDF-1.4\n" + random.Random(7).randbytes(1_300_000) + b"\n%%EOF\n"
    )
    (crate / ".unpacked").touch()
    return crate


def python(version: str) -> Any:
    """A virtual environment with the SDK, and the tests of its source distribution; gives what runs them."""
    place = CACHE / f"python-{version}"
    interpreter = place / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    if not (place / ".ready").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        _done([sys.executable, "-m", "venv", "--without-pip", os.fspath(place / "venv")])
        needed = [f"iii-sdk=={version}", "pytest", "pytest-asyncio", "aiohttp", "anyio"]
        _done([*pip, "--python", os.fspath(interpreter), "install", *needed])
        source = ["--no-deps", "--no-binary", "iii-sdk", f"iii-sdk=={version}"]
        _done([*pip, "download", "--dest", os.fspath(place), *source])
        _unpack(next(place.glob("iii_sdk-*.tar.gz")), place / "tree")
        (place / ".ready").touch()

    def run(env: Mapping[str, str]) -> dict[str, list[str]]:
        tests = [f"tests/{name}" for name in PYTHON_FILES]
        # Without the coverage that the package's own settings ask for.
        options = ["-o", "addopts=", "-p", "no:cacheprovider", "-rA", "--tb=short"]
        command = [os.fspath(interpreter), "-m", "pytest", *options, *tests]
        printed = _limited(command, place / "tree", env, FILE_S) or ""
        return {
            "passed": re.findall(r"^PASSED (\S+)", printed, re.MULTILINE),
            "failed": re.findall(r"^(?:FAILED|ERROR) (\S+)", printed, re.MULTILINE),
        }

    return run


def _unpack(archive: Path, target: Path) -> None:
    """The one folder of an archive, as `target`."""
    with tempfile.TemporaryDirectory(dir=CACHE) as half, tarfile.open(archive) as tar:
        tar.extractall(half, filter="data")
        (folder,) = Path(half).iterdir()
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)


def _done(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")


SUITES = {"rust-0.26.0-rc.4": rust, "rust-0.25.0": rust, "python-0.25.0": python}


if __name__ == "__main__":
    sys.exit(main())
