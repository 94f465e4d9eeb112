"""State in the browser: what is there is found, and what is edited is never lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from playwright.sync_api import APIResponse, Locator, Page, Route, expect
from support.console import NARROW, ConsoleHost, Tab, press

EXACT = '{"n":9007199254740993,"price":1.0,"big":123456789012345678901234567890,"e":1E2,"z":-0}'
EDITOR = ".pane.value textarea"
SECOND = "Control+Enter"


def rows(page: Page, name: str) -> list[str]:
    return [text.strip() for text in page.locator(f"[data-list={name}] .row .name").all_inner_texts()]


def tree_row(page: Page, name: str) -> Locator:
    return page.locator("[data-list=keys] .row").filter(has=page.get_by_text(name, exact=True))


def open_key(tab: Tab, host: ConsoleHost, scope: str, key: str) -> Page:
    page = tab.open(host, "state", scope, key)
    page.wait_for_selector(EDITOR)
    return page


def edit(page: Page, text: str) -> None:
    """Replace the text of the value that is open."""
    if page.locator("[data-edit]").count():
        page.locator("[data-edit]").click()
    page.locator(EDITOR).fill(text)


def test_scopes_have_counts_and_keys_are_a_tree(host: ConsoleHost, tab: Tab) -> None:
    host.fill("shop", ["product:1", "product:2", "order/2026/1", "order/2026/2", "single"])
    host.fill("visits", ["ann"])
    page = tab.open(host)
    expect(page.locator("[data-list=scopes] .row")).to_have_count(2)
    expect(page.locator("[data-list=scopes] .row").first).to_contain_text("shop5")
    page.get_by_text("shop", exact=True).click()
    expect(page.locator("[data-list=keys] .row")).to_have_count(3)
    assert rows(page, "keys") == ["order/2026/", "product:", "single"]
    page.get_by_text("product:").click()
    expect(page.locator("[data-list=keys] .row")).to_have_count(5)
    assert rows(page, "keys") == ["order/2026/", "product:", "1", "2", "single"]
    host.set("shop", "product:3", 1)
    host.call("state::delete", scope="visits", key="ann")
    expect(page.locator("[data-list=keys] .row")).to_have_count(6)
    expect(page.locator("[data-list=scopes] .row").first).to_contain_text("shop6")


def test_the_keyboard_does_everything(host: ConsoleHost, tab: Tab) -> None:
    host.fill("shop", ["product:1", "product:2", "single"], {"n": 1})
    page = tab.open(host)
    page.wait_for_selector("[data-list=scopes]:focus")
    press(page, "ArrowDown")
    press(page, "Enter")
    page.wait_for_selector("[data-list=keys]:focus .row")
    press(page, "ArrowDown")
    press(page, "ArrowRight")
    expect(page.locator("[data-list=keys] .row")).to_have_count(4)
    press(page, "ArrowDown")
    press(page, "ArrowDown")
    press(page, "Enter")
    expect(page.locator(".key-name")).to_have_text("product:2")
    page.wait_for_selector(EDITOR)
    press(page, "e")
    page.wait_for_selector(f"{EDITOR}:focus")
    press(page, "Control+A")
    page.keyboard.type('{"n": 2}')
    press(page, SECOND)
    page.get_by_text("Saved", exact=True).wait_for()
    assert host.text("shop", "product:2") == '{"n":2}'
    press(page, "e")
    page.wait_for_selector(f"{EDITOR}:focus")
    page.keyboard.type("x")
    press(page, "Escape")
    page.get_by_role("dialog").get_by_text("Drop your edit?").wait_for()
    press(page, "Enter")
    page.wait_for_selector("[data-edit]")
    assert host.text("shop", "product:2") == '{"n":2}'
    press(page, "/")
    page.wait_for_selector(".keys [data-search]:focus")
    page.keyboard.type("SING")
    expect(page.locator("[data-list=keys] .row")).to_have_count(1)
    expect(page.locator("mark")).to_have_text("sing")
    press(page, "Enter")
    page.wait_for_selector("[data-list=keys]:focus")
    press(page, "Delete")
    page.get_by_role("dialog").get_by_text("Delete this key?").wait_for()
    press(page, "Enter")
    page.get_by_role("button", name="Undo").wait_for()
    assert host.text("shop", "single") == ""
    page.get_by_role("button", name="Undo").press("Enter")
    page.get_by_text("single is back").wait_for()
    assert host.text("shop", "single") == '{"n":1}'
    press(page, "n")
    page.get_by_role("dialog").get_by_label("Key").fill("made")
    press(page, SECOND)
    expect(page.locator(".key-name")).to_have_text("made")
    assert host.text("shop", "made") == "{}"
    press(page, "?")
    page.get_by_role("dialog").get_by_text("Ctrl-Enter").wait_for()
    press(page, "Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_digits_survive_being_opened_edited_and_saved(host: ConsoleHost, tab: Tab) -> None:
    host.put("s", "exact", EXACT)
    page = open_key(tab, host, "s", "exact")
    shown = page.locator(EDITOR).input_value()
    assert '"n": 9007199254740993,\n  "price": 1.0,' in shown
    edit(page, shown.replace("1E2", "1E3"))
    press(page, SECOND)
    page.get_by_text("Saved", exact=True).wait_for()
    assert host.text("s", "exact") == EXACT.replace("1E2", "1E3")


def test_mistakes_are_told_with_their_place_and_nothing_is_stored(host: ConsoleHost, tab: Tab) -> None:
    host.put("s", "k", '{"a":1}')
    page = open_key(tab, host, "s", "k")
    edit(page, '{\n  "a": 1,\n  "b": 01\n}')
    page.locator("footer .wrong").wait_for()
    assert "Line 3, column 8: number with leading zero" in page.locator("footer .wrong").inner_text()
    press(page, SECOND)
    page.wait_for_function("() => document.querySelector('.pane.value textarea').selectionStart === 19")
    assert host.text("s", "k") == '{"a":1}'
    edit(page, '{"a":1, "b": "<script>alert(1)</script>"}')
    expect(page.locator("footer .wrong")).to_have_count(0)
    page.get_by_role("button", name="Format").click()
    expect(page.locator(EDITOR)).to_have_value('{\n  "a": 1,\n  "b": "<script>alert(1)</script>"\n}')
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved", exact=True).wait_for()
    assert host.text("s", "k") == '{"a":1,"b":"<script>alert(1)</script>"}'


def test_a_change_of_others_never_touches_the_text_under_the_cursor(host: ConsoleHost, tab: Tab) -> None:
    host.set("s", "k", {"a": 1, "b": 1})
    page = open_key(tab, host, "s", "k")
    host.set("s", "k", {"a": 1, "b": 2})
    expect(page.locator(EDITOR)).to_have_value('{\n  "a": 1,\n  "b": 2\n}')
    press(page, "e")
    edit(page, '{"a": 5, "b": 2}')
    page.evaluate("() => document.querySelector('.pane.value textarea').setSelectionRange(3, 3)")
    host.set("s", "k", {"a": 1, "b": 3})
    page.locator(".bar").get_by_text("changed by somebody else").wait_for()
    expect(page.locator(EDITOR)).to_have_value('{"a": 5, "b": 2}')
    assert page.evaluate("() => document.querySelector('.pane.value textarea').selectionStart") == 3
    # An edit outlives a walk through other places.
    tab.go(host, "state")
    tab.go(host, "state", "s", "k")
    expect(page.locator(EDITOR)).to_have_value('{"a": 5, "b": 2}')
    press(page, SECOND)
    page.get_by_role("button", name="Save merged").wait_for()
    assert host.text("s", "k") == '{"a":1,"b":3}'
    press(page, SECOND)
    page.get_by_text("Saved", exact=True).wait_for()
    assert host.text("s", "k") == '{"a":5,"b":3}'


def test_what_was_read_before_a_save_is_not_shown_after_it(host: ConsoleHost, tab: Tab) -> None:
    host.set("s", "k", {"n": 1})
    page = open_key(tab, host, "s", "k")
    held: list[tuple[Route, APIResponse]] = []
    page.route(
        "**/api/value",
        lambda route: route.continue_() if held else held.append((route, route.fetch())),
    )
    page.evaluate("() => import('/feed.js').then((feed) => feed.cut())")
    while not held:
        page.wait_for_timeout(20)
    edit(page, '{"n": 5}')
    press(page, SECOND)
    page.get_by_text("Saved", exact=True).wait_for()
    shown = page.evaluate_handle(
        """() => {
          const shown = [];
          new MutationObserver(() => shown.push(document.querySelector(".ink")?.textContent))
            .observe(document.querySelector(".pane.value"), {
              subtree: true, childList: true, characterData: true
            });
          return shown;
        }"""
    )
    route, response = held[0]
    # It is read once more behind the one that was held.
    with page.expect_response(lambda answer: answer.request != route.request and "/api/value" in answer.url):
        route.fulfill(response=response)
    tab.look()
    assert [text for text in shown.json_value() if '"n": 1' in (text or "")] == []
    expect(page.locator(EDITOR)).to_have_value('{\n  "n": 5\n}')


def test_a_clash_shows_three_texts_and_decides_nothing(host: ConsoleHost, tab: Tab) -> None:
    host.set("s", "k", {"a": 1, "b": 1})
    page = open_key(tab, host, "s", "k")
    edit(page, '{"a": 2, "b": 1}')
    host.set("s", "k", {"a": 3, "b": 1})
    press(page, SECOND)
    page.get_by_text("Both of you changed /a").wait_for()
    expect(page.locator(".column")).to_have_count(3)
    assert page.locator(".column .changed").all_inner_texts() == ['  "a": 3,', '  "a": 2,']
    assert host.text("s", "k") == '{"a":3,"b":1}'
    page.get_by_role("button", name="Edit mine").click()
    expect(page.locator(EDITOR)).to_have_value('{\n  "a": 2,\n  "b": 1\n}')
    press(page, SECOND)
    page.get_by_text("Saved", exact=True).wait_for()
    assert host.text("s", "k") == '{"a":2,"b":1}'
    edit(page, '{"a": 9}')
    host.call("state::delete", scope="s", key="k")
    page.locator(".bar").get_by_text("deleted by somebody else").wait_for()
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="Take theirs").click()
    page.get_by_text("No value").wait_for()


def race(host: ConsoleHost, make: Callable[[], Tab], rounds: int) -> None:
    """Two people change members of their own of one value, as quickly as they can."""
    host.set("race", "k", {"left": 0, "right": 0})
    pages = [open_key(make(), host, "race", "k") for _ in range(2)]
    for page in pages:
        page.evaluate(
            """() => {
              const wait = (found) => new Promise((done) => {
                const look = () => { const one = found(); if (one) done(one); else setTimeout(look, 4); };
                look();
              });
              const button = (name) => [...document.querySelectorAll("button")].find(
                (one) => one.textContent.trim() === name && !one.disabled);
              const area = () => document.querySelector(".pane.value textarea");
              Object.assign(window, { rounds: 0, merges: 0, enough: false, over: false });
              window.run = async (side) => {
                for (; !enough; rounds++) {
                  (await wait(() => document.querySelector("[data-edit]:not([disabled])"))).click();
                  await wait(() => area() && !area().readOnly);
                  const text = area().value;
                  const number = Number(new RegExp(`"${side}": (\\\\d+)`).exec(text)[1]);
                  area().value = text.replace(`"${side}": ${number}`, `"${side}": ${number + 1}`);
                  area().dispatchEvent(new Event("input", { bubbles: true }));
                  (await wait(() => button("Save"))).click();
                  for (;;) {
                    const next = await wait(
                      () => button("Save merged") ?? document.querySelector("[data-edit]"));
                    if (next.dataset.edit !== undefined) break;
                    window.merges++;
                    const stored = () => document.querySelector(".column.theirs pre")?.textContent;
                    const before = stored();
                    next.click();
                    await wait(() => stored() !== before);
                  }
                }
                window.over = true;
              };
            }"""
        )
    for page, side in zip(pages, ("left", "right"), strict=True):
        page.evaluate("side => { run(side); }", side)
    # So long as it takes that they meet, wherever the machine lets one of them run ahead.
    while True:
        told = [page.evaluate("() => [window.rounds, window.merges]") for page in pages]
        if min(done for done, _ in told) >= rounds and sum(merges for _, merges in told):
            break
        pages[0].wait_for_timeout(50)
    for page in pages:
        page.evaluate("() => { window.enough = true; }")
    for page in pages:
        page.wait_for_function("() => window.over", timeout=600_000)
    left, right = (page.evaluate("() => window.rounds") for page in pages)
    assert json.loads(host.text("race", "k")) == {"left": left, "right": right}


@pytest.mark.timeout(900)
def test_two_browsers_race_on_one_key_and_lose_nothing(
    host: ConsoleHost, new_tab: Callable[..., Tab]
) -> None:
    race(host, new_tab, 500 if os.environ.get("III_SKILL_TEST_ALL") else 50)


def test_a_hundred_thousand_keys_are_browsed(host: ConsoleHost, tab: Tab) -> None:
    host.fill("many", [f"user:{number % 1000}:{number}" for number in range(50_000)])
    host.fill("many", [f"flat{number:05}" for number in range(50_000)])
    page = tab.open(host, "state", "many")
    page.get_by_text("100\u2009000 keys").wait_for()
    page.locator("[data-list=keys]").focus()
    press(page, "End")
    tree_row(page, "user:").wait_for()
    press(page, "ArrowUp")
    tree_row(page, "flat49999").wait_for()
    assert page.locator("[data-list=keys] .row").count() < 60
    tab.look()
    page.evaluate(
        "() => { const list = document.querySelector('[data-list=keys]'); list.scrollTop = 25000 * 30; }"
    )
    tree_row(page, "flat25000").wait_for()
    press(page, "End")
    tree_row(page, "user:").wait_for()
    press(page, "ArrowRight")
    tree_row(page, "0:").wait_for()
    press(page, "End")
    tree_row(page, "999:").wait_for()
    page.locator("[data-search]").last.fill("42:42")
    expect(page.locator(".found")).to_have_text("12 found")
    page.locator("[data-search]").last.fill("flat4999")
    expect(page.locator(".found")).to_have_text("10 found")
    heap = page.evaluate("() => performance.memory.usedJSHeapSize")
    assert heap < 100e6


def test_deleting_under_a_branch_asks_and_leaves_the_rest(host: ConsoleHost, tab: Tab) -> None:
    host.fill("s", [f"old:{number}" for number in range(1200)] + ["old", "older:1", "older:2"])
    page = tab.open(host, "state", "s")
    tree_row(page, "old:").click()
    page.get_by_role("button", name="Delete old:").click()
    page.get_by_role("dialog").get_by_text("Delete 1\u2009200 keys?").wait_for()
    page.get_by_role("button", name="Cancel").click()
    assert len(host.call("state::list_keys", scope="s")["keys"]) == 1203
    page.locator("[data-list=keys]").focus()
    press(page, "Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete 1\u2009200 keys").click()
    page.get_by_text("Deleted 1\u2009200 keys").wait_for()
    assert sorted(host.call("state::list_keys", scope="s")["keys"]) == ["old", "older:1", "older:2"]


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "\u202eevil\u202c",
    "\u05d0\u05d1\u05d2:\u05d3",
    "a/../..%2f#?&",
    " lead and trail ",
    "new\nline\ttab",
    "\x00\x1b[31m",
    "x" * 20_000,
    "\U0001f600" * 50,
    "%",
    "__proto__",
]


def test_hostile_names_and_values_are_shown_as_what_they_are(host: ConsoleHost, tab: Tab) -> None:
    for name in HOSTILE:
        host.set(name, name, {name: name, "html": "<b>bold</b></textarea></script><!--"})
    page = tab.open(host)
    expect(page.locator("[data-list=scopes] .row")).to_have_count(len(HOSTILE))
    for name in HOSTILE:
        tab.go(host, "state", name, name)
        expect(page.locator(EDITOR)).to_have_value(
            json.dumps(
                {name: name, "html": "<b>bold</b></textarea></script><!--"}, indent=2, ensure_ascii=False
            )
            .replace("\x00", "\\u0000")
            .replace("\x1b", "\\u001b")
        )
        page.locator("[data-edit]").click()
        page.wait_for_selector(f"{EDITOR}:focus")
        press(page, "Control+Home")
        press(page, "ArrowRight")
        page.keyboard.type('"added": 1,')
        press(page, SECOND)
        page.wait_for_selector("[data-edit]")
        assert json.loads(host.text(name, name))["added"] == 1, name
    assert page.locator("b, img, main script").count() == 0
    assert "\\u202eevil\\u202c" in page.locator("[data-list=scopes]").inner_text()


@pytest.mark.timeout(300)  # a browser lays out 100,000 lines, several times
def test_values_of_a_megabyte_are_edited_and_larger_ones_are_not(host: ConsoleHost, tab: Tab) -> None:
    host.put("s", "flat", '"' + "x" * 1_000_000 + '"')
    host.put("s", "rows", "[" + ",".join(['{"n":9007199254740993}'] * 45_000) + "]")
    host.put("s", "huge", '"' + "y" * 60_000_000 + '"')
    page = open_key(tab, host, "s", "rows")
    assert page.locator(EDITOR).input_value().count("\n") > 100_000
    press(page, "e")
    page.wait_for_selector(f"{EDITOR}:focus")
    page.locator("footer .place").wait_for()
    tab.look()
    assert page.locator(EDITOR).evaluate("area => [area.scrollTop, area.selectionStart]") == [0, 0]
    edit(page, "[1]")
    press(page, SECOND)
    page.get_by_text("Saved", exact=True).wait_for()
    assert host.text("s", "rows") == "[1]"
    tab.go(host, "state", "s", "flat")
    expect(page.locator(".key-name")).to_have_text("flat")
    page.wait_for_function("() => document.querySelector('.pane.value textarea')?.value.length === 1000002")
    tab.go(host, "state", "s", "huge")
    page.get_by_role("heading", name="60.0 MB").wait_for()
    expect(page.locator("[data-edit]")).to_be_disabled()
    press(page, "e")
    assert page.locator(EDITOR).count() == 0


def test_a_cut_stream_is_resumed_and_a_restarted_host_is_found_again(host: ConsoleHost, tab: Tab) -> None:
    host.set("s", "k", 1)
    page = open_key(tab, host, "s", "k")
    page.evaluate("() => import('/feed.js').then((feed) => feed.cut())")
    host.set("s", "k", 2)
    expect(page.locator(EDITOR)).to_have_value("2")
    edit(page, "3")
    host.restart()
    host.set("s", "k", 5)
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("This console wants its token").wait_for()
    dialog.get_by_label("Address or token").fill("wrong")
    press(page, "Enter")
    # Asked for again, with nothing in the field.
    expect(dialog.get_by_label("Address or token")).to_have_value("")
    dialog.get_by_label("Address or token").fill(host.url)
    press(page, "Enter")
    page.wait_for_selector(".status.live")
    # What was typed is there, and what happened meanwhile is told.
    expect(page.locator(EDITOR)).to_have_value("3")
    page.locator(".bar").get_by_text("changed by somebody else").wait_for()
    assert "token" not in page.evaluate("() => location.href")


def test_what_went_wrong_can_be_read_in_a_narrow_column(host: ConsoleHost, tab: Tab) -> None:
    page = tab.open(host)
    tab.go(host, "tail")
    host.stop()
    tab.go(host, "state")
    said = page.locator(".scopes .trouble strong")
    expect(said).to_have_text("The console does not answer. Does it still run?")
    place = said.bounding_box()
    assert place is not None
    assert place["height"] < 5 * 20, "some words on each line"


def test_a_wrong_token_opens_nothing(host: ConsoleHost, tab: Tab) -> None:
    host.set("secret", "k", 1)
    tab.page.goto(f"{host.address}/#token=wrong")
    tab.page.get_by_text("This console wants its token").wait_for()
    assert "secret" not in tab.page.content()
    tab.page.goto(f"{host.address}/#token={host.token}")
    tab.page.get_by_text("secret").wait_for()


def test_an_answer_to_a_token_of_before_asks_for_no_other_one(host: ConsoleHost, tab: Tab) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer wrong":
            held.append(route)
        else:
            route.continue_()

    page = tab.page
    page.route("**/api/about", hold)
    page.goto(f"{host.address}/#token=wrong")
    page.get_by_text("This console wants its token").wait_for()
    while not held:
        page.wait_for_timeout(20)
    page.get_by_label("Address or token").fill(host.url)
    press(page, "Enter")
    page.wait_for_selector(".status.live")
    for route in held:
        with page.expect_response(lambda answer, route=route: answer.request == route.request):  # type: ignore[misc]
            route.continue_()
    tab.look()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".status")).to_have_text("Live")


def test_an_empty_host_says_what_to_do(host: ConsoleHost, tab: Tab) -> None:
    page = tab.open(host)
    page.get_by_text("No state yet").wait_for()
    press(page, "n")
    page.get_by_role("dialog").get_by_label("Scope").fill("s")
    page.get_by_role("dialog").get_by_label("Key").fill("k")
    page.get_by_role("dialog").get_by_label("Value, as JSON").fill("{")
    page.get_by_role("button", name="Make it").click()
    page.get_by_role("dialog").get_by_text("Line 1, column").wait_for()
    page.get_by_role("dialog").get_by_label("Value, as JSON").fill("7")
    host.set("s", "k", 1)
    page.get_by_role("button", name="Make it").click()
    page.get_by_role("dialog").get_by_text("There is such a key already").wait_for()
    assert host.text("s", "k") == "1"


@pytest.mark.parametrize("size", [(1280, 800), NARROW], ids=["wide", "narrow"])
def test_everybody_can_use_it(host: ConsoleHost, new_tab: Callable[..., Tab], size: tuple[int, int]) -> None:
    tab = new_tab(size)
    page = tab.page
    page.goto(host.address)
    page.get_by_text("This console wants its token").wait_for()
    found = {"locked": tab.violations()}
    page = tab.open(host)
    page.get_by_text("No state yet").wait_for()
    found["empty"] = tab.violations()
    host.fill("shop", ["product:1", "product:2", "single"], {"n": 1, "text": "x", "on": True})
    page.wait_for_selector("[data-list=scopes] .row")
    found["scopes"] = tab.violations()
    tab.go(host, "state", "shop")
    tree_row(page, "product:").click()
    found["keys"] = tab.violations()
    tree_row(page, "1").click()
    page.wait_for_selector(EDITOR)
    found["value"] = tab.violations()
    edit(page, '{"n": 01}')
    page.locator("footer .wrong").wait_for()
    host.set("shop", "product:1", {"n": 5, "text": "x", "on": True})
    page.locator(".bar").wait_for()
    found["edit"] = tab.violations()
    edit(page, '{"n": 1, "text": "y", "on": true}')
    press(page, SECOND)
    page.get_by_role("button", name="Save merged").wait_for()
    found["conflict"] = tab.violations()
    page.get_by_role("button", name="Take theirs").click()
    press(page, "n")
    found["new"] = tab.violations()
    press(page, "Escape")
    press(page, "?")
    found["help"] = tab.violations()
    press(page, "Escape")
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert page.evaluate("() => document.documentElement.scrollWidth") <= size[0]


def test_the_light_is_the_reader_s_choice(host: ConsoleHost, tab: Tab) -> None:
    page = tab.open(host)
    paper = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(paper)
    assert light != dark
    page.get_by_role("button", name="Light: system").click()
    assert page.evaluate(paper) == light
    page.get_by_role("button", name="Light: light").click()
    assert page.evaluate(paper) == dark
    page.reload()
    page.wait_for_selector(".status.live")
    assert page.get_by_role("button", name="Light: dark").count() == 1


def test_a_change_is_seen_without_being_asked_for(host: ConsoleHost, tab: Tab) -> None:
    host.set("s", "k", 0)
    page = open_key(tab, host, "s", "k")
    for number in range(1, 4):
        host.set("s", "k", number)
        expect(page.locator(EDITOR)).to_have_value(str(number))


def test_what_runs_from_right_to_left_stays_inside_its_own_text(host: ConsoleHost, tab: Tab) -> None:
    """Drawn in the order of the text area, a member and its value would change places around the colon."""
    host.put("rtl", "k", '{"\u0627\u0633\u0645":"\u0645\u0631\u062d\u0628\u0627"}')
    page = tab.open(host, "state", "rtl", "k")
    member, value = page.locator(".ink .member"), page.locator(".ink .string")
    expect(value).to_have_count(1)
    places = [one.bounding_box() for one in (member, value)]
    assert places[0] is not None
    assert places[1] is not None
    assert places[0]["x"] + places[0]["width"] <= places[1]["x"]


def test_a_narrow_page_cuts_off_no_ring_of_the_keyboard_and_breaks_no_place_of_the_caret(
    host: ConsoleHost, tab: Tab
) -> None:
    tab.page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    host.put("narrow", "k", '{"a":1}')
    page = tab.open(host, "state", "narrow", "k")
    page.get_by_role("button", name="Edit").click()
    page.locator("textarea").fill('{"a": 1,,}')
    page.get_by_text("unexpected character").wait_for()
    line = page.locator("footer .place").bounding_box()
    assert line is not None
    assert line["height"] < 24, "one line"
    link = page.locator(".side li a").nth(1)
    page.keyboard.press("Tab")  # a ring is shown to those who use the keyboard
    link.focus()
    ring = "at => [getComputedStyle(at).outlineStyle, parseFloat(getComputedStyle(at).outlineOffset)]"
    style, offset = link.evaluate(ring)
    assert (style, offset < 0) == ("solid", True)
