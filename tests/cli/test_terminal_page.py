"""`references/terminal.md` says of the command line what it does."""

from __future__ import annotations

import re

import click
from support.tree import ROOT

from iii_skill.cli.exit_codes import EXIT_CODES
from iii_skill.cli.state import VERBS, state
from iii_skill.state import imports

PAGE = (ROOT / "references" / "terminal.md").read_text()


def test_the_table_of_exit_codes_is_the_one_of_the_program() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


def test_the_bounds_of_one_write_are_those_of_the_program() -> None:
    bound = f"{imports.TOGETHER_KEYS:,} keys, {imports.TOGETHER_BYTES // 1024 // 1024} MiB"
    assert PAGE.count(bound) == 2


def test_the_list_of_verbs_says_what_each_verb_says_of_itself() -> None:
    context = click.Context(state)
    for name, verb in VERBS.items():
        command = state.get_command(context, name)
        assert command is not None
        text = " ".join((command.help or "").split())
        assert text.startswith(verb.help[:22]), name
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--json", "--quiet"} <= options, name


def test_readme_names_every_verb() -> None:
    (row,) = [line for line in (ROOT / "README.md").read_text().splitlines() if "`iii-skill state …`" in line]
    assert {name for name in VERBS if f"`{name}`" not in row} == set()
