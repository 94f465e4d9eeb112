"""What can go wrong when a project is written; every class carries the exit code of the command."""

from __future__ import annotations

from iii_skill.errors import IiiSkillError


class ScaffoldError(IiiSkillError):
    """Base of all of them. `exit_code` is what the command line ends with."""

    exit_code = 1


class AnswerError(ScaffoldError):
    """An answer is missing or not valid; the message names the option that takes it."""

    exit_code = 2


class Conflict(ScaffoldError):
    """Files of the user are in the way; nothing was written."""

    exit_code = 3


class UnsafePath(ScaffoldError):
    """A path leaves the destination; nothing was written."""

    exit_code = 4


class TemplateError(ScaffoldError):
    """The template is unknown, or is not written as a template has to be."""

    exit_code = 5


class WriteFailed(ScaffoldError):
    """The disk refused; nothing was left behind and nothing of the user's was changed."""

    exit_code = 6

    @classmethod
    def of(cls, error: OSError, place: object) -> WriteFailed:
        """What the disk said, and about which file; `place` when it names none."""
        return cls(f"Nothing was written: {error.strerror or error} ({error.filename or place}).")


class ReportLost(ScaffoldError):
    """Everything was written, but stdout did not take the report of it."""

    exit_code = 6
