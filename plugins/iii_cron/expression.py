"""A cron expression: its fields, what is wrong with it in the engine's words, and when it fires next.

`sec min hour day month weekday [year]`, always UTC. Weekdays are 1 (Sunday) to 7. When day and weekday are
both given, both must match. Reading goes on from character to character: a field ends where its grammar ends,
and blanks between fields are allowed, not required. A wrong value is told at the start of its field; anything
else where reading stopped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import msgspec

MAX_LENGTH = 1_000
"""Characters of an expression, at most."""


class InvalidExpression(ValueError):
    """The text is no expression; the message draws where."""


class CronField(msgspec.Struct, frozen=True):
    """One field: its name in messages, its bounds, and the names of its values."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    kind: str = ""
    """What its names are called in messages."""
    any_day: bool = False
    """True where `?` stands for `*`."""


_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")

FIELDS = (
    CronField("Seconds", 0, 59),
    CronField("Minutes", 0, 59),
    CronField("Hours", 0, 23),
    CronField("Days of Month", 1, 31, any_day=True),
    CronField("Months", 1, 12, _MONTHS, "month"),
    CronField("Days of Week", 1, 7, _DAYS, "day of the week", any_day=True),
    CronField("Years", 1970, 2100),
)
_YEARS = FIELDS[6]

SHORTHANDS = {
    "@yearly": "0 0 0 1 1 * *",
    "@monthly": "0 0 0 1 * * *",
    "@weekly": "0 0 0 * * 1 *",
    "@daily": "0 0 0 * * * *",
    "@hourly": "0 0 * * * * *",
}

_BLANKS = " \t\r\n"
_NUMBER = re.compile(r"[0-9]+")
_NAME = re.compile(r"[A-Za-z]+")


class _WrongValue(Exception):
    """A value that its field does not have; the argument is the detail of the message."""


class _Stopped(Exception):
    """Nothing that the grammar knows stands here; the argument is the position."""


class CronExpression:
    """The values of each field."""

    def __init__(self, text: str) -> None:
        """Read `text`; InvalidExpression says where it goes wrong."""
        if len(text) > MAX_LENGTH:
            raise InvalidExpression(
                f"Invalid cron expression: it has {len(text)} characters, {MAX_LENGTH} are allowed"
            )
        self.text = text
        reader = _Reader(text, SHORTHANDS.get(text.strip(_BLANKS)) or text)
        seconds, minutes, hours, days, months, weekdays, years = reader.fields()
        self._seconds, self._minutes, self._hours = seconds, minutes, hours
        self._days, self._months, self._years = set(days), set(months), years
        # Monday is 0 for a date, Sunday is 1 in an expression.
        self._weekdays = {(day - 2) % 7 for day in weekdays}

    def after(self, moment: datetime) -> datetime | None:
        """The first second after `moment` (UTC) that matches, or None when there is none any more."""
        start = moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        day, early = start.date(), (start.hour, start.minute, start.second)
        for year in self._years:
            if year < day.year:
                continue
            for month in sorted(self._months):
                if (year, month) < (day.year, day.month):
                    continue
                for number in range(1, 32):
                    if number not in self._days or (year, month, number) < (day.year, day.month, day.day):
                        continue
                    try:
                        found = datetime(year, month, number, tzinfo=UTC)
                    except ValueError:  # The month is shorter.
                        break
                    if found.weekday() not in self._weekdays:
                        continue
                    time = self._time(early if found.date() == day else (0, 0, 0))
                    if time is not None:
                        return found.replace(hour=time[0], minute=time[1], second=time[2])
        return None

    def _time(self, early: tuple[int, int, int]) -> tuple[int, int, int] | None:
        """The first time of a day that matches and is not before `early`."""
        for hour in self._hours:
            if hour < early[0]:
                continue
            for minute in self._minutes:
                if (hour, minute) < early[:2]:
                    continue
                for second in self._seconds:
                    if (hour, minute, second) >= early:
                        return hour, minute, second
        return None


