"""The CORS headers of each configuration."""

from __future__ import annotations

import pytest

from iii_skill.config import Cors
from iii_skill.http.cors import CorsPolicy

VARY = ("vary", "origin, access-control-request-method, access-control-request-headers")
STAR = ("access-control-allow-origin", "*")
A = "https://a.example"
ECHO = ("access-control-allow-origin", A)


def listed(*origins: str, methods: tuple[str, ...] | None = None) -> Cors:
    return Cors(allowed_origins=origins, allowed_methods=methods)


@pytest.mark.parametrize(
    ("cors", "origin", "expected"),
    [
        (None, None, [VARY, STAR, ("access-control-expose-headers", "*")]),
        (None, A, [VARY, STAR, ("access-control-expose-headers", "*")]),
        (Cors(), A, [VARY, STAR]),
        (listed("*"), A, [VARY, STAR]),
        (listed(A, "*"), None, [VARY, STAR]),
        (listed(A), A, [VARY, ECHO]),
        (listed(A), "https://b.example", [VARY]),
        (listed(A), None, [VARY]),
    ],
)
def test_headers_of_an_answer(cors: Cors | None, origin: str | None, expected: list[tuple[str, str]]) -> None:
    assert CorsPolicy(cors).headers(origin).lines == encoded(expected)


@pytest.mark.parametrize(
    ("cors", "origin", "allow_origin", "methods"),
    [
        (None, A, [STAR], "*"),
        (Cors(), A, [STAR], "*"),
        (listed("*", methods=("get", "POST")), A, [STAR], "get,POST"),
        (listed(A, methods=("GET",)), A, [ECHO], "GET"),
        (listed(A), "https://b.example", [], "*"),
    ],
)
def test_headers_of_a_preflight(
    cors: Cors | None, origin: str, allow_origin: list[tuple[str, str]], methods: str
) -> None:
    assert CorsPolicy(cors).preflight(origin).lines == encoded(
        [
            VARY,
            *allow_origin,
            ("access-control-allow-methods", methods),
            ("access-control-allow-headers", "*"),
        ]
    )


def encoded(pairs: list[tuple[str, str]]) -> bytes:
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in pairs)
