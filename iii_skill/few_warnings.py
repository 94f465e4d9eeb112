"""Warnings about what others do: once for each subject, a bounded number of them, each of bounded length."""

from __future__ import annotations

import logging

MAX_TEXT = 200


class FewWarnings:
    """One logger's warnings of one kind. What is remembered of a subject is its beginning."""

    def __init__(self, logger: logging.Logger, kind: str, *, limit: int = 100) -> None:
        self._logger = logger
        self._kind = kind
        self._limit = limit
        self._warned: set[str] = set()

    def warn(self, subject: str, message: str, *values: str, traceparent: str | None = None) -> None:
        """Log the message, with the beginnings of the values, unless the subject was warned of before.

        `traceparent` is that of the call which the warning is about.
        """
        subject = subject[:MAX_TEXT]
        if subject in self._warned or len(self._warned) > self._limit:
            return
        self._warned.add(subject)
        if len(self._warned) > self._limit:
            self._logger.warning("there are more warnings about %s; they are not logged any more", self._kind)
        else:
            self._logger.warning(message, *map(one_line, values), extra={"traceparent": traceparent})


def one_line(text: str) -> str:
    """The beginning of a text of somebody else, so that it cannot forge a line of its own."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_TEXT])
