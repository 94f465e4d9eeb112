"""Answers: from what the user gave, and the template's defaults, to a checked value for every question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from iii_skill.scaffold.errors import AnswerError
from iii_skill.scaffold.questions import Field, Question
from iii_skill.scaffold.render import Renderer


class Person(Protocol):
    """Somebody at a terminal."""

    def ask(self, question: Question, default: str | bool | None) -> object:
        """The person's answer."""

    def object_to(self, message: str) -> None:
        """Tell what is wrong with the answer; the question comes again."""


def resolve(
    renderer: Renderer, given: Mapping[str, object], *, destination: str, person: Person | None = None
) -> dict[str, Any]:
    """A checked value for every question, in order; a `person` is asked for those not given.

    AnswerError names the option of a missing or wrong answer. Answers may build on earlier ones.
    """
    template = renderer.template
    if unknown := sorted(set(given) - set(template.questions)):
        known = ", ".join(template.questions)
        raise AnswerError(f"Template '{template.name}' has no question '{unknown[0]}'; it asks for {known}.")
    answers: dict[str, Any] = {}
    for name, question in template.questions.items():
        if question.when is not None and not renderer.evaluate(question.when, answers):
            answers[name] = None
            continue
        answers[name] = _answer(renderer, question, given, {**answers, "destination": destination}, person)
    context = {**answers}
    for check in template.checks:
        if not renderer.evaluate(check.test, context):
            raise AnswerError(f"{template.questions[check.option].option}: {check.message}")
    return answers


def _answer(
    renderer: Renderer,
    question: Question,
    given: Mapping[str, object],
    known: Mapping[str, Any],
    person: Person | None,
) -> Any:
    fields: tuple[Field, ...] = known.get("fields") or ()
    if question.type == "field" and not question.fitting(fields):
        raise AnswerError(
            f"--fields: {question.option} needs a field of type {' or '.join(question.wanted)}; "
            "add one, or leave out the operation that uses it."
        )
    if question.name in given and given[question.name] is not None:
        return question.parse(given[question.name], renderer.template.language, fields)
    default = question.default
    if isinstance(default, str):
        default = renderer.fill(default, known)
    offered = default if _fits(question, default, renderer.template.language, fields) else None
    while person is not None:
        try:
            return question.parse(person.ask(question, offered), renderer.template.language, fields)
        except AnswerError as error:
            person.object_to(error.message)
    if default is None:
        raise AnswerError(f"An answer is missing: give {question.option} ({question.help})")
    try:
        return question.parse(default, renderer.template.language, fields)
    except AnswerError as error:
        raise AnswerError(
            f"An answer is missing: give {question.option}; its default does not fit. {error.message}"
        ) from None


def _fits(question: Question, default: str | bool | None, language: str, fields: tuple[Field, ...]) -> bool:
    try:
        question.parse(default, language, fields)
    except AnswerError:
        return False
    return True


def plain(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers as a TOML file holds them; `resolve` reads them back to the same values."""
    return {name: _plain(value) for name, value in answers.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        parts = [str(part) for part in value]
        return ",".join(parts) if value and isinstance(value[0], Field) else parts
    return value
