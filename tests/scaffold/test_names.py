"""Whatever words the user chooses: they are refused, or the code parses and no name stands twice in it.

The words tried are those that could hurt: every identifier of the worker itself, and every word of the lists.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.projects import node_modules, run
from support.scaffold import LANGUAGES, OPERATIONS, renderer_of
from support.sdk import CACHE, cargo_environment, cargo_lock, tool

from iii_skill.scaffold import forbidden, names
from iii_skill.scaffold.answers import resolve
from iii_skill.scaffold.errors import AnswerError
from iii_skill.state.scopes import is_reserved
from iii_skill.values import PRIVATE_SCOPES

WORKERS = {
    "python": "{module}.py",
    "javascript": "worker.js",
    "typescript": "src/worker.ts",
    "rust": "src/main.rs",
}
PLACES = ("entity", "plural", "field")
CHECK = """
import fs from 'node:fs';
import vm from 'node:vm';
for (const file of process.argv.slice(2)) {
  try { new vm.SourceTextModule(fs.readFileSync(file, 'utf8'), { identifier: file }); }
  catch (error) { console.log(`${file}: ${error.message}`); process.exitCode = 1; }
}
"""


def rendered(language: str, answers: Mapping[str, Any]) -> dict[str, str]:
    renderer = renderer_of(language)
    given = {"operations": OPERATIONS, "with": ("queue", "pubsub", "cron", "stream"), **answers}
    resolved = resolve(renderer, given, destination=str(answers.get("name", "sample-worker")))
    return renderer.render(resolved)


def worker_of(language: str, answers: Mapping[str, Any]) -> str:
    module = names.snake(str(answers.get("name", "sample-worker")))
    return rendered(language, answers)[WORKERS[language].format(module=module)]


def words(language: str) -> list[str]:
    """Every identifier of the default worker, its parts, and the words of the lists, as users write them."""
    identifiers = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", worker_of(language, {})))
    found = set()
    for identifier in identifiers:
        parts = [part.lower() for part in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])", identifier)]
        found.update(parts)
        found.update("_".join(parts[start:]) for start in range(len(parts)))
        found.update("_".join(parts[:end]) for end in range(1, len(parts)))
    found |= forbidden.FUNCTIONS | forbidden.FIELDS | forbidden.ANSWERS | forbidden.RESERVED[language]
    found |= {"flag", "flags", "entry", "entries", "last_stock_change", "last_x_change", "record_chunk"}
    return sorted(word for word in found if names.SNAKE.fullmatch(word) and len(word) <= 20)


def answers_of(place: str, word: str) -> Mapping[str, Any]:
    kebab = names.kebab(word)
    if place == "entity":
        return {"entity": kebab, "plural": "things-kept"}
    if place == "plural":
        return {"entity": "thing-kept", "plural": kebab, "scope": "kept"}
    fields = f"{word}:integer,stock:integer=1,title:text"
    return {"fields": fields, "update_field": word, "counter_field": word}


def candidates(language: str) -> Iterator[tuple[str, str]]:
    """The text of each worker that is not refused, and which words made it."""
    for place in PLACES:
        for word in words(language):
            try:
                yield f"{place}-{word}", worker_of(language, answers_of(place, word))
            except AnswerError:
                continue


def twice(tree: ast.Module) -> list[str]:
    """Names defined twice in the module, and keys that stand twice in one dictionary."""
    defined = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    defined += [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    defined += [
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    found = [name for name, count in Counter(defined).items() if count > 1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = Counter(key.value for key in node.keys if isinstance(key, ast.Constant))
            found += [str(key) for key, count in keys.items() if count > 1]
    return found


@pytest.mark.timeout(600)
def test_python_parses_and_defines_nothing_twice() -> None:
    tried = dict(candidates("python"))
    assert len(tried) > 300
    wrong = {name: twice(ast.parse(text)) for name, text in tried.items()}
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize("store", ["file", "server"])
def test_an_adapter_plugin_parses_and_defines_nothing_twice(store: str) -> None:
    """Under every word of its own code as the name of the adapter."""
    renderer = renderer_of("adapter-plugin")

    def files(adapter: str) -> dict[str, str]:
        answers = resolve(renderer, {"adapter": adapter, "store": store}, destination="acme-store")
        return {path: text for path, text in renderer.render(answers).items() if path.endswith(".py")}

    identifiers = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", " ".join(files("acme").values())))
    tried = {part.lower() for word in identifiers for part in re.findall(r"[A-Z]?[a-z0-9]+", word)}
    rendered_once = 0
    for word in sorted(word for word in tried if names.KEBAB.fullmatch(word)):
        try:
            texts = files(word)
        except AnswerError:
            continue
        rendered_once += 1
        assert {path: found for path, text in texts.items() if (found := twice(ast.parse(text)))} == {}, word
    assert rendered_once > 100


def test_javascript_parses(tmp_path: Path) -> None:
    (tmp_path / "check.mjs").write_text(CHECK)
    for name, text in candidates("javascript"):
        (tmp_path / f"{name}.js").write_text(text)
    files = sorted(str(path) for path in tmp_path.glob("*.js"))
    assert len(files) > 300
    command = [tool("node"), "--experimental-vm-modules", "--no-warnings", str(tmp_path / "check.mjs")]
    run([*command, *files], tmp_path)


@pytest.mark.timeout(600)
def test_typescript_compiles(tmp_path: Path) -> None:
    """Duplicate keys are errors here too; of many words every eighth, all of them with III_SKILL_TEST_ALL."""
    step = 1 if os.environ.get("III_SKILL_TEST_ALL") else 8
    for number, (name, text) in enumerate(candidates("typescript")):
        if number % step == 0 or re.search("flag|entr|cache|state|last_", name):
            (tmp_path / f"{name}.ts").write_text(text)
    settings = json.loads(rendered("typescript", {})["tsconfig.json"])
    options = {**settings["compilerOptions"], "noEmit": True, "rootDir": "."}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.ts"]}))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(node_modules("typescript"))
    compiler = tmp_path / "node_modules" / "typescript" / "bin" / "tsc"
    run([tool("node"), "--max-old-space-size=3000", str(compiler)], tmp_path)


RUST_WORDS = (
    "entity-flag",
    "entity-entry",
    "entity-state",
    "plural-entries",
    "plural-records",
    "field-state",
)


@pytest.mark.timeout(900)
@pytest.mark.skipif(not os.environ.get("III_SKILL_TEST_ALL"), reason="compiles for minutes: --all")
def test_rust_compiles() -> None:
    place = CACHE / "project-rust-names"
    texts = {name: text for name, text in candidates("rust") if name in RUST_WORDS}
    assert set(texts) == set(RUST_WORDS)
    with cargo_lock():
        shutil.rmtree(place, ignore_errors=True)
        (place / "src" / "bin").mkdir(parents=True)
        (place / "Cargo.toml").write_text(rendered("rust", {})["Cargo.toml"])
        for name, text in texts.items():
            (place / "src" / "bin" / f"{name}.rs").write_text(text)
        run([tool("cargo"), "check", "--quiet", "--bins"], place, cargo_environment())


def functions_of_rust(text: str) -> list[str]:
    return re.findall(r"^(?:async )?fn (\w+)", text, re.MULTILINE)


def test_rust_defines_no_function_twice() -> None:
    for name, text in candidates("rust"):
        again = [function for function, count in Counter(functions_of_rust(text)).items() if count > 1]
        assert again == [], name


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "answers",
    [
        {"plural": "state"},
        {"plural": "engine"},
        {"plural": "configuration"},
        {"plural": "count"},
        {"plural": "streams"},
        {"scope": "state_barrier"},
        {"scope": "__state_private_namespaces"},
        {"fields": "path_params:text,method:text"},
        {"fields": "last_stock_change:text,stock:integer"},
        {"fields": "constructor:text"},
        {"entity": "iii"},
        {"name": "nul"},
        {"name": "com1"},
        {"name": "iii"},
        {"name": "iii-sdk"},
    ],
    ids=str,
)
def test_what_the_host_or_the_worker_owns_is_refused(language: str, answers: Mapping[str, Any]) -> None:
    with pytest.raises(AnswerError, match=f"--{next(iter(answers))}: "):
        worker_of(language, answers)


@pytest.mark.parametrize(
    ("language", "owned"),
    [
        (
            "python",
            "json sqlite3 shelve pickle asyncio pytest pip pip3 python python3-12 mypy ruff websockets",
        ),
        ("python", "iii-skill tests conftest activate pydantic typing-extensions setuptools"),
        ("javascript", "eslint prettier globals node-modules fs http child-process npm"),
        ("typescript", "eslint prettier typescript typescript-eslint fs path"),
        ("rust", "deps build examples incremental core std alloc test tokio serde-json uuid reqwest"),
    ],
)
def test_what_a_language_and_its_tools_own_is_no_name_of_a_project(language: str, owned: str) -> None:
    for name in owned.split():
        with pytest.raises(AnswerError, match="--name: "):
            rendered(language, {"name": name})


@pytest.mark.parametrize(
    "name", ["json", "sqlite3", "shelve", "pickle", "pytest", "iii-state-redis", "hatchling"]
)
def test_an_adapter_package_takes_no_module_of_python_or_its_tools(name: str) -> None:
    with pytest.raises(AnswerError, match="--name: "):
        resolve(renderer_of("adapter-plugin"), {}, destination=name)


@pytest.mark.parametrize("adapter", ["memory", "file", "redis", "kv", "bridge", "state"])
def test_an_adapter_takes_no_name_of_ours(adapter: str) -> None:
    with pytest.raises(AnswerError, match="--adapter: "):
        resolve(renderer_of("adapter-plugin"), {"adapter": adapter}, destination="acme-store")


def test_the_lists_know_the_host_every_module_of_python_and_every_dependency() -> None:
    for scope in (*forbidden.SCOPES, f"{PRIVATE_SCOPES}x", "products", "state", "a::b"):
        assert forbidden.owned_scope(scope) == is_reserved(scope)
    assert {name.lower() for name in sys.stdlib_module_names} <= forbidden.PROJECTS["python"]
    for language in ("python", "javascript", "typescript", "rust"):
        files = rendered(language, {})
        manifest = {"python": "pyproject.toml", "rust": "Cargo.toml"}.get(language, "package.json")
        for dependency in dependencies(manifest, files[manifest]):
            assert forbidden.fault(dependency, language, "project") is not None, dependency


def dependencies(manifest: str, text: str) -> Iterator[str]:
    import tomllib

    if manifest == "package.json":
        data = json.loads(text)
        yield from (name for name in {**data["dependencies"], **data["devDependencies"]} if "/" not in name)
        return
    parsed = tomllib.loads(text)
    if manifest == "Cargo.toml":
        yield from {**parsed["dependencies"], **parsed["dev-dependencies"]}
        return
    project = parsed["project"]
    for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        found = re.match(r"[a-z-]+", line)
        assert found
        yield found[0]
