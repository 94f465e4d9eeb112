#!/usr/bin/env python3
"""Look at what would be published: `check` says what is wrong, `sbom` writes iii_skill/sbom.cdx.json.

`check` builds wheel and sdist twice, from copies whose files have other times and rights, and compares them
byte for byte; reads both with twine, check-wheel-contents and validate-pyproject; holds version, changelog,
manifests, metadata and bill of materials to each other; and has zizmor read the workflows. `--tag vX.Y.Z`
is what a publishing workflow adds: the tag, the version and a dated heading in CHANGELOG.md must agree.
Nothing is uploaded. Exit code 1 names each finding on a line of its own.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output import OutputFormat, make_outputter
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SBOM = ROOT / "iii_skill" / "sbom.cdx.json"
VENDORED = ROOT / "iii_skill" / "vendored.toml"
TOOLS = Path(sys.executable).parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NAME = PROJECT["name"].replace("-", "_")
STEM = f"{NAME}-{PROJECT['version']}"
WHEEL, SDIST = f"{STEM}-py3-none-any.whl", f"{STEM}.tar.gz"
MANIFESTS = (
    "plugin.json",
    ".claude-plugin/plugin.json",
    "gemini-extension.json",
    "clients/node/package.json",
)
URLS = {"Homepage", "Documentation", "Repository", "Changelog", "Issues"}


# The bill of materials.


def requirements() -> Iterator[tuple[Requirement, str | None]]:
    """What the package needs, and what each extra adds."""
    for line in PROJECT["dependencies"]:
        yield Requirement(line), None
    for extra, lines in sorted(PROJECT["optional-dependencies"].items()):
        for line in lines:
            if Requirement(line).name != PROJECT["name"]:
                yield Requirement(line), extra


def declared() -> list[Component]:
    """One component for each package that is named, with its range: the installer picks the version."""
    found: dict[str, Component] = {}
    for requirement, extra in requirements():
        properties = [Property(name="iii-skill:requirement", value=str(requirement))]
        if extra:
            properties.append(Property(name="iii-skill:extra", value=extra))
        found.setdefault(
            requirement.name,
            Component(
                name=requirement.name,
                type=ComponentType.LIBRARY,
                bom_ref=f"pypi:{requirement.name}",
                purl=PackageURL("pypi", None, requirement.name),
                scope=ComponentScope.OPTIONAL if extra else ComponentScope.REQUIRED,
                properties=properties,
            ),
        )
    return list(found.values())


def vendored() -> list[Component]:
    """The files of others that the wheel carries, each named in iii_skill/vendored.toml."""
    entries = tomllib.loads(VENDORED.read_text("utf-8"))["file"] if VENDORED.is_file() else []
    components = []
    for entry in entries:
        content = (ROOT / "iii_skill" / entry["path"]).read_bytes()
        purl = PackageURL("npm", None, entry["package"], entry["version"])
        components.append(
            Component(
                name=entry["package"],
                version=entry["version"],
                type=ComponentType.LIBRARY,
                bom_ref=f"vendored:{entry['path']}",
                purl=purl,
                scope=ComponentScope.REQUIRED,
                licenses=[DisjunctiveLicense(id=entry["license"])],
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(content).hexdigest())],
                properties=[Property(name="iii-skill:file", value=f"iii_skill/{entry['path']}")],
            )
        )
    return components


def bill() -> str:
    """The bill of materials as text; equal sources give equal text (no time, no random serial number)."""
    subject = Component(
        name=PROJECT["name"],
        version=PROJECT["version"],
        type=ComponentType.APPLICATION,
        bom_ref=PROJECT["name"],
        purl=PackageURL("pypi", None, PROJECT["name"], PROJECT["version"]),
        licenses=[DisjunctiveLicense(id=PROJECT["license"])],
        supplier=OrganizationalEntity(name=PROJECT["authors"][0]["name"]),
        external_references=[
            ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(PROJECT["urls"]["Repository"]))
        ],
    )
    bom = Bom(components=[*declared(), *vendored()])
    bom.metadata.component = subject
    bom.register_dependency(subject, bom.components)
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    document = json.loads(text)
    document.pop("serialNumber", None)
    document["metadata"].pop("timestamp", None)
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


# Building.


def sources(place: Path, *, other: bool) -> Path:
    """A copy of the tracked files; `other` gives them other times and rights than a checkout would."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in os.fsdecode(listed).split("\0"):
        if name and (ROOT / name).is_file():
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
            executable = os.access(ROOT / name, os.X_OK)
            target.chmod((0o700 if executable else 0o600) if other else (0o755 if executable else 0o644))
            if other:
                os.utime(target, (1_000_000_000, 1_000_000_000))
    return place


