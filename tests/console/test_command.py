"""The commands of the page on the console are those that work."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from support.host import WAIT_S, free_port
from support.markdown import blocks
from support.tree import ROOT


def test_the_commands_of_the_page_print_addresses_that_open(tmp_path: Path) -> None:
    (block,) = (one for one in blocks(ROOT / "references" / "console.md") if one.directive == "console")
    ports = {port: str(free_port()) for port in ("49134", "3111", "3113", "3114")}
    lines = [re.sub(r"\d{4,5}", lambda found: ports[found[0]], line) for line in block.text.splitlines()]
    lines = [line.replace("--console &", f"--console-port {ports['3113']} &") for line in lines]
    running = []
    try:
        for line, port in zip(lines, (ports["3113"], ports["3114"]), strict=True):
            command = line.split("&")[0].split()
            assert command.pop(0) == "iii-skill"
            process = subprocess.Popen(
                [sys.executable, "-m", "iii_skill", *command], stdout=subprocess.PIPE, text=True, cwd=tmp_path
            )
            running.append(process)
            assert process.stdout is not None
            said = ""
            while "#token=" not in said:
                said = process.stdout.readline()
                assert said, line
            address = re.search(r"http://\S+", said)
            assert address is not None
            assert f":{port}/#token=" in address[0]
            with urllib.request.urlopen(address[0]) as page:
                assert b"iii console" in page.read()
    finally:
        for process in reversed(running):
            process.terminate()
            assert process.wait(WAIT_S) == 0
            assert process.stdout is not None
            process.stdout.close()
