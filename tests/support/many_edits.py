"""Many `state edit` of one key at the same time: `python -P many_edits.py URL COUNT SCOPE KEY`.

Each is a fork of this process, so that they really meet. Prints how many ended with which exit code.
"""

from __future__ import annotations

import collections
import json
import os
import sys

from iii_skill.cli.exit_codes import UNREACHABLE
from iii_skill.cli.main import cli


def edit(url: str, scope: str, key: str) -> int:
    """The exit code; on a busy machine a greeting may come too late, which is before anything was edited."""
    for _ in range(20):
        try:
            cli(["state", "edit", scope, key, "--url", url, "-q"], standalone_mode=False)
        except SystemExit as end:
            if end.code != UNREACHABLE:
                return int(end.code or 0)
    return UNREACHABLE


def main() -> None:
    """Fork, edit, count."""
    url, count, scope, key = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    begin, go = os.pipe()
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                os.close(go)
                os.read(begin, 1)  # Until all are there.
                code = edit(url, scope, key)
            finally:
                os._exit(code)
        pids.append(pid)
    os.close(go)
    codes = collections.Counter(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
