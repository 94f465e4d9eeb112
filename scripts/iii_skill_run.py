#!/usr/bin/env python3
"""Run `iii-skill` out of the installed skill: nothing of ours is fetched from a package index.

Usage: python3 SKILL_DIR/scripts/iii_skill_run.py [--how] COMMAND [ARGUMENT ...]

  serve                            run the host: durable state for iii workers
  scaffold python DEST --defaults  write a complete, tested state worker
  --how                            only say which way would be taken, as JSON
  --help                           this text; `COMMAND --help` for a command

It says on stderr what it runs. The program comes from the first of these places that there is:
  1. the package beside this file (the whole repository was installed);
  2. an `iii-skill` command on PATH, with the plugins that are installed with it;
  3. the wheel in the skill's folder `assets`.
1 and 3 are run by uvx, or without uv in a virtual environment of their own in the user's cache directory;
only the libraries that they name come from the package index.
Exit codes: 2 for a wrong call, 69 when no way is possible, 130 when interrupted, else that of iii-skill.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None

SKILL = Path(__file__).resolve().parent.parent
NAME = "iii-state-management"
UNAVAILABLE = 69
INTERRUPTED = 130
OLDEST = (3, 11)
NEWER = ["python3.{}".format(minor) for minor in range(20, OLDEST[1] - 1, -1)]
PACKAGE = ("pyproject.toml", "README.md", "LICENSE", "iii_skill", "plugins", "templates")
ASTRAY = ("PREFIX", "TARGET", "ROOT", "USER", "PYTHON", "REQUIRE_VIRTUALENV", "DRY_RUN", "NO_DEPS")
"""Settings of pip that put a package elsewhere than into its environment, or only half of it."""


def package_beside():
    """The folder of the whole repository around this file, or None."""
    for folder in (SKILL, SKILL.parent.parent):
        if (folder / "pyproject.toml").is_file() and (folder / "iii_skill" / "__init__.py").is_file():
            return folder
    return None


def wheel_in_skill():
    """The package as the skill carries it, also when the whole repository lost files on its way; or None."""
    folders = (SKILL / "assets", SKILL / "skills" / NAME / "assets")
    return next((wheel for folder in folders for wheel in sorted(folder.glob("iii_skill-*.whl"))), None)


def choose(command):
    """The way to run a command of iii-skill: its name, the program, and what must be installed first."""
    folder = package_beside()
    installed = None if folder else shutil.which("iii-skill")
    if installed:
        return {"way": "command on PATH", "command": [installed]}
    source = folder or wheel_in_skill()
    if source is None:
        stop(
            "this copy of the skill is incomplete ({} has no assets/iii_skill-*.whl): install the skill "
            "again, or install iii-skill from its repository.".format(SKILL)
        )
    place = "package beside" if folder else "wheel in the skill"
    uvx = shutil.which("uvx")
    if uvx:
        return {"way": "uvx, " + place, "command": [uvx, "--from", requirement(source, command), "iii-skill"]}
    environment = cache_directory() / fingerprint(requirement(source, command), source)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    suffix = ".exe" if os.name == "nt" else ""
    return {
        "way": "virtual environment, " + place,
        "command": [str(scripts / ("iii-skill" + suffix))],
        "install": requirement(source, command),
        "environment": str(environment),
        "python": str(scripts / ("python" + suffix)),
    }


def requirement(source, command):
    """The package at this place, with what its adapters on a server need, and for `mcp` its MCP server."""
    return "{}[{}]".format(source, "redis,postgres,mcp" if command == "mcp" else "redis,postgres")


def fingerprint(requirement, source):
    """A name for the environment: another for each content of the package, place, extras and Python."""
    digest = hashlib.sha256("{} {}".format(requirement, sys.version).encode())
    files = [source] if source.is_file() else [source / name for name in PACKAGE]
    for top in files:
        inside = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        for path in inside:
            if path.suffix != ".pyc":
                digest.update("{}\n".format(path.relative_to(SKILL.anchor)).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_directory():
    """Where environments are kept; without a usable HOME a folder of this user for temporary files."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    candidates = [Path(named)] if os.path.isabs(named) else []
    if os.environ.get("HOME") != "":
        with contextlib.suppress(RuntimeError):
            candidates.append(Path.home() / ".cache")
    for base in candidates:
        with contextlib.suppress(OSError):
            if base.is_absolute():
                (base / "iii-skill").mkdir(parents=True, exist_ok=True)
                if os.access(str(base / "iii-skill"), os.W_OK | os.X_OK):
                    return base / "iii-skill"
    user = str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    own = Path(tempfile.gettempdir()) / ("iii-skill-" + user)
    try:
        own.mkdir(mode=0o700, exist_ok=True)
        about = own.lstat()
    except OSError as error:
        stop("there is no directory to keep the program in ({}): set HOME or XDG_CACHE_HOME.".format(error))
    if hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & 0o22 or own.is_symlink()):
        stop("{} belongs to somebody else: remove it, or set XDG_CACHE_HOME.".format(own))
    return own


