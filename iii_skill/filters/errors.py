"""Why a filter is refused: what it says, or where its paths lead."""

from __future__ import annotations

from iii_skill.errors import CallerError


class InvalidFilter(CallerError):
    """The filter is none of the language."""

    code = "INVALID_FILTER"


class InvalidFilterPath(CallerError):
    """A path of the filter leads out of a closed schema of the source."""

    code = "INVALID_FILTER_PATH"
