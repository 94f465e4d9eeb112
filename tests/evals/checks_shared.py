"""Checks of what many people use at the same time: limits, polls, links, totals."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

from evals.checks import BEFORE, MANY, Subject, check, equal

ODD = ("__proto__", "a.b", "", "ü 😀\n", "x" * 300)
"""Names that strangers choose: no path takes all of them, every key does."""


async def soon(look: Callable[[], Awaitable[Any]], expected: Any) -> None:
    """What `look` gives becomes what is expected within some seconds, and stays so."""
    until = time.monotonic() + 8
    while (found := await look()) != expected and time.monotonic() < until:
        await asyncio.sleep(0.05)
    equal(found, expected)
    await asyncio.sleep(0.2)
    equal(await look(), expected)


# limits::take and ::peek {user, limit, window_ms}; scope api::limits.


@check("ratelimit")
async def ratelimit_lets_through_the_limit_and_says_when_the_next(subject: Subject) -> None:
    limit = {"user": "ann", "limit": 2, "window_ms": 60_000}
    equal(await subject.call("limits::take", **limit), {"allowed": True, "left": 1})
    equal(await subject.call("limits::take", **limit), {"allowed": True, "left": 0})
    refused = await subject.call("limits::take", **limit)
    equal(refused["allowed"], False)
    equal(0 < refused["retry_ms"] <= 60_000, True)
    equal(await subject.call("limits::peek", **limit), {"used": 2})
    equal("ann" in await subject.keys("api::limits"), True)
    limit = {"user": "dan", "limit": 1, "window_ms": 1500}
    while (answer := await subject.call("limits::take", **limit))["allowed"]:
        pass  # until one comes within the window, however slow the machine is
    equal(0 < answer["retry_ms"] <= 1500, True)
    await asyncio.sleep(answer["retry_ms"] / 1000 + 0.05)
    equal((await subject.call("limits::take", **limit))["allowed"], True)


@check("ratelimit")
async def ratelimit_is_exact_when_many_come_at_once(subject: Subject) -> None:
    answers = await subject.together(
        "limits::take", [{"user": "bob", "limit": 7, "window_ms": 60_000}] * MANY
    )
    equal(sum(answer["allowed"] for answer in answers), 7)
    equal(sorted(answer["left"] for answer in answers if answer["allowed"]), list(range(7)))


@check("ratelimit")
async def ratelimit_is_exact_when_two_processes_serve_at_once(subject: Subject) -> None:
    limit = {"user": "cid", "limit": 7, "window_ms": 60_000}
    async with subject.another_process() as other:
        half = [limit] * (MANY // 2)
        both = await asyncio.gather(
            subject.together("limits::take", half), other.together("limits::take", half)
        )
        equal(await other.call("limits::peek", **limit), {"used": 7})
    equal(sum(answer["allowed"] for answers in both for answer in answers), 7)
    equal(await subject.call("limits::peek", **limit), {"used": 7})


@check("ratelimit")
async def ratelimit_holds_in_any_period_not_only_from_the_full_second_on(subject: Subject) -> None:
    for number in range(3):
        limit = {"user": f"eve{number}", "limit": 3, "window_ms": 1000}
        allowed: list[tuple[float, float]] = []
        # One call, and many from shortly before the edge of windows that begin with it or with a full second.
        await asyncio.sleep((0.3 - time.time()) % 1)
        pause, until = 0.6, time.monotonic() + 1.4
        while time.monotonic() < until or len(allowed) < 5:
            began = time.monotonic()
            if (await subject.call("limits::take", **limit))["allowed"]:
                allowed.append((began, time.monotonic()))
            await asyncio.sleep(pause)
            pause = 0.02
        # The fourth of any four is answered a window after the first was asked for; clocks differ a little.
        gaps = [later[1] - first[0] for first, later in zip(allowed, allowed[3:], strict=False)]
        equal(min(gaps) > 0.9, True)


@check("ratelimit")
async def ratelimit_missing_user_has_used_nothing_and_is_not_created(subject: Subject) -> None:
    equal(await subject.call("limits::peek", user="nobody", limit=1, window_ms=1000), {"used": 0})
    equal("nobody" in await subject.keys("api::limits"), False)
    for user in ODD:
        answers = [await subject.call("limits::take", user=user, limit=1, window_ms=60_000) for _ in range(2)]
        equal([answer["allowed"] for answer in answers], [True, False])


@check("ratelimit")
async def ratelimit_stores_little_of_who_keeps_calling(subject: Subject) -> None:
    for _ in range(6):
        await subject.together("limits::take", [{"user": "mad", "limit": 30, "window_ms": 20}] * MANY)
        await asyncio.sleep(0.03)
    (size,) = [
        len(str(value))
        for key, value in (await subject.call("state::list_entries", scope="api::limits"))["entries"]
        if key == "mad"
    ]
    equal(size < 1000, True)


# polls::create {question, options}, ::vote {id, voter, option}, ::result {id}; GET /polls/:id.


async def poll(subject: Subject, *options: str) -> str:
    made = await subject.call("polls::create", question="Which?", options=list(options))
    return str(made["id"])


@check("poll")
async def poll_counts_in_the_order_of_the_options(subject: Subject) -> None:
    key = await poll(subject, "tea", "coffee", "a.b", "__proto__")
    equal(key in await subject.keys("polls::polls"), True)
    for voter, option in (("ann", "coffee"), ("bob", "__proto__"), ("__proto__", "a.b"), ("", "coffee")):
        equal(await subject.call("polls::vote", id=key, voter=voter, option=option), {"voted": True})
    counts = [("tea", 0), ("coffee", 2), ("a.b", 1), ("__proto__", 1)]
    votes = [{"option": option, "count": count} for option, count in counts]
    equal(await subject.call("polls::result", id=key), {"question": "Which?", "voters": 4, "votes": votes})


@check("poll")
async def poll_votes_at_once_all_count(subject: Subject) -> None:
    key = await poll(subject, "x", "y")
    votes = [{"id": key, "voter": f"v{n}", "option": "xy"[n % 2]} for n in range(MANY)]
    await subject.together("polls::vote", votes)
    found = await subject.call("polls::result", id=key)
    equal((found["voters"], [row["count"] for row in found["votes"]]), (MANY, [MANY // 2, MANY // 2]))


@check("poll")
async def poll_voter_has_one_vote_that_moves(subject: Subject) -> None:
    key = await poll(subject, "x", "y")
    await subject.together("polls::vote", [{"id": key, "voter": "ann", "option": "x"}] * MANY)
    await subject.call("polls::vote", id=key, voter="ann", option="y")
    found = await subject.call("polls::result", id=key)
    equal((found["voters"], [row["count"] for row in found["votes"]]), (1, [0, 1]))


@check("poll")
async def poll_goes_on_after_a_restart(subject: Subject) -> None:
    key = await poll(subject, "x", "y")
    for voter in ("ann", "cid"):
        await subject.call("polls::vote", id=key, voter=voter, option="x")
    await subject.restart()
    await subject.call("polls::vote", id=key, voter="ann", option="y")
    await subject.call("polls::vote", id=key, voter="bob", option="y")
    found = await subject.call("polls::result", id=key)
    equal((found["voters"], [row["count"] for row in found["votes"]]), (3, [1, 2]))


@check("poll")
async def poll_unknown_poll_or_option_is_an_error_and_creates_nothing(subject: Subject) -> None:
    equal(await subject.call("polls::vote", id="ghost", voter="a", option="x"), {"error": "NOT_FOUND"})
    equal(await subject.call("polls::result", id="ghost"), {"error": "NOT_FOUND"})
    key = await poll(subject, "x")
    for option in ("z", "toString", "constructor", ""):
        equal(
            await subject.call("polls::vote", id=key, voter="a", option=option), {"error": "NO_SUCH_OPTION"}
        )
    equal((await subject.call("polls::result", id=key))["voters"], 0)
    equal("ghost" in await subject.keys("polls::polls"), False)


@check("poll")
async def poll_is_shown_over_http(subject: Subject) -> None:
    key = await poll(subject, "x")
    equal(
        await subject.site.request("GET", f"/polls/{key}"), (200, await subject.call("polls::result", id=key))
    )
    equal(await subject.site.request("GET", "/polls/ghost"), (404, {"error": "NOT_FOUND"}))


# POST /links {url, slug}, GET /l/:slug, links::stats {slug}; scope links::links.


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_more: Any) -> None:
        """Redirects are looked at, not followed."""


async def followed(subject: Subject, slug: str) -> tuple[int, str | None]:
    """Status and location of a link."""

    def get() -> tuple[int, str | None]:
        try:
            with urllib.request.build_opener(_Stay).open(
                f"{subject.site.http}/l/{slug}", timeout=15
            ) as found:
                return found.status, found.headers["location"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["location"]

    return await asyncio.to_thread(get)


@check("links")
async def links_redirect_and_count(subject: Subject) -> None:
    link = {"slug": "docs", "url": "https://example.org/a?b=c"}
    equal(await subject.site.request("POST", "/links", link), (201, link))
    await asyncio.gather(*(followed(subject, "docs") for _ in range(12)))
    equal(await followed(subject, "docs"), (302, link["url"]))
    equal(await subject.call("links::stats", slug="docs"), {**link, "clicks": 13})
    equal("docs" in await subject.keys("links::links"), True)


@check("links")
async def links_asked_for_at_once_belong_to_the_first(subject: Subject) -> None:
    wishes = [{"slug": "mine", "url": f"https://example.org/{n}"} for n in range(12)]
    answers = await asyncio.gather(*(subject.site.request("POST", "/links", wish) for wish in wishes))
    equal(sorted(status for status, _ in answers), [201] + [409] * 11)
    (winner,) = [body["url"] for status, body in answers if status == 201]
    equal((await subject.call("links::stats", slug="mine"))["url"], winner)
    equal(await subject.site.request("POST", "/links", wishes[0]), (409, {"error": "TAKEN"}))


@check("links")
async def links_without_a_slug_get_one_of_their_own(subject: Subject) -> None:
    wishes = [{"url": f"https://example.org/{n}"} for n in range(12)]
    answers = await asyncio.gather(*(subject.site.request("POST", "/links", wish) for wish in wishes))
    equal([status for status, _ in answers], [201] * 12)
    equal(len({body["slug"] for _, body in answers}), 12)


@check("links")
async def links_unknown_slug_is_404_and_not_created(subject: Subject) -> None:
    equal((await followed(subject, "ghost"))[0], 404)
    equal(await subject.call("links::stats", slug="ghost"), {"error": "NOT_FOUND"})
    equal("ghost" in await subject.keys("links::links"), False)


@check("links")
async def links_bad_input_is_400(subject: Subject) -> None:
    for body in ({}, {"url": 5}, [], {"url": "https://example.org", "slug": 7}):
        equal(await subject.site.request("POST", "/links", body), (400, {"error": "INVALID"}))


# Orders in shop::orders, written by others; totals in shop::totals.


async def order(subject: Subject, key: str, customer: Any, cents: Any) -> None:
    value = {"id": key, "customer": customer, "cents": cents}
    await subject.call("state::set", scope="shop::orders", key=key, value=value)


async def early_order(subject: Subject) -> None:
    """What happened while the worker did not run."""
    await order(subject, "before", "early", 111)


BEFORE["totals"] = early_order


def total_of(subject: Subject, customer: str) -> Callable[[], Awaitable[Any]]:
    async def look() -> Any:
        found = await subject.call("state::get", scope="shop::totals", key=customer)
        return found and (found["cents"], found["orders"])

    return look


@check("totals")
async def totals_follow_new_changed_moved_and_deleted_orders(subject: Subject) -> None:
    for key, cents in (("o1", 500), ("o2", 250)):
        await order(subject, key, "ann", cents)
    await soon(total_of(subject, "ann"), (750, 2))
    ops = [{"type": "set", "path": "cents", "value": 300}]
    await subject.call("state::update", scope="shop::orders", key="o2", ops=ops)
    await soon(total_of(subject, "ann"), (800, 2))
    await order(subject, "o1", "bob", 500)
    await soon(total_of(subject, "bob"), (500, 1))
    await soon(total_of(subject, "ann"), (300, 1))
    await subject.call("state::delete", scope="shop::orders", key="o2")
    await soon(total_of(subject, "ann"), (0, 0))


@check("totals")
async def totals_of_orders_written_at_once_are_exact(subject: Subject) -> None:
    await asyncio.gather(*(order(subject, f"many{n}", "cid", n) for n in range(MANY)))
    await soon(total_of(subject, "cid"), (sum(range(MANY)), MANY))


@check("totals")
async def totals_of_an_order_changed_at_once_many_times_are_exact(subject: Subject) -> None:
    await asyncio.gather(*(order(subject, "hot", "dan", n) for n in range(MANY * 2)))
    now = await subject.call("state::get", scope="shop::orders", key="hot")
    await soon(total_of(subject, "dan"), (now["cents"], 1))


@check("totals")
async def totals_survive_values_that_are_no_orders_and_missing_fields(subject: Subject) -> None:
    for key, value in (
        ("n", None),
        ("t", "text"),
        ("l", [1]),
        ("e", {}),
        ("f", {"id": "f", "customer": "eve"}),
    ):
        await subject.call("state::set", scope="shop::orders", key=key, value=value)
    await order(subject, "w", 5, 1)
    await order(subject, "v", "eve", "7")
    await order(subject, "good", "eve", 70)
    await soon(total_of(subject, "eve"), (70, 1))
    await subject.call("state::set", scope="shop::orders", key="good", value="gone")
    await soon(total_of(subject, "eve"), (0, 0))


@check("totals")
async def totals_count_what_happened_before_the_worker_ran(subject: Subject) -> None:
    await soon(total_of(subject, "early"), (111, 1))
