"""The process that judges: reads a schema and an instance, writes what is wrong; started by `checker`.

It is run as a script without site packages and imports nothing of this package. What the kernel's limits
cannot stop (a check that takes exponential time, an error list of gigabytes) they end here, not in the host.
"""

from __future__ import annotations

import json
import resource
import signal
import socket
import struct
import sys
from typing import Any

REQUEST = struct.Struct(">II")
"""Bytes of the schema, bytes of the instance (NO_INSTANCE: only the schema is judged); both follow."""
REPLY = struct.Struct(">?I")
"""True for errors, False for the reason why the schema cannot be used; bytes of the JSON list behind."""
NO_INSTANCE = 2**32 - 1

UNUSABLE = 3
"""The exit code when the library cannot be loaded."""

CPU_S = 1.0
"""What one check may take of the processor; SIGPROF ends the process then."""
MEMORY_BYTES = 512 * 1024 * 1024
HEAVY_BYTES = 128 * 1024 * 1024
KEPT_SCHEMAS = 64

MAX_ERRORS = 20
HEAD, TAIL = 300, 150
"""A longer error quotes a large value: its beginning and its end stay, which says what is wrong."""


def serve(connection: socket.socket, library: Any) -> None:
    """Answer requests, one after another, until the host hangs up."""
    patterns = library.FancyRegexOptions(backtrack_limit=100_000, size_limit=1 << 20, dfa_size_limit=1 << 20)
    kept: dict[bytes, Any] = {}
    stream = connection.makefile("rwb")
    while head := stream.read(REQUEST.size):
        schema_bytes, instance_bytes = REQUEST.unpack(head)
        schema = stream.read(schema_bytes)
        instance = None if instance_bytes == NO_INSTANCE else stream.read(instance_bytes)
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        fine, texts = _judged(kept, schema, instance, library=library, patterns=patterns)
        signal.setitimer(signal.ITIMER_PROF, 0)
        reply = json.dumps(texts).encode()
        stream.write(REPLY.pack(fine, len(reply)) + reply)
        stream.flush()
        if _peak_bytes() > HEAVY_BYTES:
            return  # What a large value took is not given back otherwise; the host starts another.


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _judged(
    kept: dict[bytes, Any], schema: bytes, instance: bytes | None, *, library: Any, patterns: Any
) -> tuple[bool, list[str]]:
    validator = kept.pop(schema, None)
    if validator is None:
        try:
            validator = _compiled(_sorted(schema), library, patterns)
        except library.ValidationError as error:
            place = "".join(f"[{step!r}]" for step in error.instance_path)
            return False, [_cut(error.message) + (f" (at {_cut(place)})" if place else "")]
        except (ValueError, RecursionError, library.ReferencingError) as error:
            return False, [_cut(str(error))]
        if len(kept) >= KEPT_SCHEMAS:
            del kept[next(iter(kept))]
    kept[schema] = validator
    if instance is None:
        return True, []
    try:
        value = json.loads(instance)
        # Collecting the errors of nested alternatives costs a thousand times as much as knowing the answer.
        if validator.is_valid(value):
            return True, []
        found = [_cut(_words(error)) for error in validator.iter_errors(_sorted(instance))]
    except (ValueError, RecursionError):
        return True, ["the value is nested too deep for its schema"]
    if len(found) > MAX_ERRORS:
        return True, [*found[:MAX_ERRORS], f"and {len(found) - MAX_ERRORS} more errors"]
    return True, found


def _compiled(schema: Any, library: Any, patterns: Any) -> Any:
    """The draft that `$schema` names, 7 without one; no reference leads out of the schema."""
    draft = library.Draft7Validator
    if isinstance(schema, dict) and "json-schema.org/" in str(schema.get("$schema", "")):
        draft = library.validator_cls_for(schema)
    return draft(schema, pattern_options=patterns, offline=True)


def _words(error: Any) -> str:
    """The library's words; it lists several types in an order of its own, the engine by name."""
    message: str = error.message
    if error.kind.name != "type" or len(error.kind.types) < 2:
        return message
    listed = ", ".join(json.dumps(name) for name in sorted(error.kind.types))
    return message[: message.rindex(" is not of types ")] + f" is not of types {listed}"


def _sorted(encoded: bytes) -> Any:
    """The value with its properties in the order in which the engine visits them."""
    return json.loads(encoded, object_pairs_hook=lambda pairs: dict(sorted(pairs)))


def _cut(text: str) -> str:
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]} … {text[-TAIL:]}"


def main() -> None:
    """Serve the socket that is this process's standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host, which ends this process.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    except (ValueError, OSError):
        pass  # Not every system limits it; the processor's time stays bounded.
    sys.path.append(sys.argv[1])
    try:
        import jsonschema_rs
    except ImportError:
        sys.exit(UNUSABLE)

    serve(socket.socket(fileno=0), jsonschema_rs)


if __name__ == "__main__":
    main()
