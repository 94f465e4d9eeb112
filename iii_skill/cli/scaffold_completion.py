"""What a shell offers after `iii-skill scaffold`: templates, the word `update`, then directories."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The first word is a template of ours or `update`; plugins are not loaded for a key stroke."""
    if context.params.get("arguments"):
        return [CompletionItem(incomplete, type="dir")]
    from iii_skill.scaffold.catalog import bundled_templates

    words = {template.name: template.description for template in bundled_templates()}
    words["update"] = "Bring the newest template, or other answers, into a project."
    return [CompletionItem(word, help=text) for word, text in words.items() if word.startswith(incomplete)]