def build(place: Path, *, other: bool) -> dict[str, Path]:
    """Wheel and sdist of such a copy, by file name."""
    source, target = sources(place / "source", other=other), place / "dist"
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", target, cwd=source)
    return {path.name: path for path in target.iterdir()}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """The output of a command that succeeds; else its last lines, as the finding."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Finding(f"{Path(command[0]).name}: {(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout


class Finding(Exception):
    """Something that must not be published."""


# What is looked at.


def same_twice(first: dict[str, Path], second: dict[str, Path]) -> Iterator[str]:
    """Two builds are equal byte for byte."""
    if sorted(first) != sorted([WHEEL, SDIST]):
        yield f"the build made {sorted(first)} instead of {WHEEL} and {SDIST}"
    for name in sorted(first):
        if first[name].read_bytes() != second[name].read_bytes():
            yield f"{name} differs from a second build of the same files"


def wheel_of_sdist(built: dict[str, Path], place: Path) -> Iterator[str]:
    """The wheel that is built from the sdist is the wheel that is published."""
    with tarfile.open(built[SDIST]) as archive:
        archive.extractall(place, filter="data")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place / "dist", cwd=place / STEM)
    if (place / "dist" / WHEEL).read_bytes() != built[WHEEL].read_bytes():
        yield "the wheel built from the sdist is another one"


def metadata(built: dict[str, Path]) -> Iterator[str]:
    """What an index shows of the package."""
    with zipfile.ZipFile(built[WHEEL]) as archive:
        message = BytesParser().parsebytes(archive.read(f"{STEM}.dist-info/METADATA"))
        names = archive.namelist()
        carried = f"{STEM}.dist-info/sboms/{SBOM.name}"
        if carried not in names:
            yield f"the wheel lacks {carried}"
        elif archive.read(carried) != SBOM.read_bytes():
            yield f"{carried} is not {SBOM.relative_to(ROOT)}"
        for entry in vendored():
            (path,) = (item.value for item in entry.properties if item.name == "iii-skill:file")
            if path not in names:
                yield f"the wheel lacks {path}, which the bill of materials names"
    for field in ("Author", "License-Expression", "License-File", "Summary", "Keywords", "Requires-Python"):
        if not message.get_all(field):
            yield f"the metadata lacks {field}"
    urls = {line.split(",", 1)[0]: line.split(", ", 1)[1] for line in message.get_all("Project-URL") or []}
    if missing := URLS - urls.keys():
        yield f"[project.urls] lacks {', '.join(sorted(missing))}"
    classifiers = message.get_all("Classifier") or []
    for minor in (11, 12, 13, 14):
        if f"Programming Language :: Python :: 3.{minor}" not in classifiers:
            yield f"no classifier names Python 3.{minor}"


def agreement(tag: str | None) -> Iterator[str]:
    """Version, manifests, changelog and clients say the same."""
    version = PROJECT["version"]
    if f'__version__ = "{version}"' not in (ROOT / "iii_skill" / "__init__.py").read_text("utf-8"):
        yield f"iii_skill.__version__ is not {version}"
    for name in MANIFESTS:
        said = json.loads((ROOT / name).read_text("utf-8"))["version"]
        if said != version:
            yield f"{name} says version {said}, pyproject.toml says {version}"
    crate = tomllib.loads((ROOT / "clients" / "rust" / "Cargo.toml").read_text("utf-8"))["package"]
    if crate["version"] != version:
        yield f"clients/rust/Cargo.toml says version {crate['version']}, pyproject.toml says {version}"
    headings = re.findall(r"^## (\S+) - (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    if not headings or headings[0][0] != version:
        yield f"the first heading of CHANGELOG.md is not {version}"
    if tag is not None:
        if tag != f"v{version}":
            yield f"the tag is {tag}, the version {version}"
        if not headings or not re.fullmatch(r"\d{4}-\d\d-\d\d", headings[0][1]):
            yield f"CHANGELOG.md gives {version} no date"
    if wheels := [path.name for path in (ROOT / "skills").rglob("*.whl") if path.name != WHEEL]:
        yield f"the skill carries {', '.join(wheels)} instead of {WHEEL}: run scripts/bundle"


def materials() -> Iterator[str]:
    """The committed bill of materials is current and valid."""
    text = SBOM.read_text("utf-8") if SBOM.is_file() else ""
    if text != bill():
        yield f"{SBOM.relative_to(ROOT)} is stale: run scripts/release sbom"
    elif error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        yield f"{SBOM.relative_to(ROOT)} is no CycloneDX 1.6: {error}"


def pinned_actions() -> Iterator[str]:
    """Every action of the workflows is pinned by hash, and zizmor finds nothing."""
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        for line in path.read_text("utf-8").splitlines():
            if "uses:" in line and not re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d", line):
                yield f"{path.name}: not pinned by hash and version: {line.strip()}"
    run(
        TOOLS / "zizmor",
        "--offline",
        "--no-progress",
        "--color=never",
        "--pedantic",
        "--quiet",
        ".github/workflows",
    )


def check(tag: str | None) -> list[str]:
    """All findings, each a sentence."""
    found: list[str] = []

    def look(title: str, findings: Callable[[], Iterator[str]]) -> None:
        print(f"[release] {title}", file=sys.stderr)
        try:
            found.extend(findings())
        except Finding as finding:
            found.append(str(finding))

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        print("[release] building twice", file=sys.stderr)
        first, second = build(place / "1", other=False), build(place / "2", other=True)
        files = [first[name] for name in sorted(first)]

        def tools() -> Iterator[str]:
            run(TOOLS / "twine", "check", "--strict", *files)
            run(TOOLS / "check-wheel-contents", "--ignore", "W002,W009", first[WHEEL])
            run(TOOLS / "validate-pyproject", "pyproject.toml")
            return iter(())

        look("equal byte for byte", lambda: same_twice(first, second))
        look("wheel of the sdist", lambda: wheel_of_sdist(first, place / "3"))
        look("twine, check-wheel-contents, validate-pyproject", tools)
        look("metadata", lambda: metadata(first))
        for path in files:
            print(
                f"[release] sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}",
                file=sys.stderr,
            )
    look("version, changelog, manifests", lambda: agreement(tag))
    look("bill of materials", materials)
    look("workflows", pinned_actions)
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    checking = verbs.add_parser("check", help="say what is wrong with what would be published")
    checking.add_argument("--tag", help="the tag that is published, as v0.1.0")
    verbs.add_parser("sbom", help="write the bill of materials")
    options = parser.parse_args()
    if options.verb == "sbom":
        SBOM.write_text(bill(), "utf-8")
        print(f"wrote {SBOM.relative_to(ROOT)}")
        return 0
    found = check(options.tag)
    print("\n".join(found) if found else f"{STEM} can be published")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
