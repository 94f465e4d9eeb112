"""An agent of the tests: right with the skill in its project (but not every time), without it wrong.

Its arguments: the prompt, a file that counts its runs.
"""

import json
import os
import sys
from pathlib import Path

from evals.run import TASKS, Task

prompt, counter = sys.argv[1], Path(sys.argv[2])
task = next(Task(folder.name) for folder in TASKS.iterdir() if (folder / "prompt.md").read_text() == prompt)
solution = task.solution(TASKS / task.id)
assert solution is not None
text = solution.read_text()
skilled = list(Path.cwd().glob(".claude/skills/*/SKILL.md"))
assert Path(os.environ["HOME"]).parent == Path.cwd().parent, "its HOME is its own"
assert not any(name.startswith("III_") for name in os.environ)
number = int(counter.read_text()) + 1 if skilled else 0
if skilled:
    counter.write_text(str(number))
if number == 1:
    Path(solution.name).write_text(text)
elif number == 2:  # an atomic step becomes two
    Path(solution.name).write_text(text.replace('state("delete", scope=SCOPE', 'state("get", scope=SCOPE'))
usage = {"input_tokens": 90, "cache_read_input_tokens": 10, "output_tokens": 23}
print(json.dumps({"type": "result", "usage": usage, "modelUsage": {"fake-1": {}}}))
