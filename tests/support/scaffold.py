"""Combinations of scaffold options: every one that changes code, and a small set that covers all pairs."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from iii_skill.scaffold.answers import resolve
from iii_skill.scaffold.catalog import bundled
from iii_skill.scaffold.project import project_files
from iii_skill.scaffold.render import Renderer

LANGUAGES = ("python", "javascript", "typescript", "rust")
RECORDS = ("create", "get", "list", "update", "delete", "counter")
EXTRAS = ("flag", "session", "cache", "claim", "hold", "total", "skeleton")
OPERATIONS = (*RECORDS, *EXTRAS)
CUSTOM = "inventory_quantity:integer=5,is_available:boolean=true,title:text,unit_price:amount"
SHAPES: Mapping[str, Mapping[str, str]] = {
    "product": {},
    "custom": {"entity": "inventory-item", "scope": "shop:items", "fields": CUSTOM},
    "longest": {
        "entity": "a" * 20,
        "plural": "b" * 22,
        "scope": "c" * 40,
        "fields": ",".join(
            [
                f"{'d' * 20}:integer=123456789",
                f"{'e' * 20}:boolean=false",
                f"{'f' * 20}:text=text",
                f"{'g' * 20}:amount",
            ]
        ),
    },
}
OTHERS = {
    "adapter": ("memory", "file", "redis"),
    "config": ("workers", "modules"),
    "docker": (False, True),
    "shape": ("product", "custom"),
}
"""Options that change no code of the worker, or only its names."""

Combination = Mapping[str, Any]


def operation_sets() -> Iterator[tuple[str, ...]]:
    """Every set of operations but the empty one: each stands for itself."""
    for chosen in _subsets(OPERATIONS):
        if chosen:
            yield chosen


@cache
def product() -> tuple[Combination, ...]:
    """Every combination of the options that change code."""
    switches = (True, False)
    return tuple(
        {"operations": operations, "http": http, "trigger": trigger}
        for operations, http, trigger in itertools.product(operation_sets(), switches, switches)
    )


@cache
def covering() -> tuple[Combination, ...]:
    """A small set with every pair of values of all options; the first is the default."""
    default: dict[str, Any] = {
        "operations": (*RECORDS, "session"),
        "http": True,
        "trigger": True,
        "adapter": "file",
        "config": "workers",
        "docker": False,
        "shape": "product",
    }
    missing = all_pairs() - pairs(default)
    chosen: list[Combination] = [default]
    choose = random.Random(20)
    while missing:
        candidates = []
        for code in choose.sample(product(), 120):
            others = {name: choose.choice(values) for name, values in OTHERS.items()}
            candidates.append({**code, **others})
        best = max(candidates, key=lambda candidate: len(pairs(candidate) & missing))
        missing -= pairs(best)
        chosen.append(best)
    return tuple(chosen)


def with_companions() -> tuple[Combination, ...]:
    """Workers whose records are joined to companions: all of them, then parts in the other form."""
    default = covering()[0]
    whole = {
        "operations": ("create", "get", "delete", "total"),
        "with": ("queue", "pubsub", "cron", "stream"),
    }
    part = {"operations": ("create",), "with": ("queue",), "http": False, "trigger": False}
    others = {"config": "modules", "adapter": "memory", "shape": "custom"}
    watching = {"operations": ("list",), "with": ("cron", "pubsub"), "http": False, "trigger": False}
    return ({**default, **whole}, {**default, **part, **others}, {**default, **watching, "adapter": "memory"})


def singles() -> tuple[Combination, ...]:
    """Every operation and every companion alone, with HTTP and a reaction and with neither."""
    alone: list[Combination] = [{"operations": (operation,)} for operation in OPERATIONS]
    alone += [{"operations": ("create",), "with": ("queue",)}]
    alone += [{"operations": ("get",), "with": (name,)} for name in ("pubsub", "cron", "stream")]
    return tuple(
        {**covering()[0], **one, "http": switch, "trigger": switch}
        for one in alone
        for switch in (True, False)
    )


def pairs(combination: Combination) -> set[tuple[str, str]]:
    """Every pair of values in a combination; an operation is a value that is there or not."""
    values = [f"{name}={name in combination['operations']}" for name in OPERATIONS]
    values += [f"{name}={value}" for name, value in combination.items() if name != "operations"]
    return set(itertools.combinations(sorted(values), 2))


@cache
def all_pairs() -> set[tuple[str, str]]:
    """Every pair that some combination has."""
    found: set[tuple[str, str]] = set()
    for code in product():
        found |= pairs(code)
    single = {f"{name}={value}" for name in (*OPERATIONS, "http", "trigger") for value in (True, False)}
    others = {name: [f"{name}={value}" for value in values] for name, values in OTHERS.items()}
    for values in others.values():
        found |= {tuple(sorted(pair)) for pair in itertools.product(values, single)}  # type: ignore[misc]
    for one, other in itertools.combinations(others.values(), 2):
        found |= {tuple(sorted(pair)) for pair in itertools.product(one, other)}  # type: ignore[misc]
    return found


def wide() -> tuple[Combination, ...]:
    """Single operations and a drawn part of the full product: all 32,764 of it would compile for days."""
    defaults = {"adapter": "memory", "config": "workers", "docker": False, "shape": "product"}
    return (*singles(), *({**code, **defaults} for code in random.Random(21).sample(product(), 24)))


def chosen() -> tuple[Combination, ...]:
    """What the run tests take: the covering set, and the wide one with III_SKILL_TEST_ALL."""
    more = wide() if os.environ.get("III_SKILL_TEST_ALL") else ()
    return (*covering(), *with_companions(), *more)


def label(combination: Combination) -> str:
    """A short name."""
    words = [*combination["operations"], "http" if combination["http"] else "no-http"]
    words.append("trigger" if combination["trigger"] else "no-trigger")
    words += combination.get("with", ())
    if combination.get("shape") == "custom":
        words.append("custom")
    return "-".join(words)


@cache
def renderer_of(template_name: str) -> Renderer:
    """The renderer of a bundled template; it compiles each file once."""
    template = bundled(template_name)
    assert template is not None
    return Renderer(template)


def files_of(
    template_name: str, combination: Combination, *, name: str = "sample-worker"
) -> dict[str, bytes]:
    """The files of the project."""
    renderer = renderer_of(template_name)
    given = {name: value for name, value in combination.items() if name != "shape"}
    answers = resolve(renderer, {**SHAPES[combination["shape"]], **given}, destination=name)
    return project_files(renderer.template, answers, renderer.render(answers))


def _subsets(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for size in range(len(words) + 1):
        yield from itertools.combinations(words, size)
