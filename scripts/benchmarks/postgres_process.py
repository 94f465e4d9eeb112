"""A local PostgreSQL for the length of a block, in a cluster of its own that flushes."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iii_skill.testing.server import free_port


@contextmanager
def postgres_process() -> Iterator[str]:
    """The URL of a fresh server with its defaults."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    program = str(found[-1]) if found else shutil.which("postgres")
    if program is None:
        raise SystemExit("PostgreSQL is missing: apt-get install postgresql")
    port = free_port()
    user = _unprivileged()
    with tempfile.TemporaryDirectory() as home:
        if user is not None:
            shutil.chown(home, user)
        data = f"{home}/data"
        command = [str(Path(program).with_name("initdb")), "--pgdata", data, "--username", "bench"]
        command += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C"]
        subprocess.run(command, stdout=subprocess.DEVNULL, user=user, cwd="/", check=True)
        command = [program, "-D", data, "-p", str(port), "-k", home, "-c", "listen_addresses=127.0.0.1"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, user=user, cwd="/")
        try:
            ready = [str(Path(program).with_name("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(port)]
            while subprocess.run(ready, check=False).returncode:
                if process.poll() is not None:
                    raise SystemExit("PostgreSQL did not start")
                time.sleep(0.05)
            yield f"postgresql://bench@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait()


def _unprivileged() -> str | None:
    """Who runs it: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