class _Reader:
    """Reads one text; `shown` is what messages quote."""

    def __init__(self, shown: str, text: str) -> None:
        self._shown = shown
        self._text = text
        self._at = 0

    def fields(self) -> list[Sequence[int]]:
        """The sorted values of all seven fields."""
        found: list[Sequence[int]] = []
        for field in FIELDS[:6]:
            self._skip_blanks()
            start = self._at
            try:
                found.append(self._field(field))
            except _WrongValue as wrong:
                self._fail(start, str(wrong))
            except _Stopped as stopped:
                self._fail(int(str(stopped)))
        self._skip_blanks()
        start = self._at
        years: Sequence[int] = range(_YEARS.low, _YEARS.high + 1)
        if start < len(self._text):
            # The year may be left out: whatever is no year is told as text behind the end.
            try:
                years = self._field(_YEARS)
            except (_WrongValue, _Stopped):
                self._fail(start)
            self._skip_blanks()
        if self._at < len(self._text):
            self._fail(self._at)
        return [*found, years]

    def _field(self, field: CronField) -> Sequence[int]:
        """A list of values, ranges and steps, separated by commas."""
        values: set[int] = set()
        while True:
            values |= self._part(field)
            if self._peek() != ",":
                return sorted(values)
            self._at += 1

    def _part(self, field: CronField) -> set[int]:
        if self._peek() == "*" or (self._peek() == "?" and field.any_day):
            steps_allowed = self._peek() == "*"
            self._at += 1
            return self._stepped(field, field.low, field.high) if steps_allowed else set(_span(field))
        low, named = self._value(field)
        if self._peek() == "-":
            self._at += 1
            high, _ = self._value(field)
            _check(field, low)
            _check(field, high)
            if low > high:
                raise _WrongValue(f"Invalid range for {field.name}: {low}-{high}")
            return self._stepped(field, low, high)
        _check(field, low)
        if self._peek() == "/" and not named:
            return self._stepped(field, low, field.high)
        return {low}

    def _stepped(self, field: CronField, low: int, high: int) -> set[int]:
        """The range, or every n-th of it when `/n` follows."""
        if self._peek() != "/":
            return set(range(low, high + 1))
        self._at += 1
        step = self._number()
        if step == 0:
            raise _WrongValue("range step cannot be zero")
        if step > field.high:
            raise _WrongValue(f"{field.name} must be between 1 and {field.high}. ('{step}' specified.)")
        return set(range(low, high + 1, step))

    def _value(self, field: CronField) -> tuple[int, bool]:
        """A number, or the number of a name and True."""
        name = _NAME.match(self._text, self._at)
        if name is None:
            return self._number(), False
        given = name.group()
        if not field.names:
            raise _WrongValue(f"The '{field.name}' field does not support using names. '{given}' specified.")
        for number, known in enumerate(field.names, field.low):
            if given.lower() in (known, known[:3]):
                self._at = name.end()
                return number, True
        raise _WrongValue(f"'{given}' is not a valid {field.kind}{' name' if field.kind == 'month' else ''}.")

    def _number(self) -> int:
        number = _NUMBER.match(self._text, self._at)
        if number is None or len(number.group().lstrip("0")) > 9:
            raise _Stopped(self._at)
        self._at = number.end()
        return int(number.group())

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_blanks(self) -> None:
        while self._peek() and self._peek() in _BLANKS:
            self._at += 1

    def _fail(self, column: int, detail: str = "") -> NoReturn:
        shown = self._shown
        text = f"Invalid cron expression '{shown}': {shown}\n{' ' * column}^\n{detail}"
        six = _six(shown)
        if six is not None:
            text += (
                f"{' ' * bool(detail)}Six fields are needed: seconds come first, Sunday is 1, as in '{six}'."
            )
        raise InvalidExpression(text)


def _six(text: str) -> str | None:
    """The five fields of crontab, whose Sunday is 0, as six; None for what is no such text."""
    if len(text.split()) != 5:
        return None
    *others, weekday = text.split()
    shifted = re.sub(r"(?<![0-9/])[0-7](?![0-9])", lambda day: str(int(day[0]) % 7 + 1), weekday)
    six = " ".join(["0", *others, shifted])
    try:
        CronExpression(six)
    except InvalidExpression:
        return None
    return six


def _span(field: CronField) -> range:
    return range(field.low, field.high + 1)


def _check(field: CronField, value: int) -> None:
    if value < field.low:
        raise _WrongValue(
            f"{field.name} must be greater than or equal to {field.low}. ('{value}' specified.)"
        )
    if value > field.high:
        raise _WrongValue(f"{field.name} must be less than {field.high}. ('{value}' specified.)")
