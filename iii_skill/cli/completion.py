"""`iii-skill completion SHELL`: the script that makes a shell complete verbs, options, scopes and keys."""

from __future__ import annotations

import os
import re
from typing import ClassVar

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

VARIABLE = "_III_SKILL_COMPLETE"
"""What click listens to; the scripts set it."""

_SPECIAL, _ESCAPED = re.compile(r"([^\w@%+:=,./-])", re.ASCII), r"\\\1"

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value
    response=$(env COMP_LINE="${COMP_LINE:0:$COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
%(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            *) COMPREPLY+=("$value") ;;
        esac
    done
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@add_completion_class
class Bash(BashComplete):
    """Bash ends a word at `:` and `=`: only what follows the last of them is given back to it."""

    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one under the cursor, and that one as far as it was typed."""
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        breaks = re.escape("".join(set(os.environ.get("COMP_WORDBREAKS", "")) & set(":=")))
        found = re.match(f".*[{breaks}]", incomplete) if breaks else None
        self._typed = found.group() if found else ""
        return words, incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        """The type and what is to stand in the line, with what a shell would read otherwise escaped."""
        rest = item.value.removeprefix(self._typed)
        return f"{item.type},{_SPECIAL.sub(_ESCAPED, rest)}"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script for a shell: `eval "$(iii-skill completion bash)"` in ~/.bashrc."""
    found = get_completion_class(shell)
    assert found is not None
    root = click.get_current_context().find_root()
    complete = found(root.command, {}, "iii-skill", VARIABLE)
    click.echo(complete.source_template % complete.source_vars())
