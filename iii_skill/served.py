"""Which worker of the engine serves which function, trigger type and source, and what to do without it."""

from __future__ import annotations

from typing import Final

QUEUE: Final = "iii-queue"
PUBSUB: Final = "iii-pubsub"
CRON: Final = "iii-cron"
STREAM: Final = "iii-stream"
STATE: Final = "iii-state"
HTTP: Final = "iii-http"

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
        QUEUE,
    ),
    "publish": PUBSUB,
    "cron::on-tick": CRON,
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
        STREAM,
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
        STATE,
    ),
    "http::on-request": HTTP,
}
"""Function ids, and sources of observers, to the worker that serves them."""

WORKER_OF_TRIGGER: Final = {
    "cron": CRON,
    "durable:subscriber": QUEUE,
    "http": HTTP,
    "queue": QUEUE,
    "stream": STREAM,
    "stream:join": STREAM,
    "stream:leave": STREAM,
    "subscribe": PUBSUB,
}
"""Trigger types to the worker that provides them."""


def missing_worker(worker: str) -> str:
    """What to do when a worker of the engine is needed that this host runs, but was started without."""
    if worker == STATE:
        return "This host was started without state; `iii-skill attach` serves it."
    return f"The worker `{worker}` serves it, and this host was started without: list it in iii-config.yaml."
