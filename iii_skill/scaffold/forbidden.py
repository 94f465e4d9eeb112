"""Forbidden: the names that a language, its tools, the host or a file system keep for themselves.

A name made of the user's words is refused when it is one of these in the namespace where it will stand. The
templates do the other half: their own functions begin with words that no generated name begins with.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from iii_skill.values import PRIVATE_SCOPES

LANGUAGES = ("python", "javascript", "typescript", "rust")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_JAVASCRIPT = _words(
    "abstract arguments await boolean break byte case catch char class const continue debugger "
    "default delete do double else enum eval export extends false final finally float for function "
    "goto if implements import in instanceof int interface let long native new null package private "
    "protected public return short static super switch synchronized this throw throws transient true "
    "try typeof undefined var void volatile while with yield"
)
RESERVED: Mapping[str, frozenset[str]] = {
    "python": _words(
        "and as assert async await break case class continue def del elif else except false finally for "
        "from global if import in is lambda match none nonlocal not or pass raise return true try type "
        "while with yield"
    ),
    "javascript": _JAVASCRIPT,
    "typescript": _JAVASCRIPT
    | _words(
        "any as asserts bigint constructor declare is keyof module namespace never object of readonly "
        "require string symbol type unique unknown"
    ),
    "rust": _words(
        "abstract as async await become box break const continue core crate do dyn else enum extern false "
        "final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self "
        "static std struct super test trait true try type typeof union unsafe unsized use virtual where "
        "while yield alloc"
    ),
}
"""Words that are no identifiers in a language, in lower case."""

EVERYWHERE = _words("iii __proto__ constructor prototype")
"""Words that every SDK or store uses itself."""

DEVICES = _words("con prn aux nul conin$ conout$") | {
    f"{port}{number}" for port in ("com", "lpt") for number in range(10)
}
"""File names that Windows keeps for devices."""

_STANDARD = frozenset(name.lower() for name in sys.stdlib_module_names) | _words(
    "annotationlib compression distutils imp asynchat asyncore smtpd cgi cgitb crypt nntplib telnetlib"
)
"""Modules of this Python and of those before and after it."""

PROJECTS: Mapping[str, frozenset[str]] = {
    "python": _STANDARD
    | _words(
        # What the worker and its development tools install: packages, and modules of other names.
        "iii_sdk iii_helpers iii_observability iii_skill iii_state_memory iii_state_file iii_state_redis "
        "iii_state_postgres "
        "annotated_types anyio ast_serialize certifi h11 httpcore httpx idna iniconfig librt mypy "
        "mypy_extensions mypyc opentelemetry opentelemetry_api opentelemetry_sdk packaging pathspec pip "
        "pluggy pydantic pydantic_core pygments pytest py ruff setuptools sniffio typing_extensions "
        "typing_inspection websockets wheel hatchling hatch msgspec click "
        # Programs in the `bin` of an environment, which a console script of this name would replace.
        "activate deactivate dmypy pygmentize python pythonw stubgen stubtest "
        # Files and directories of the project itself.
        "tests test conftest data setup test_worker test_adapter test_server_adapter server"
    ),
    "javascript": _words(
        # npm refuses to install a package into one of its own name.
        "node_modules favicon iii_sdk iii_helpers eslint globals prettier npm npx node corepack "
        # Modules of Node itself.
        "assert async_hooks buffer child_process cluster console constants crypto dgram diagnostics_channel "
        "dns domain events fs http http2 https inspector module net os path perf_hooks process punycode "
        "querystring readline repl sea sqlite stream string_decoder sys test timers tls trace_events tty url "
        "util v8 vm wasi worker_threads zlib"
    ),
    "rust": _words(
        # Cargo: directories beside the binaries, crates of the language.
        "deps build examples incremental core std alloc proc_macro test "
        # Crates that the worker and its tests depend on.
        "chrono iii_sdk iii_helpers percent_encoding reqwest serde serde_json tokio tracing_subscriber uuid"
    ),
}
"""What a project, and the module, package or program named after it, must not be called."""

FUNCTIONS = _words(
    "state configuration engine stream streams queue cron http pubsub publish iii otel log logs worker "
    "workers metrics sandbox directory console bridge"
)
"""Namespaces of functions that the host or the engine's own workers serve."""

ANSWERS = _words("count next")
"""Fields beside the records in the answer of the list."""

FIELDS = _words("id created_at updated_at key value path_params method")
"""What a record or the envelope of a request holds besides the fields of the user."""

ADAPTERS = _words("memory file redis postgres kv bridge state shared")
"""Adapters of the host and of the engine, and the words that the base classes are named after."""


SCOPES = frozenset({"state_barrier", "__state_private_namespaces"})
"""Bookkeeping in a store (with all that begins with PRIVATE_SCOPES); nothing of the host is loaded for it."""


def owned_scope(scope: str) -> bool:
    """Whether the host refuses the scope."""
    return scope in SCOPES or scope.startswith(PRIVATE_SCOPES)


def _projects(language: str) -> frozenset[str]:
    return (
        PROJECTS["javascript"] | {"typescript", "typescript_eslint"}
        if language == "typescript"
        else PROJECTS[language]
    )


def fault(name: str, language: str, namespace: str) -> str | None:
    """Why `name` cannot be used in `language` (`none`: in any of them) as what `namespace` says, or None.

    The namespaces are those of `questions`: project, entity, plural, field, adapter.
    """
    word = name.replace("-", "_")
    languages = LANGUAGES if language not in LANGUAGES else (language,)
    for known in languages:
        if word in RESERVED[known]:
            return f"'{name}' is a reserved word of {known}"
    if word in EVERYWHERE:
        return f"'{name}' is taken"
    if namespace == "project":
        return _project_fault(name, word, languages)
    taken = {"plural": FUNCTIONS | ANSWERS, "field": FIELDS, "adapter": ADAPTERS}.get(namespace, frozenset())
    if word in taken:
        owner = "iii-skill or the engine" if namespace == "adapter" else "the worker itself or its host"
        return f"'{name}' is taken by {owner}"
    if namespace == "field" and word.startswith("last_") and word.endswith("_change"):
        return f"'{name}' is taken by the worker itself or its host"
    return None


def _project_fault(name: str, word: str, languages: tuple[str, ...]) -> str | None:
    if word in DEVICES:
        return f"'{name}' is a device on Windows"
    for known in languages:
        if word in _projects(known):
            return f"'{name}' is taken by {known}, its tools or what the worker depends on"
        if known == "python" and re.fullmatch(r"(python|pip)[0-9_]*", word):
            return f"'{name}' is taken by {known}, its tools or what the worker depends on"
    return None
