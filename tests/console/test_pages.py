"""The tail, functions, triggers, workers and queues in the browser."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from support.console import NARROW, WIDE, ConsoleHost, Tab, press
from support.host import WAIT_S, running_host
from websockets.sync.client import connect

ROW = "[data-list=tail] .row"


@contextmanager
def worker(host: ConsoleHost, name: str, *functions: str) -> Iterator[Any]:
    """A worker that is connected and never answers."""
    with connect(f"ws://127.0.0.1:{host.worker_port}") as socket:
        identity = {"runtime": "python", "version": "0.24.6", "name": name, "description": "Sells chairs"}
        socket.send(
            json.dumps(
                {
                    "type": "invokefunction",
                    "function_id": "engine::workers::register",
                    "data": identity,
                    "action": {"type": "void"},
                }
            )
        )
        for function in functions:
            socket.send(json.dumps({"type": "registerfunction", "id": function}))
        yield socket


def test_the_tail_shows_changes_holds_and_filters(host: ConsoleHost, tab: Tab) -> None:
    page = tab.open(host, "tail")
    page.get_by_text("Nothing has changed yet").wait_for()
    host.set("shop", "chair", {"n": 9007199254740993})
    host.set("shop", "chair", {"n": 2})
    host.call("state::delete", scope="shop", key="chair")
    expect(page.locator(ROW)).to_have_count(3)
    texts = page.locator(ROW).all_inner_texts()
    assert [text.split()[1] for text in texts] == ["deleted", "updated", "created"]
    assert "9007199254740993" in texts[2]
    press(page, "Space")
    host.set("shop", "table", {"n": 1})
    host.set("cars", "fiat", {"n": 1})
    page.get_by_text("2 new changes wait").wait_for()
    expect(page.locator(ROW)).to_have_count(3)
    press(page, "Space")
    expect(page.locator(ROW)).to_have_count(5)
    press(page, "/")
    page.keyboard.type("CARS")
    expect(page.locator(ROW)).to_have_count(1)
    press(page, "Enter")
    press(page, "ArrowDown")
    press(page, "Enter")
    expect(page.locator(".key-name")).to_have_text("fiat")


def test_the_tail_goes_on_after_a_cut_and_tells_of_a_gap(host: ConsoleHost, tab: Tab) -> None:
    page = tab.open(host, "tail")
    for number in range(5):
        host.set("s", "k", number)
        page.evaluate("() => import('/feed.js').then((feed) => feed.cut())")
        host.set("s", "k", -number - 1)
        expect(page.locator(ROW)).to_have_count(2 * number + 2)
    values = [text.split()[-3] for text in page.locator(ROW).all_inner_texts()]
    assert values == [str(value) for number in reversed(range(5)) for value in (-number - 1, number)]
    host.restart()
    page.get_by_label("Address or token").fill(host.url)
    press(page, "Enter")
    page.get_by_text("Changes before this are not known").wait_for()
    host.set("s", "k", 100)
    expect(page.locator(ROW).first).to_contain_text("100")


def test_a_tab_that_nobody_sees_gives_its_connection_back_and_goes_on_later(
    host: ConsoleHost, tab: Tab
) -> None:
    page = tab.open(host, "tail")
    host.set("s", "k", 1)
    expect(page.locator(ROW)).to_have_count(1)
    console = host.host._console
    assert console is not None
    hide = """seen => {
      Object.defineProperty(document, "visibilityState", { value: seen, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, "hidden")
    page.evaluate("() => import('/feed.js').then((feed) => feed.sleep())")
    while console._app._feeds:
        page.wait_for_timeout(50)
    host.set("s", "k", 2)
    page.wait_for_timeout(800)
    assert not console._app._feeds
    page.evaluate(hide, "visible")
    expect(page.locator(ROW)).to_have_count(2)


def test_a_burst_is_shown_whole_and_bounded(host: ConsoleHost, tab: Tab) -> None:
    page = tab.open(host, "tail")
    host.fill("s", [f"k{number}" for number in range(5000)])
    expect(page.locator(ROW).first).to_contain_text("k4999")
    shown = page.locator(".whole h1 small").inner_text().replace("\u2009", "")
    assert 3000 <= int(shown) <= 3500
    assert page.locator(ROW).count() < 60


def test_what_is_left_out_of_a_flood_is_told_and_its_values_are_shown(
    host: ConsoleHost, new_tab: Callable[..., Tab]
) -> None:
    host.set("s", "watched", "before")
    tail, value = new_tab(), new_tab()
    tail.open(host, "tail")
    value.open(host, "state", "s", "watched")
    expect(value.page.locator(".pane.value")).to_contain_text("before")
    host.set("s", "watched", "after")
    host.fill("s", [f"k{number}" for number in range(12_000)])
    expect(tail.page.locator(ROW).first).to_contain_text("k11999")
    expect(value.page.locator(".pane.value")).to_contain_text("after")
    tail.page.get_by_label("Scope, key or value").fill("no such thing")
    expect(tail.page.locator(ROW).first).to_contain_text("left out here")


def test_functions_are_called_from_a_form(host: ConsoleHost, tab: Tab) -> None:
    def fail(payload: Any) -> None:
        raise ValueError(f"no {payload['what']}")

    host.host.register_function("shop::fail", fail, description="It fails")
    host.put("s", "k", '{"n":9007199254740993}')
    page = tab.open(host, "functions")
    page.get_by_text("Choose a function").wait_for()
    press(page, "/")
    page.keyboard.type("compare")
    press(page, "Enter")
    press(page, "Enter")
    page.get_by_role("heading", name="state::compare-and-set").wait_for()
    page.get_by_label("scope").fill("s")
    page.get_by_label("key").fill('k"')
    page.get_by_label("key").fill("k")
    page.get_by_label("value").fill('{"n": 01}')
    page.get_by_label("expected").fill('{"n": 9007199254740993}')
    press(page, "Control+Enter")
    page.get_by_text("Line 4, column").wait_for()
    page.get_by_label("value").fill('{"n": 9007199254740994}')
    press(page, "Control+Enter")
    answer = page.get_by_label("Answer").locator("textarea")
    expect(answer).to_have_value('{\n  "swapped": true\n}')
    assert " ms" in page.get_by_role("region", name="Answer").inner_text()
    assert host.text("s", "k") == '{"n": 9007199254740994}'
    page.get_by_role("button", name="JSON").click()
    page.get_by_label("Payload as JSON").fill('{"scope": "s", "key": "k", "value": 1.0}')
    page.get_by_role("button", name="Invoke").click()
    expect(answer).to_have_value('{\n  "swapped": false,\n  "current": {\n    "n": 9007199254740994\n  }\n}')
    tab.go(host, "functions", "shop::fail")
    page.get_by_label("Payload as JSON").fill('{"what": "chairs"}')
    press(page, "Control+Enter")
    page.get_by_text("no chairs", exact=True).wait_for()
    page.get_by_label("Of workers only").check()
    expect(page.locator("[data-list=functions] .row")).to_have_count(0)
    page.locator("[data-search]").fill("")
    expect(page.locator("[data-list=functions] .row")).to_have_count(1)


ODD_SCHEMAS = [
    {"type": "object", "properties": {"a": None, "b": {"type": 5}, "c": {"type": ["string", None]}}},
    {"type": "object", "properties": {"a": {"enum": [{"x": 1}, None, "<b>"], "description": {"evil": 1}}}},
    {"type": "object", "properties": [1, 2], "required": 7},
    {"type": "object", "properties": {"<img src=x>": {"type": "string"}}, "required": "x"},
    {"type": {"evil": 1}},
    ["no", "schema"],
    "text",
]


def test_schemas_of_workers_may_be_anything(host: ConsoleHost, tab: Tab) -> None:
    page = tab.open(host, "functions")
    with connect(f"ws://127.0.0.1:{host.worker_port}") as socket:
        for number, schema in enumerate(ODD_SCHEMAS):
            message = {"type": "registerfunction", "id": f"odd::f{number}", "request_format": schema}
            socket.send(json.dumps({**message, "description": "<script>alert(1)</script>"}))
        page.locator("[data-search]").fill("odd::f")
        expect(page.locator("[data-list=functions] .row")).to_have_count(len(ODD_SCHEMAS))
        for number in range(len(ODD_SCHEMAS)):
            with page.expect_response(lambda answer: "functions::info" in (answer.request.post_data or "")):
                tab.go(host, "functions", f"odd::f{number}")
            tab.look()
            page.get_by_role("heading", name=f"odd::f{number}").wait_for()
            page.get_by_role("heading", name="Payload").wait_for()
            assert page.get_by_text("This page failed").count() == 0
        assert page.locator("main script, main img").count() == 0


def test_a_page_that_fails_says_so_and_the_others_go_on(host: ConsoleHost, tab: Tab) -> None:
    page = tab.open(host, "state")
    answer = json.dumps({"text": '{"workers": [{"id": 1, "name": {}}]}', "size": 1, "duration_ms": 1})
    page.route("**/api/call", lambda route: route.fulfill(body=answer, content_type="application/json"))
    tab.go(host, "workers")
    page.get_by_text("This page failed").wait_for()
    page.unroute("**/api/call")
    tab.go(host, "tail")
    page.get_by_text("Nothing has changed yet").wait_for()
    tab.go(host, "workers")
    page.get_by_text("No worker is connected").wait_for()


def test_triggers_tell_when_they_fired_and_what_failed(host: ConsoleHost, tab: Tab) -> None:
    page = tab.open(host, "triggers")
    page.get_by_text("Nothing reacts to anything yet").wait_for()

    def fail(_event: Any) -> None:
        raise ValueError("the mail server says no")

    async def register() -> None:
        host.host.register_function("shop::on-change", lambda event: None)
        host.host.register_function("mail::send", fail)
        host.host.register_trigger("state", "shop::on-change", {"scope": "shop"})
        host.host.register_trigger("state", "mail::send", {"scope": "shop"})
        await host.host.observe("state::on-changed", "shop::on-change", filters={"input.scope": {"$eq": "x"}})

    host.wait(register())
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.locator("tbody tr").first).to_contain_text("not yet")
    for number in range(3):
        host.set("shop", "k", number)
    good, bad, observer = (page.locator("tbody tr").nth(at) for at in range(3))
    # A look in between counts less.
    expect(good.locator("td").nth(3)).to_have_text("3")
    expect(good).to_contain_text("ago")
    expect(bad.locator("td").nth(3)).to_have_text("3")
    expect(bad).to_contain_text("the mail server says no")
    expect(observer).to_contain_text("active")
    expect(observer.locator("td").nth(3)).to_have_text("0")
    press(page, "/")
    page.keyboard.type("mail")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_workers_are_listed_with_their_sdk_and_what_they_do(host: ConsoleHost, tab: Tab) -> None:
    page = tab.open(host, "workers")
    page.get_by_text("No worker is connected").wait_for()
    with worker(host, "chairs", "chairs::sell") as socket:
        row = page.locator("tbody tr", has_text="chairs")
        # It is listed before its function is, if the page looks in between.
        for at, text in enumerate(("python 0.24.6", "default", "1", "0"), 1):
            expect(row.locator("td").nth(at)).to_have_text(text)
        tab.go(host, "functions", "chairs::sell")
        page.get_by_role("button", name="Invoke").click()
        while json.loads(socket.recv(10))["type"] != "invokefunction":
            pass
        tab.go(host, "workers")
        expect(row.locator("td").nth(4)).to_have_text("1")
    page.get_by_text("No worker is connected").wait_for()


def test_dead_letters_get_another_try(host: ConsoleHost, tab: Tab) -> None:
    page = tab.open(host, "queues")
    page.get_by_text("No queue yet").wait_for()
    broken = [True]
    done: list[Any] = []

    def work(job: Any) -> None:
        if broken:
            raise ValueError("out of paper")
        done.append(job)

    async def enqueue() -> None:
        host.host.register_function("print::page", work)
        config = {"max_retries": 1, "backoff_ms": 1}
        await host.host.trigger("queue::define", {"queue": "prints", "config": config})
        for number in range(3):
            await host.host.trigger(
                "engine::queue::enqueue",
                {
                    "queue": "prints",
                    "function_id": "print::page",
                    "messageReceiptId": f"r{number}",
                    "data": {"n": 9007199254740993 + number},
                },
            )

    host.wait(enqueue())
    row = page.locator("tbody tr", has_text="prints")
    expect(row.locator("td").nth(3)).to_have_text("3")
    row.get_by_role("link").click()
    expect(page.locator(".letter")).to_have_count(3)
    expect(page.locator(".letter").last).to_contain_text("out of paper")
    expect(page.locator(".letter header .soft").last).to_have_text(re.compile(r" · 1 attempt$"))
    expect(page.locator(".letter").last).to_contain_text("9007199254740993")
    page.get_by_role("button", name="Discard").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(page.locator(".letter")).to_have_count(2)
    broken.clear()
    page.locator(".letter").last.get_by_role("button", name="Try again").click()
    expect(page.locator(".letter")).to_have_count(1)
    page.get_by_role("button", name="Try all again").click()
    page.get_by_text("No dead letters").wait_for()
    # It is no letter any more as soon as it is in the queue again.
    while len(done) < 2:
        page.wait_for_timeout(20)
    assert sorted(job["n"] for job in done) == [9007199254740993, 9007199254740994]


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_everybody_can_use_them(
    host: ConsoleHost, new_tab: Callable[..., Tab], size: tuple[int, int]
) -> None:
    tab = new_tab(size)
    page = tab.open(host, "tail")
    host.host.register_function("shop::on-change", lambda event: None)
    host.host.register_trigger("state", "shop::on-change", {"scope": "shop"})
    host.wait(host.host.observe("state::on-changed", "shop::on-change"))
    host.set("shop", "chair", {"n": 1})
    host.call("state::delete", scope="shop", key="chair")
    expect(page.locator(ROW)).to_have_count(2)
    found = {"tail": tab.violations()}
    tab.go(host, "functions", "state::update")
    page.get_by_label("scope").wait_for()
    page.get_by_role("button", name="Invoke").click()
    page.get_by_role("heading", name="Failed").wait_for()
    found["function"] = tab.violations()
    tab.go(host, "functions")
    found["functions"] = tab.violations()
    with worker(host, "chairs", "chairs::sell"):
        for name in ("triggers", "workers"):
            tab.go(host, name)
            page.locator("tbody tr").first.wait_for()
            found[name] = tab.violations()
    job = {"function_id": "nobody::there", "messageReceiptId": "r"}
    host.call("engine::queue::enqueue", queue="prints", **job)
    tab.go(host, "queues")
    page.locator("tbody tr").first.wait_for()
    found["queues"] = tab.violations()
    tab.go(host, "queues", "prints")
    page.get_by_text("No dead letters").wait_for()
    page.get_by_text("What waits is kept until a worker offers its function").wait_for()
    found["queue"] = tab.violations()
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert page.evaluate("() => document.documentElement.scrollWidth") <= size[0]


@contextmanager
def console_of(url: str) -> Iterator[str]:
    """`iii-skill console` as a process; the address of its page."""
    command = [
        sys.executable,
        "-m",
        "iii_skill",
        "console",
        "--url",
        url,
        "--console-port",
        "0",
        "--ready-json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["console"]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0


def look(tab: Tab, address: str) -> Page:
    tab.page.goto(address)
    told = "() => ['Live', 'No changes told'].includes(document.querySelector('.status')?.textContent)"
    tab.page.wait_for_function(told)
    return tab.page


def test_a_host_elsewhere_is_looked_at_and_found_again(tmp_path: Path, tab: Tab) -> None:
    with running_host(tmp_path, "--data-dir", "state") as served:
        with connect(served.ws) as socket:
            data = {"scope": "s", "key": "k", "value": 1}
            call = {"type": "invokefunction", "function_id": "state::set", "data": data}
            socket.send(json.dumps({**call, "action": {"type": "void"}}))
        with console_of(served.ws) as address:
            page = look(tab, address)
            page.get_by_text("s", exact=True).click()
            page.locator("[data-list=keys] .row").click()
            page.locator("[data-edit]").click()
            page.locator("textarea").fill("[2]")
            served.sigkill()
            page.get_by_text("The host is away").wait_for()
            press(page, "Control+Enter")
            page.get_by_text("is away; trying to reach it again").wait_for()
            served.start()
            page.wait_for_selector(".status.live")
            press(page, "Control+Enter")
            page.get_by_text("Saved", exact=True).wait_for()


def test_an_engine_without_our_functions_is_shown_as_far_as_it_goes(tmp_path: Path, tab: Tab) -> None:
    options = ("--adapter", "memory", "--engine-functions-only", "--without", "queue")
    with running_host(tmp_path, *options) as served:
        with connect(served.ws) as socket:
            data = {"scope": "s", "key": "k", "value": 1}
            call = {"type": "invokefunction", "function_id": "state::set", "data": data}
            socket.send(json.dumps({**call, "action": {"type": "void"}}))
        with console_of(served.ws) as address:
            page = look(tab, address)
            page.get_by_text("s", exact=True).click()
            page.get_by_text("Values without their keys").wait_for()
            page.get_by_role("button", name="Open a key").click()
            page.get_by_role("textbox", name="Key").fill("k")
            press(page, "Enter")
            expect(page.locator("textarea")).to_have_value("1")
            page.get_by_text("values are only shown").wait_for()
            expect(page.locator("[data-edit]")).to_be_disabled()
            press(page, "6")
            page.get_by_text("No queues here").wait_for()


def test_nothing_to_look_at_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "iii_skill", "console", "--url", "ws://127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 5
    assert done.stderr.startswith("Error: Nothing answers at ws://127.0.0.1:9: ")
    assert "Traceback" not in done.stderr
