"""The sections `iii-worker-manager` and `iii-http`: the two ports."""

from __future__ import annotations

from typing import Any

from iii_skill.config.fields import Fields
from iii_skill.config.settings import LOOPBACK, Cors, HttpSettings, Middleware, WorkerListener
from iii_skill.errors import ConfigurationError

MAX_PORT = 65_535


def read_worker(fields: Fields, *, grace_ms: int) -> WorkerListener:
    """The settings of the worker port; rules that would let in fewer workers are refused, not ignored."""
    fields.only("port", "host", "handshake_timeout_ms", "middleware_function_id", "rbac")
    for key in ("rbac", "middleware_function_id"):
        if fields.data.get(key) is not None:
            raise ConfigurationError(
                f"{fields.where}.{key}: this host does not enforce it, and without it every worker would be "
                "let in. Remove it and use `--token`, or run the engine."
            )
    return WorkerListener(
        host=fields.text("host", LOOPBACK),
        port=fields.whole("port", 49_134, high=MAX_PORT),
        handshake_timeout_ms=fields.whole("handshake_timeout_ms", 10_000, low=1),
        grace_ms=grace_ms,
    )


def read_http(fields: Fields, *, notes: list[str]) -> HttpSettings:
    """The settings of the HTTP port; sentences about what has no effect go to `notes`."""
    fields.only("port", "host", "default_timeout", "concurrency_request_limit", "cors", "middleware")
    if fields.optional_whole("concurrency_request_limit") is not None:
        notes.append(f"{fields.where}.concurrency_request_limit has no effect, here as in the engine.")
    return HttpSettings(
        host=fields.text("host", LOOPBACK),
        port=fields.whole("port", 3_111, high=MAX_PORT),
        default_timeout_ms=fields.whole("default_timeout", 30_000, low=1),
        cors=None if fields.data.get("cors") is None else _cors(fields.inner("cors")),
        middleware=tuple(
            _middleware(item, f"{fields.where}.middleware[{index}]")
            for index, item in enumerate(fields.items("middleware"))
        ),
    )


def _cors(fields: Fields) -> Cors:
    fields.only("allowed_origins", "allowed_methods")
    return Cors(
        allowed_origins=fields.texts("allowed_origins"),
        allowed_methods=fields.texts("allowed_methods"),
    )


def _middleware(item: Any, where: str) -> Middleware:
    fields = Fields(item, where).only("function_id", "phase", "priority")
    function_id = fields.optional_text("function_id")
    if function_id is None:
        raise ConfigurationError(f"{where}: has no 'function_id'.")
    return Middleware(
        function_id=function_id,
        phase=fields.one_of("phase", "preHandler", "preHandler"),
        priority=fields.whole("priority", 0, low=-(2**31), high=2**31 - 1),
    )
