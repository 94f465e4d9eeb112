#!/usr/bin/env python3
"""Run `iii-skill` out of the installed skill: the package beside this file, else the published one.

Usage: python3 SKILL_DIR/scripts/iii_skill_run.py [--how] COMMAND [ARGUMENT ...]

  serve                            run the host: durable state for iii workers
  scaffold python DEST --defaults  write a complete, tested state worker
  --how                            only say which way would be taken, as JSON
  --help                           this text; `COMMAND --help` for a command

It says on stderr what it runs. The first way that is possible is taken:
  1. uvx, with the package that lies beside this file (the whole repository was installed);
  2. without uv: a virtual environment of its own in the user's cache directory, with that package;
  3. only the skill was installed: an `iii-skill` command on PATH;
  4. `uvx iii-skill`; 5. without uv: as 2, with the package from PyPI.
Exit codes: 2 for a wrong call, 69 when no way is possible, else that of iii-skill.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None

SKILL = Path(__file__).resolve().parent.parent
UNAVAILABLE = 69


def package_beside():
    """The folder of the whole repository around this file, or None."""
    for folder in (SKILL, SKILL.parent.parent):
        if (folder / "pyproject.toml").is_file() and (folder / "iii_skill" / "__init__.py").is_file():
            return folder
    return None


def cached_environment(source):
    """A virtual environment's folder, one for each source and version of Python."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    stamp = source
    if Path(source).is_dir():
        stamp += str(max(f.stat().st_mtime_ns for f in Path(source).rglob("*.py")))
    name = hashlib.sha256((stamp + sys.version).encode()).hexdigest()[:16]
    return base / "iii-skill" / name


def choose():
    """The way to run iii-skill: its name, the command, and what must be installed first."""
    folder = package_beside()
    uvx = shutil.which("uvx")
    if folder and uvx:
        return {"way": "uvx, package beside", "command": [uvx, "--from", str(folder), "iii-skill"]}
    installed = None if folder else shutil.which("iii-skill")
    if installed:
        return {"way": "command on PATH", "command": [installed]}
    if uvx:
        return {"way": "uvx, published package", "command": [uvx, "iii-skill"]}
    source = str(folder) if folder else "iii-skill"
    environment = cached_environment(source)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    return {
        "way": "virtual environment, package beside" if folder else "virtual environment, published package",
        "command": [str(scripts / "iii-skill")],
        "install": source,
        "environment": str(environment),
        "otherwise": "install uv and try again" if folder else "pip install a clone of its repository",
    }


def prepare(way):
    """Make the virtual environment of a way that needs one; of many callers at the same time one does it."""
    environment = Path(way["environment"])
    complete = environment / "complete"
    if complete.is_file():
        return
    if sys.version_info < (3, 11):
        stop("Python 3.11 or newer is needed, or uv (https://docs.astral.sh/uv/): install one of them.")
    try:
        environment.parent.mkdir(parents=True, exist_ok=True)
        with alone_in(environment.parent):
            if not complete.is_file():
                install(way, environment)
                complete.touch()
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error if isinstance(error, OSError) else "the lines above say why"
        stop("could not install {} ({}): {}.".format(way["install"], reason, way["otherwise"]))


@contextlib.contextmanager
def alone_in(folder):
    """Hold the lock on a folder; the others wait. Windows has no such lock."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def install(way, environment):
    """Replace what a killed installation left; a failed one leaves nothing."""
    shutil.rmtree(environment, ignore_errors=True)
    say("installing {install} into {environment}".format(**way))
    try:
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, stdout=sys.stderr)
        pip = [str(Path(way["command"][0]).parent / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, way["install"]], check=True, stdout=sys.stderr)
    except BaseException:
        shutil.rmtree(environment, ignore_errors=True)
        raise


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
    way = choose()
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
    main(sys.argv[1:])
