"""`iii-skill state expire`: over a host and on a store that is opened in place."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from support.host import running_host

from iii_skill.cli.state.expiry import duration_ms, moment_ms, said


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("250ms", 250),
        ("90s", 90_000),
        ("1.5h", 5_400_000),
        ("1d12h", 129_600_000),
        ("0s", 1),
        ("2w", 1_209_600_000),
    ],
)
def test_durations(text: str, ms: int) -> None:
    assert duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "-5s", "5 s", "1y", "s", "5s!", "1e3s", "9" * 400 + "w"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.UsageError):
        duration_ms(text)


def test_moments() -> None:
    assert moment_ms("1764504000000") == 1_764_504_000_000
    assert moment_ms("2025-11-30T12:00:00Z") == 1_764_504_000_000
    assert moment_ms("2025-11-30T13:00:00+01:00") == 1_764_504_000_000
    assert said(1_764_504_000_123) == "2025-11-30T12:00:00.123Z"
    assert said(2**53 - 1) == "9007199254740991 ms after 1970"
    for text in ("soon", "2025-13-01", "٣", "9" * 17, ""):
        with pytest.raises(click.UsageError):
            moment_ms(text)


def command(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "iii_skill", "state", *words]
    return subprocess.run(line, cwd=place, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("offline", [False, True], ids=["host", "store"])
def test_a_key_is_given_an_end_and_ends(tmp_path: Path, *, offline: bool) -> None:
    store = ["--data-dir", str(tmp_path / "data")]

    def state(code: int, *words: str) -> str:
        done = command(tmp_path, *words, *store)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def look() -> None:
        assert "no key" in state(3, "expire", "s", "k", "5m")
        state(0, "set", "s", "k", "1")
        assert state(0, "expire", "s", "k") == "never\n"
        before = time.time() * 1000
        told = json.loads(state(0, "expire", "s", "k", "5m", "--json"))
        assert before + 300_000 <= told["expires_at_ms"] <= time.time() * 1000 + 300_000
        assert state(0, "expire", "s", "k", "--at", "2100-01-01T00:00:00Z") == "2100-01-01T00:00:00.000Z\n"
        assert state(0, "expire", "s", "k", "--clear") == "never\n"
        assert "one of" in state(2, "expire", "s", "k", "5m", "--clear")
        assert "no duration" in state(2, "expire", "s", "k", "soon")
        state(0, "expire", "s", "k", "1ms")
        assert "no key" in state(3, "get", "s", "k")

    if offline:
        look()
    else:
        with running_host(tmp_path, *store) as host:
            store = ["--url", host.ws]
            look()
