"""Cron expressions: what is accepted, what is said of the rest, and the next moment."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from iii_cron.expression import CronExpression, InvalidExpression

START = datetime(2026, 11, 29, 13, 6, 21, 500_000, tzinfo=UTC)


def moments(text: str, count: int, start: datetime = START) -> list[str]:
    expression, found = CronExpression(text), []
    for _ in range(count):
        moment = expression.after(start)
        if moment is None:
            break
        found.append(f"{moment:%Y-%m-%d %H:%M:%S}")
        start = moment
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * * *", ["2026-11-29 13:06:22", "2026-11-29 13:06:23"]),
        ("*/20 * * * * *", ["2026-11-29 13:06:40", "2026-11-29 13:07:00"]),
        ("5/20 * * * * *", ["2026-11-29 13:06:25", "2026-11-29 13:06:45"]),
        ("0 0 9 * * 2-6", ["2026-11-30 09:00:00", "2026-12-01 09:00:00"]),
        ("0 0 9 * * MON-FRI *", ["2026-11-30 09:00:00", "2026-12-01 09:00:00"]),
        ("0 0 0 * * 1", ["2026-12-06 00:00:00", "2026-12-13 00:00:00"]),
        ("0 0 0 13 * Friday", ["2027-08-13 00:00:00", "2028-10-13 00:00:00"]),
        ("0 0 0 31 * *", ["2026-12-31 00:00:00", "2027-01-31 00:00:00", "2027-03-31 00:00:00"]),
        ("0 0 0 29 2 ?", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("@daily", ["2026-11-30 00:00:00", "2026-12-01 00:00:00"]),
        ("@weekly", ["2026-12-06 00:00:00"]),
        ("30 59 23 31 12 * 2099-2100", ["2099-12-31 23:59:30", "2100-12-31 23:59:30"]),
        ("0 0 0 30 2 *", []),
        ("0 0 0 1 1 * 2020", []),
        ("22 6 13 29 11 *", ["2026-11-29 13:06:22", "2027-11-29 13:06:22"]),
        ("21 6 13 29 11 *", ["2027-11-29 13:06:21"]),
    ],
)
def test_the_next_moments(text: str, expected: list[str]) -> None:
    assert moments(text, max(len(expected), 1)) == expected


@pytest.mark.parametrize(
    ("text", "column", "detail"),
    [
        ("60 * * * * *", 0, "Seconds must be less than 59. ('60' specified.)"),
        ("0 0 0 0 * *", 6, "Days of Month must be greater than or equal to 1. ('0' specified.)"),
        ("0 0 0 * * 5-1", 10, "Invalid range for Days of Week: 5-1"),
        ("*/0 * * * * *", 0, "range step cannot be zero"),
        ("5/70 * * * * *", 0, "Seconds must be between 1 and 59. ('70' specified.)"),
        ("0 0 9 * FOO *", 8, "'FOO' is not a valid month name."),
        ("0 0 9 * * MO", 10, "'MO' is not a valid day of the week."),
        ("0 0 9 L * *", 6, "The 'Days of Month' field does not support using names. 'L' specified."),
        ("0 0 9 * * 5L", 11, ""),
        ("0 0 9 * * MON/2", 13, ""),
        ("? * * * * *", 0, ""),
        ("0 0 0 1 1 * 1969", 12, ""),
        ("0 0 0 1 1 * 2030 7", 17, ""),
        ("0 0 0 99999999999999999999 1 *", 6, ""),
        ("@midnight", 0, ""),
        ("* * *", 5, ""),
        ("1,,2 * * * * *", 2, ""),
        ("*/ * * * * *", 2, ""),
    ],
)
def test_what_is_wrong_and_where(text: str, column: int, detail: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        CronExpression(text)
    assert str(caught.value) == f"Invalid cron expression '{text}': {text}\n{' ' * column}^\n{detail}"


@pytest.mark.parametrize(
    ("five", "six"),
    [
        ("*/5 * * * *", "0 */5 * * * *"),
        ("0 9 * * 1-5", "0 0 9 * * 2-6"),
        ("0 0 * * 0", "0 0 0 * * 1"),
        ("0 0 * * 7", "0 0 0 * * 1"),
        ("0 0 * * */2", "0 0 0 * * */2"),
        ("0 0 * * MON", "0 0 0 * * MON"),
    ],
)
def test_five_fields_are_told_the_six_to_write(five: str, six: str) -> None:
    with pytest.raises(InvalidExpression, match="Six fields are needed") as caught:
        CronExpression(five)
    assert str(caught.value).endswith(f"as in '{six}'.")
    CronExpression(six)


def test_an_endless_expression_is_refused_quickly() -> None:
    with pytest.raises(InvalidExpression, match="1000 are allowed"):
        CronExpression("0," * 1_000_000 + "0 * * * * *")


def test_the_next_moment_is_what_a_search_second_by_second_finds() -> None:
    """Random expressions of everything that the grammar has, against the rules applied to each second."""
    chosen = random.Random(7)

    def field(low: int, high: int) -> tuple[str, set[int]]:
        kind = chosen.choice(["*", "n", "range", "step", "list", "range/step"])
        first, second = sorted((chosen.randint(low, high), chosen.randint(low, high)))
        step = chosen.randint(1, 5)
        return {
            "*": ("*", set(range(low, high + 1))),
            "n": (str(first), {first}),
            "range": (f"{first}-{second}", set(range(first, second + 1))),
            "step": (f"{first}/{step}", set(range(first, high + 1, step))),
            "list": (f"{first},{second}", {first, second}),
            "range/step": (f"{first}-{second}/{step}", set(range(first, second + 1, step))),
        }[kind]

    for _ in range(60):
        parts = [field(*bounds) for bounds in ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (1, 7))]
        text = " ".join(part for part, _ in parts)
        seconds, minutes, hours, days, months, weekdays = (values for _, values in parts)
        start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=chosen.randint(0, 86_400 * 300))
        expected, moment = None, start.replace(microsecond=0) + timedelta(seconds=1)
        end = start + timedelta(days=500)
        while moment < end:
            if (
                moment.month not in months
                or moment.day not in days
                or moment.isoweekday() % 7 + 1 not in weekdays
            ):
                moment = moment.replace(hour=0, minute=0, second=0) + timedelta(days=1)
            elif moment.hour not in hours:
                moment = moment.replace(minute=0, second=0) + timedelta(hours=1)
            elif moment.minute not in minutes:
                moment = moment.replace(second=0) + timedelta(minutes=1)
            elif moment.second not in seconds:
                moment += timedelta(seconds=1)
            else:
                expected = moment
                break
        found = CronExpression(text).after(start)
        if expected is None:
            assert found is None or found >= end, text
        else:
            assert found == expected, text
