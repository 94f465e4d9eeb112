"""The files of the page, read once, with the headers that all answers of a console have."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

from iii_skill.http.response import HeaderList, Response

POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)
"""What the page may do: load its own files, and ask its own port."""

GUARDED: HeaderList = [
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
}


def page_files() -> dict[str, Response]:
    """By path what is answered for it."""
    found: dict[str, Response] = {}

    def collect(folder: Traversable, path: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                collect(entry, f"{path}{entry.name}/")
                continue
            content_type = _TYPES.get(entry.name[entry.name.rfind(".") :])
            if content_type is not None:
                headers = [(b"content-type", content_type), *GUARDED]
                found[path + entry.name] = Response(200, headers, entry.read_bytes())

    collect(files("iii_skill.console").joinpath("static"), "/")
    found["/"] = found.pop("/index.html")
    return found
