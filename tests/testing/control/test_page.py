"""The requests that the page on testing shows are answered as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

from support.controlled import controlled
from support.markdown import blocks
from support.tree import ROOT

from iii_skill.testing.control.verbs import VERBS

PAGE = ROOT / "references" / "testing.md"


def test_every_request_of_the_page_is_answered_as_it_says(tmp_path: Path) -> None:
    (block,) = (block for block in blocks(PAGE) if block.language == "control")
    with controlled(cwd=tmp_path) as control:
        for line in block.text.splitlines():
            request, expected = line.split(" -> ")
            path, asked = request.split(" ", 1)
            status, body = control.raw(path, asked.encode())
            answer = json.loads(body)
            if status != 200:
                said = f"{status} {answer['error']['code']}"
            elif "result" in answer:
                said = json.dumps(answer["result"])
            else:
                said = "(none)"
            pattern = re.escape(expected).replace("…", ".+?")
            assert re.fullmatch(pattern, said), f"{line}: {said}"


def test_every_verb_is_on_the_page() -> None:
    text = PAGE.read_text().split("## Any language")[1].split("## Without")[0]
    named = set(re.findall(r"[a-z_]+", text))
    for verb in VERBS:
        room, _, name = verb.rpartition("/")
        assert room == "faults" or name in named, verb
    faults = PAGE.read_text().split("## Faults")[1].split("## Ready checks")[0]
    for verb in VERBS:
        if verb.startswith("faults/"):
            assert f"`{verb.removeprefix('faults/')}(" in faults, verb
