"""iii-skill-test for Node as npm packs it, and projects that have it installed, each built once."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from support.sdk import once, tool
from support.tree import ROOT

SOURCE = ROOT / "clients" / "node"
FILES = ("package.json", "tsconfig.json", "README.md", "LICENSE", "src")


def dependencies() -> Path:
    """The `node_modules` with all that its development needs."""
    package = json.loads((SOURCE / "package.json").read_text())
    wanted = {"private": True, "type": "module", "dependencies": package["devDependencies"]}

    def build(target: Path) -> None:
        target.mkdir()
        (target / "package.json").write_text(json.dumps(wanted))
        _run([tool("npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"], target)

    return once(f"node-client-{_digest(json.dumps(wanted).encode())}", build) / "node_modules"


def packed() -> Path:
    """The tarball that `npm publish` would send, in a folder of its own."""
    sources = sorted(path for path in SOURCE.rglob("*") if path.is_file() and _tracked(path))
    modules = dependencies()

    def build(target: Path) -> None:
        work = target / "work"
        work.mkdir(parents=True)
        for name in FILES:
            source = SOURCE / name
            if source.is_dir():
                shutil.copytree(source, work / name)
            else:
                shutil.copy(source, work / name)
        (work / "node_modules").symlink_to(modules)
        _run([tool("npm"), "pack", "--silent", "--pack-destination", str(target)], work)
        shutil.rmtree(work)

    name = _digest(*(path.read_bytes() for path in sources))
    (tarball,) = once(f"node-client-packed-{name}", build).glob("*.tgz")
    return tarball


def install(project: Path) -> None:
    """Put it into the `node_modules` of a project, beside vitest, TypeScript and the SDK."""
    modules = project / "node_modules"
    modules.mkdir(parents=True)
    for path in dependencies().iterdir():
        (modules / path.name).symlink_to(path)
    with tarfile.open(packed()) as archive:
        archive.extractall(modules, filter="data")
    (modules / "package").rename(modules / "iii-skill-test")
    (project / "package.json").write_text('{"private": true, "type": "module"}')


def _tracked(path: Path) -> bool:
    return not {"node_modules", "dist"} & set(path.relative_to(SOURCE).parts)


def _digest(*parts: bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()[:16]


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
