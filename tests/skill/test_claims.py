"""What the skill says of codes, limits and functions is what the host has and the recorded cases expect."""

from __future__ import annotations

import ast
import re

import pytest
from conformance.recorded import cases
from support.markdown import prose
from support.tree import ROOT

from iii_skill import open_host, readable
from iii_skill.config import Config
from iii_skill.state import op_limits

ERRORS = ROOT / "references" / "errors.md"
CODE = re.compile(
    r"[A-Z]+(?:_[A-Z]+)+|[a-z]+(?:_[a-z]+)+|TIMEOUT|(?:set|merge|append|remove|increment|decrement)\.[a-z_.]+"
)
OPS = ("set", "increment", "decrement", "append", "merge", "remove")

ELSEWHERE = {
    "TIMEOUT": "made by the SDKs",
    "WORKER_NAMESPACE_CONFLICT": "answered by the engine only",
}
"""Documented codes that the host does not answer."""

UNSEEN = {
    "ADAPTER_ERROR": "raised by adapters; callers get the code of the function, such as SET_ERROR",
    "UNKNOWN_CALLER": "only for a caller without an id, which no SDK is",
    "BAD_REQUEST": "answered by the control port and the console's own page",
    "INVALID_JSON": "answered to the console's own page",
    "configuration_error": "printed by the command line",
    "internal_error": "the base of the exceptions",
    "not_connected": "while `iii-skill attach` has lost its engine",
}
"""Codes of the source that no caller of a state function gets."""


def documented() -> set[str]:
    """Every code in backquotes on the page of codes; `<op>` stands for each op."""
    words = set(re.findall(r"`([^`\n]+)`", prose(ERRORS.read_text())))
    spread = {word.replace("<op>", op) for word in words for op in OPS}
    return {word for word in spread if CODE.fullmatch(word)} - NO_CODES


NO_CODES = {
    "worker_name",
    "max_value_bytes",
    "max_bytes",
    "op_index",
    "default_timeout",
    "api_path",
    "state_barrier",
    "list_entries",
}
"""Names in backquotes that look like a code."""


def recorded() -> set[str]:
    """Every error code that a recorded case expects and that an op or call of ours answers too."""
    found: set[str] = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("code"), str) and "message" in value:
                found.add(value["code"])
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    for case in cases():
        if not case.functions:  # the functions of a case raise codes of their own
            walk(list(case.steps))
    return found


def raised() -> set[str]:
    """Every code that the source gives a name or hands to an error."""
    found: set[str] = set()
    for file in (ROOT / "iii_skill").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                texts = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "code")]
                name = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if name in ("Failure", "FunctionErrors", "_Refusal") or len(texts) > len(node.args[:1]):
                    found |= {
                        t.value for t in texts if isinstance(t, ast.Constant) and isinstance(t.value, str)
                    }
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                names = {target.id for target in node.targets if isinstance(target, ast.Name)}
                found |= {str(node.value.value)} if "code" in names else set()
    return {code for code in found if CODE.fullmatch(code)}


def test_every_documented_code_is_answered() -> None:
    files = [*(ROOT / "iii_skill").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    source = "".join(file.read_text() for file in files)
    known = recorded() | set(re.findall(r"\w+", source))
    op_paths = {
        f"{op}.path.{rest}" for op in OPS for rest in ("too_deep", "empty_segment", "segment_too_long")
    }
    op_paths |= {f"{op}.path.proto_polluted" for op in OPS}
    assert documented() - known - op_paths - set(ELSEWHERE) == set()


@pytest.mark.parametrize("codes", [recorded, raised])
def test_every_code_is_documented(codes: object) -> None:
    assert callable(codes)
    assert codes() - documented() - set(UNSEEN) == set()


FIGURES = {
    "path segments": op_limits.MAX_SEGMENTS,
    "bytes of a path segment": op_limits.MAX_SEGMENT_BYTES,
    "keys of a merge value": op_limits.MAX_MERGE_KEYS,
    "nesting of a merge value": op_limits.MAX_MERGE_DEPTH,
    "nesting of a stored value": readable.MAX_NESTING,
}


def test_limits_are_the_constants_of_the_host() -> None:
    page = (ROOT / "references" / "operations.md").read_text()
    said = dict(re.findall(r"^\| ([^|]+) \| (\d+) \|$", page, re.MULTILINE))
    assert said == {name: str(value) for name, value in FIGURES.items()}


def test_ports_are_the_defaults() -> None:
    text = (ROOT / "SKILL.md").read_text()
    config = Config()
    assert config.http is not None
    assert f"ws://127.0.0.1:{config.worker.port}" in text
    assert f"http://127.0.0.1:{config.http.port}" in text


async def test_every_state_function_of_the_pages_exists_and_the_reverse() -> None:
    text = "".join(path.read_text() for path in [ROOT / "SKILL.md", *(ROOT / "references").glob("*.md")])
    named = set(re.findall(r"(?<!iii-skill::)\bstate::[a-z_-]+", text)) - {"state::nope"}
    asked = {"prefix": "state::", "include_internal": True}
    async with open_host(adapter="memory") as host:
        rows = (await host.trigger("engine::functions::list", asked))["functions"]
    assert named == {row["function_id"] for row in rows}
