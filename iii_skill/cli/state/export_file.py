"""The file that `export` writes and `import` reads: scopes as lines of JSON, exact to the byte.

The first line says what follows, then one line a key, the last one counts and sums:
`{"format":"iii-state/1"}`, `{"scope":...,"key":...,"value":...}`, `{"end":true,"count":N,"sha256":...}`.
The first line of a past moment says which: `"at":...` as it was asked for, `"revision":"N"` of the store, and
`"partial":true` where keys may have been left out.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import os
import shutil
import sys
import tempfile
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from iii_skill.cli.exit_codes import FAILED, USAGE
from iii_skill.cli.reach import Stopped
from iii_skill.cli.state.values import encode_text

_FORMAT = "iii-state/1"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a line raises that is damaged, or was never one of an export."""


class ExportHead(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The first line: the format, and which past moment the file is of, if it is of one."""

    format: str
    at: str | None = None
    revision: str | int | None = None
    partial: bool = False


class ExportRow(msgspec.Struct, frozen=True, gc=False):
    """One key."""

    scope: str
    key: str
    value: msgspec.Raw


class Content(msgspec.Struct, frozen=True):
    """What a file was found to hold."""

    count: int
    scopes: list[str]


class ExportEnd(msgspec.Struct, frozen=True):
    """The last line: what was written before it."""

    end: bool
    count: int
    sha256: str


_head = msgspec.json.Decoder(ExportHead).decode
_end = msgspec.json.Decoder(ExportEnd).decode
_row = msgspec.json.Decoder(ExportRow).decode
_encode = msgspec.json.Encoder().encode


class ExportWriter:
    """Writes the lines of an export."""

    def __init__(
        self, file: IO[bytes], *, at: str | None = None, revision: str | None = None, partial: bool = False
    ) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.count = 0
        file.write(_encode(ExportHead(_FORMAT, at, revision, partial)) + b"\n")

    def row(self, scope: str, key: str, value: bytes) -> None:
        """One key."""
        line = _encode(ExportRow(scope, key, msgspec.Raw(value))) + b"\n"
        self._digest.update(line)
        self._file.write(line)
        self.count += 1

    def end(self) -> None:
        """The last line."""
        self._file.write(_encode(ExportEnd(True, self.count, self._digest.hexdigest())) + b"\n")


def check(file: Path) -> Content:
    """Read the whole file; Stopped names the line that is wrong, or a key that is there twice.

    It takes memory for a number a key, not for its name: a file may hold millions.
    """
    scopes: dict[str, None] = {}
    marks = array("Q")
    for row in rows(file):
        scopes[row.scope] = None
        marks.append(_mark(row))
    twice = _repeated(marks)
    if twice:
        seen: set[tuple[str, str]] = set()
        for row in rows(file):
            if _mark(row) in twice:
                if (row.scope, row.key) in seen:
                    raise Stopped(USAGE, f"{file}: key {encode_text(row.key)} is there twice.")
                seen.add((row.scope, row.key))
    return Content(len(marks), list(scopes))


def _is_head(line: bytes) -> bool:
    try:
        return _head(line).format == _FORMAT
    except UNREADABLE:
        return False


def _mark(row: ExportRow) -> int:
    name = _encode((row.scope, row.key))
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest())


def _repeated(marks: array[int]) -> set[int]:
    found = sorted(marks)
    return {one for one, other in itertools.pairwise(found) if one == other}


def rows(file: Path) -> Iterator[ExportRow]:
    """The rows of an export; Stopped unless it is whole and unchanged."""
    digest, count, ended = hashlib.sha256(), 0, False
    with _source(file) as lines:
        try:
            for number, line in enumerate(lines, 1):
                if number == 1:
                    if not _is_head(line):
                        raise Stopped(USAGE, f"{file} was not written by `iii-skill state export`.")
                    continue
                if ended:
                    raise Stopped(USAGE, f"{file}: line {number} comes after the end.")
                if line.startswith(b'{"end":'):
                    try:
                        trailer = _end(line)
                    except UNREADABLE:
                        raise Stopped(USAGE, f"{file} is not whole: its last line is cut off.") from None
                    ended = True
                    if trailer.count != count or trailer.sha256 != digest.hexdigest():
                        raise Stopped(USAGE, f"{file} was changed or is not whole: its sum does not fit.")
                    continue
                digest.update(line)
                count += 1
                try:
                    row = _row(line)
                except UNREADABLE as error:
                    raise Stopped(USAGE, f"{file}: line {number} is no row: {error}.") from None
                yield row
        except (EOFError, OSError, zlib.error) as error:
            raise Stopped(USAGE, f"{file} cannot be read to its end: {error}.") from None
    if not ended:
        raise Stopped(USAGE, f"{file} is not whole: its last line is missing.")


@contextlib.contextmanager
def readable_twice(file: Path) -> Iterator[Path]:
    """The file itself; of stdin (`-`) or a pipe, which can be read once, a copy that goes away."""
    if file.is_file() and str(file) != "-":
        yield file
        return
    with contextlib.ExitStack() as stack:
        try:
            source: Any = sys.stdin.buffer if str(file) == "-" else stack.enter_context(open(file, "rb"))
            start = source.read(2)
            suffix = ".gz" if start == b"\x1f\x8b" else ".ndjson"
            copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="iii-skill-", suffix=suffix))
            copy.write(start)
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
        except OSError as error:
            raise Stopped(FAILED, f"{file} cannot be read: {error.strerror or error}.") from None
        yield Path(copy.name)


@contextlib.contextmanager
def _source(file: Path) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        lines: Any = stack.enter_context(open(file, "rb"))
        if file.suffix == ".gz":
            lines = stack.enter_context(gzip.GzipFile(fileobj=lines))
        yield lines


@contextlib.contextmanager
def target(output: Path | None) -> Iterator[IO[bytes]]:
    """Stdout, or a file beside the wanted one that takes its place at the end."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        handle, half = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    except OSError as error:
        raise Stopped(USAGE, f"{output} cannot be written: {error.strerror or error}.") from None
    try:
        with os.fdopen(handle, "wb") as raw:
            packed: Any = gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) if output.suffix == ".gz" else raw
            yield packed
            if packed is not raw:
                packed.close()
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(half, output)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(half)
        if isinstance(error, OSError):
            raise Stopped(FAILED, f"{output} cannot be written: {error.strerror or error}.") from None
        raise
