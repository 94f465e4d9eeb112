"""The headers that let browsers of other origins read an answer, computed once per configuration."""

from __future__ import annotations

from typing import TypeAlias

from iii_skill.config import Cors

Headers: TypeAlias = list[tuple[bytes, bytes]]

ALLOW_ORIGIN = b"access-control-allow-origin"
VARY = (b"vary", b"origin, access-control-request-method, access-control-request-headers")


class CorsPolicy:
    """What a `cors` section means: none at all is permissive, a list of origins is exact."""

    def __init__(self, cors: Cors | None) -> None:
        origins = None if cors is None else cors.allowed_origins
        self._origins = None if not origins or "*" in origins else frozenset(origins)
        methods = ",".join(cors.allowed_methods) if cors is not None and cors.allowed_methods else "*"
        self._expose: Headers = [(b"access-control-expose-headers", b"*")] if cors is None else []
        self._preflight: Headers = [
            (b"access-control-allow-methods", methods.encode()),
            (b"access-control-allow-headers", b"*"),
        ]
        self._any: Headers = [VARY, (ALLOW_ORIGIN, b"*"), *self._expose]

    def headers(self, origin: str | None) -> Headers:
        """The headers of every answer but 504 and 400."""
        return self._any if self._origins is None else [*self._origin(origin), *self._expose]

    def preflight(self, origin: str | None) -> Headers:
        """The headers of the answer to OPTIONS, which never reaches a function."""
        return [*self._origin(origin), *self._preflight]

    def _origin(self, origin: str | None) -> Headers:
        if self._origins is None:
            return [VARY, (ALLOW_ORIGIN, b"*")]
        if origin is not None and origin in self._origins:
            return [VARY, (ALLOW_ORIGIN, origin.encode("latin-1"))]
        return [VARY]
