"""The headers that let browsers of other origins read an answer, encoded once per configuration."""

from __future__ import annotations

import msgspec

from iii_skill.config import Cors

ALLOW_ORIGIN = b"access-control-allow-origin"
VARY = b"vary: origin, access-control-request-method, access-control-request-headers\r\n"


class CorsHeaders(msgspec.Struct, frozen=True):
    """Header lines as they go over the wire. `sets_origin`: they overwrite what a function says."""

    lines: bytes
    sets_origin: bool


NO_CORS = CorsHeaders(b"", sets_origin=False)


class CorsPolicy:
    """What a `cors` section means: none at all is permissive, a list of origins is exact."""

    def __init__(self, cors: Cors | None) -> None:
        origins = None if cors is None else cors.allowed_origins
        self._origins = None if not origins or "*" in origins else frozenset(origins)
        methods = ",".join(cors.allowed_methods) if cors is not None and cors.allowed_methods else "*"
        self._expose = b"access-control-expose-headers: *\r\n" if cors is None else b""
        self._preflight = (
            b"access-control-allow-methods: %b\r\naccess-control-allow-headers: *\r\n" % methods.encode()
        )
        self._any = CorsHeaders(self._origin(None) + self._expose, sets_origin=True)

    def headers(self, origin: str | None) -> CorsHeaders:
        """The headers of every answer but 504 and 400."""
        if self._origins is None:
            return self._any
        return CorsHeaders(self._origin(origin) + self._expose, sets_origin=origin in self._origins)

    def preflight(self, origin: str | None) -> CorsHeaders:
        """The headers of the answer to OPTIONS, which never reaches a function."""
        return CorsHeaders(self._origin(origin) + self._preflight, sets_origin=True)

    def _origin(self, origin: str | None) -> bytes:
        if self._origins is None:
            return VARY + ALLOW_ORIGIN + b": *\r\n"
        if origin is not None and origin in self._origins:
            return VARY + b"%b: %b\r\n" % (ALLOW_ORIGIN, origin.encode("latin-1"))
        return VARY
