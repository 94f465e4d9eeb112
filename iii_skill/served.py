"""Which worker of the engine serves which function, trigger type and source, and what to do without it."""

from __future__ import annotations

from typing import Final

_QUEUE, _PUBSUB, _CRON, _STREAM = "iii-queue", "iii-pubsub", "iii-cron", "iii-stream"
_STATE, _HTTP = "iii-state", "iii-http"

WORKER_OF: Final = {
    **dict.fromkeys(
        (
            "enqueue",
            "engine::queue::enqueue",
            "engine::queue::list_topics",
            "engine::queue::topic_stats",
            "engine::queue::dlq_topics",
            "engine::queue::dlq_messages",
            "iii::durable::publish",
            "iii::queue::redrive",
            "iii::queue::redrive_message",
            "iii::queue::discard_message",
            "queue::define",
            "queue::on-message",
        ),
        _QUEUE,
    ),
    "publish": _PUBSUB,
    "cron::on-tick": _CRON,
    **dict.fromkeys(
        (
            "stream::set",
            "stream::get",
            "stream::delete",
            "stream::update",
            "stream::list",
            "stream::list_groups",
            "stream::list_all",
            "stream::send",
            "stream::on-changed",
            "stream::on-join",
            "stream::on-leave",
        ),
        _STREAM,
    ),
    **dict.fromkeys(
        (
            "state::set",
            "state::get",
            "state::delete",
            "state::update",
            "state::list",
            "state::list_groups",
            "state::compare-and-set",
            "state::list_keys",
            "state::list_entries",
            "state::on-changed",
        ),
        _STATE,
    ),
    "http::on-request": _HTTP,
}
"""Function ids, and sources of observers, to the worker that serves them."""

WORKER_OF_TRIGGER: Final = {
    "cron": _CRON,
    "durable:subscriber": _QUEUE,
    "http": _HTTP,
    "queue": _QUEUE,
    "stream": _STREAM,
    "stream:join": _STREAM,
    "stream:leave": _STREAM,
    "subscribe": _PUBSUB,
}
"""Trigger types to the worker that provides them."""


def missing_worker(worker: str) -> str:
    """What to do when a worker of the engine is needed that this host runs, but was started without."""
    if worker == _STATE:
        return "This host was started without state; `iii-skill attach` serves it."
    return f"The worker `{worker}` serves it, and this host was started without: list it in iii-config.yaml."