def usable(way):
    """Whether the environment is whole: its Python may be gone, or its files may have been swept away."""
    environment = Path(way["environment"])
    package = [
        path
        for library in ("lib/python*/site-packages", "Lib/site-packages")
        for path in environment.glob(library + "/iii_skill/__init__.py")
    ]
    programs = [way["python"], *way["command"]]
    return bool((environment / "complete").is_file() and package and all(map(os.path.exists, programs)))


def answers(way):
    """Whether what was installed starts."""
    version = [*way["command"], "--version"]
    return subprocess.run(version, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def prepare(way):
    """Make the virtual environment of a way that needs one; of many callers at the same time one does it."""
    if usable(way):
        return
    environment = Path(way["environment"])
    try:
        with alone_in(environment.parent):
            if not usable(way):
                install(way, environment)
                (environment / "complete").touch()
                if not (usable(way) and answers(way)):
                    shutil.rmtree(str(environment), ignore_errors=True)
                    stop(
                        "pip put iii-skill, or what it needs, somewhere else than into {}: look for prefix, "
                        "target and root in `pip config list`.".format(environment)
                    )
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error if isinstance(error, OSError) else "the lines above say why"
        stop("could not install {} ({}): install uv and try again.".format(way["install"], reason))


@contextlib.contextmanager
def alone_in(folder):
    """Hold the lock on a folder; the others wait. Windows has no such lock."""
    if fcntl is None:
        yield
        return
    handle = os.open(str(folder), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def install(way, environment):
    """Replace what a killed installation left; a failed one leaves nothing."""
    shutil.rmtree(str(environment), ignore_errors=True)
    say("installing {install} into {environment}".format(**way))
    astray = ["PIP_" + name for name in ASTRAY]
    clean = {name: value for name, value in os.environ.items() if name.upper() not in astray}
    for name in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"):
        clean.pop(name, None)
    make = [sys.executable, "-m", "venv", str(environment)]
    pip = [way["python"], "-m", "pip", "install", "--quiet", "--no-user", "--disable-pip-version-check"]
    try:
        for command in (make, [*pip, way["install"]]):
            subprocess.run(command, check=True, stdout=sys.stderr, env=clean)
    except BaseException:
        shutil.rmtree(str(environment), ignore_errors=True)
        raise


def newer_python():
    """Become a newer Python when this one is too old and no uv is there to bring one."""
    for name in NEWER:
        program = shutil.which(name)
        if program:
            os.execv(program, [program, *sys.argv])
    stop("Python 3.11 or newer is needed, or uv (https://docs.astral.sh/uv/): install one of them.")


def say(text):
    """One line on stderr."""
    print("[iii-skill] " + text, file=sys.stderr, flush=True)


def stop(text):
    """End with one sentence."""
    say(text)
    raise SystemExit(UNAVAILABLE)


def main(arguments):
    """Choose a way, say it, become it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        raise SystemExit(0 if arguments else 2)
    way = choose(arguments[1] if arguments[:1] == ["--how"] and arguments[1:] else arguments[0])
    if "environment" in way and sys.version_info < OLDEST:
        newer_python()
    if arguments[0] == "--how":
        print(json.dumps(way))
        return
    if "environment" in way:
        prepare(way)
    command = [*way["command"], *arguments]
    say("{}: {}".format(way["way"], " ".join(command)))
    if os.name == "nt":
        raise SystemExit(subprocess.call(command))
    try:
        os.execv(command[0], command)
    except OSError as error:
        stop("could not start {}: {}.".format(command[0], error.strerror))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        say("interrupted.")
        raise SystemExit(INTERRUPTED) from None
