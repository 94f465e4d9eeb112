"""A file that is too large, too deep, or stands for too much is refused in bounded time."""

from __future__ import annotations

from pathlib import Path

import pytest

from iii_skill.config import load_config
from iii_skill.config.text import MAX_BYTES, MAX_DEPTH
from iii_skill.errors import ConfigurationError
from iii_skill.placeholders import scalar

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
KEYED_BOMB = "a0: &a0 {k: x}\n" + "".join(
    f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 60)
)

TOO_MUCH = {
    "bytes": ("# " + "x" * MAX_BYTES, "is larger than 1048576 bytes"),
    "flow depth": ("[" * 500_000, "exceeded maximum nesting depth"),
    "mapping depth": ("{a: " * 200_000, f"line 1: nested deeper than {MAX_DEPTH} levels"),
    "block depth": ("".join(" " * n + f"k{n}:\n" for n in range(1000)), "line 65: nested deeper than"),
    "aliases": (BOMB, "line 14: too many values"),
    "aliases in mappings": (KEYED_BOMB, "too many values"),
    "values": ("- 1\n" * 200_000, "too many values"),
    "open placeholders": ("${" * 400_000 + "}", "is not set and has no default"),
    "named placeholders": ("${A:" * 200_000 + "}", "mapping values are not allowed"),
    "colons": ("a: '${" + "b:" * 400_000 + "'", "unknown key 'a'"),
    "filled in": ("a: " + "${LONG}" * 100_000, "is too large with its placeholders filled in"),
    "an odd number": ("port: " + "9" * 100_000, "no usable YAML"),
    "a long key": ("? " + "x" * 100_000 + "\n: 1", "unknown key 'x"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("text", "message"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_it_is_refused_with_a_short_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "iii-config.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_config(path, {"LONG": "x" * 1000})
    assert message in caught.value.message
    assert len(caught.value.message) < 400


def test_anchors_are_fine_as_long_as_they_stand_for_little(tmp_path: Path) -> None:
    path = tmp_path / "iii-config.yaml"
    path.write_text(
        "workers:\n"
        "  - {name: iii-http, config: {cors: &cors {allowed_methods: [GET]}, host: &host 127.0.0.2}}\n"
        "  - {name: iii-worker-manager, config: {host: *host}}\n"
    )
    config = load_config(path, {})
    assert config.worker.host == "127.0.0.2"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        (" 7 ", 7),
        ("-0.5", -0.5),
        ("TRUE", True),
        ("false", False),
        ("yes", "yes"),
        ("0x1f", "0x1f"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
        ("*a", "*a"),
        ("[1]", "[1]"),
        ("7 # seven", "7 # seven"),
    ],
)
def test_a_text_becomes_a_plain_scalar_or_stays(text: str, value: object) -> None:
    found = scalar(text)
    assert (found, type(found)) == (value, type(value))
