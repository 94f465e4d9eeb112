"""What a key held before and when it ends, in the browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect
from support.console import NARROW, WIDE, ConsoleHost, Tab, console_host, press
from support.redis import settings

EXACT = '{"n":9007199254740993,"price":1.0,"e":1E2}'
EDITOR = ".pane.value textarea"
FIRST = re.compile(r"revision 1\b")


@pytest.fixture
def kept() -> Iterator[ConsoleHost]:
    """A host that keeps versions."""
    with console_host(adapter_config={"history": {"keep": 500}}) as opened:
        yield opened


def versions(page: Page) -> list[str]:
    return page.locator("[data-list=versions] .row").all_inner_texts()


def lines(page: Page) -> list[str]:
    """The lines that differ, with their signs."""
    found = page.locator(".difference > :is(.new, .gone)")
    found.first.wait_for()
    return [" ".join(text.split()) for text in found.all_inner_texts()]


def test_versions_are_listed_compared_and_stored_again(kept: ConsoleHost, tab: Tab) -> None:
    kept.put("s", "k", EXACT)
    kept.put("s", "k", EXACT.replace("993", "994"))
    kept.call("state::delete", scope="s", key="k")
    kept.put("s", "k", '{"n":1}')
    page = tab.open(kept, "state", "s", "k")
    page.wait_for_selector(EDITOR)
    press(page, "h")
    page.wait_for_selector("[data-list=versions]:focus")
    expect(page.locator("[data-list=versions] .row")).to_have_count(4)
    page.get_by_text("This is what is stored now.").wait_for()
    expect(page.get_by_role("button", name="Revert to this")).to_be_disabled()
    press(page, "ArrowDown")
    page.get_by_text("The key was not there. Now:").wait_for()
    press(page, "End")
    page.locator(".legend .gone").wait_for()
    assert lines(page) == [
        '− then "n": 9007199254740993,',
        '− then "price": 1.0,',
        '− then "e": 1E2',
        '+ now "n": 1',
    ]
    page.get_by_role("button", name="Revert to this").press("Enter")
    page.get_by_text("Revision 1 is stored again").wait_for()
    assert kept.text("s", "k") == EXACT
    # It is a version itself, and the cursor stays on the one that was chosen.
    expect(page.locator("[data-list=versions] .row")).to_have_count(5)
    expect(page.locator("[data-list=versions] .row[aria-selected=true]")).to_contain_text(FIRST)
    press(page, "h")
    expect(page.locator(EDITOR)).to_have_value('{\n  "n": 9007199254740993,\n  "price": 1.0,\n  "e": 1E2\n}')


def test_a_deleted_key_comes_back_and_goes_again(kept: ConsoleHost, tab: Tab) -> None:
    kept.put("s", "k", "[1]")
    kept.call("state::delete", scope="s", key="k")
    page = tab.open(kept, "state", "s", "k", "history")
    page.locator("[data-list=versions] .row").nth(1).click()
    page.get_by_text("The key is not there now. It held:").wait_for()
    page.get_by_role("button", name="Revert to this").click()
    page.get_by_text("Revision 1 is stored again").wait_for()
    assert kept.text("s", "k") == "[1]"
    # The list moves down by the new version.
    expect(page.locator("[data-list=versions] .row")).to_have_count(3)
    page.locator("[data-list=versions] .row").filter(has_text="deleted").click()
    page.get_by_text("The key was not there. Now:").wait_for()
    page.get_by_role("button", name="Delete it again").click()
    page.get_by_role("dialog").get_by_text("Delete this key?").wait_for()
    press(page, "Enter")
    page.get_by_role("button", name="Undo").wait_for()
    assert kept.text("s", "k") == ""


def test_a_revert_never_overwrites_what_nobody_saw(kept: ConsoleHost) -> None:
    for text in ("1", "2", "3"):
        kept.put("s", "k", text)
    seen = kept.ask("compare", scope="s", key="k", revision="1")["seen"]
    kept.put("s", "k", "4")
    assert kept.ask("revert", scope="s", key="k", revision="1", seen=seen) == {"saved": False}
    kept.call("state::delete", scope="s", key="k")
    assert kept.ask("revert", scope="s", key="k", revision="1", seen=seen) == {"saved": False}
    assert kept.text("s", "k") == ""
    seen = kept.ask("compare", scope="s", key="k", revision="1")["seen"]
    assert kept.ask("revert", scope="s", key="k", revision="5", seen=seen)["error"]["code"] == "DELETED"
    assert kept.ask("revert", scope="s", key="k", revision="99", seen=seen)["error"]["code"] == "NO_VERSION"
    assert kept.ask("revert", scope="s", key="k", revision="1", seen=seen) == {"saved": True}
    assert kept.text("s", "k") == "1"


def test_revisions_beyond_a_browsers_numbers_are_told_apart(tab: Tab) -> None:
    where = {**settings(), "history": {"keep": 200}}
    with console_host(adapter="redis", adapter_config=where) as kept:
        for number in range(120):
            kept.put("s", "k", str(number))
        found = kept.ask("versions", scope="s", key="k")
        rows = found["versions"]
        assert int(rows[0]["revision"]) > 2**53
        seen = kept.ask("compare", scope="s", key="k", revision=rows[1]["revision"])["seen"]
        older = kept.ask("versions", scope="s", key="k", before=found["next"])["versions"]
        assert len({row["revision"] for row in rows + older}) == 100
        page = tab.open(kept, "state", "s", "k", "history")
        page.locator("[data-list=versions] .row").nth(3).click()
        page.locator(".legend .gone").wait_for()
        assert lines(page) == ["− then 116", "+ now 119"]
        page.get_by_role("button", name="Revert to this").click()
        page.get_by_text("is stored again").wait_for()
        assert kept.text("s", "k") == "116"
        for wrong in ("", "1.5", "-1", "9" * 20, 1):
            assert "error" in kept.ask("revert", scope="s", key="k", revision=wrong, seen=seen)


def test_a_change_of_others_renews_what_is_compared(kept: ConsoleHost, tab: Tab) -> None:
    kept.put("s", "k", '{"a":1,"b":1}')
    kept.put("s", "k", '{"a":2,"b":1}')
    page = tab.open(kept, "state", "s", "k", "history")
    page.locator("[data-list=versions] .row").nth(1).click()
    page.locator(".legend .gone").wait_for()
    assert lines(page) == ['− then "a": 1,', '+ now "a": 2,']
    kept.put("s", "k", '{"a":3,"b":1}')
    page.locator(".difference .new").filter(has_text="3").wait_for()
    assert lines(page) == ['− then "a": 1,', '+ now "a": 3,']
    expect(page.locator("[data-list=versions] .row")).to_have_count(3)
    expect(page.locator("[data-list=versions] .row[aria-selected=true]")).to_contain_text(FIRST)


def test_an_open_edit_is_finished_before_the_way_back(kept: ConsoleHost, tab: Tab) -> None:
    kept.put("s", "k", "1")
    kept.put("s", "k", "2")
    page = tab.open(kept, "state", "s", "k")
    page.wait_for_selector(EDITOR)
    page.locator("[data-edit]").click()
    page.locator(EDITOR).fill("3")
    page.get_by_role("link", name="History").click()
    page.locator("[data-list=versions] .row").nth(1).click()
    page.get_by_text("An edit of the key is open").wait_for()
    expect(page.get_by_role("button", name="Revert to this")).to_be_disabled()
    page.get_by_role("link", name="Value").click()
    expect(page.locator(EDITOR)).to_have_value("3")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved", exact=True).wait_for()
    assert kept.text("s", "k") == "3"


def test_older_versions_come_when_they_are_asked_for(kept: ConsoleHost, tab: Tab) -> None:
    for number in range(120):
        kept.put("s", "k", str(number))
    page = tab.open(kept, "state", "s", "k", "history")
    page.wait_for_selector("[data-list=versions]:focus")
    for _ in range(2):
        press(page, "End")
        page.get_by_text("Show older versions").wait_for()
        press(page, "Enter")
        page.get_by_text("Show older versions").wait_for(state="detached")
    press(page, "End")
    expect(page.locator("[data-list=versions] .row[aria-selected=true]")).to_contain_text(FIRST)
    assert lines(page)[0] == "− then 0"
    # Another version on top takes none of them away.
    kept.put("s", "k", "120")
    page.locator(".difference .new").filter(has_text="120").wait_for()
    expect(page.locator("[data-list=versions] .row[aria-selected=true]")).to_contain_text(FIRST)
    expect(page.locator("[data-list=versions] .row").last).to_have_attribute("aria-setsize", "121")
    found = kept.ask("versions", scope="s", key="k")
    assert [one["revision"] for one in found["versions"]] == [str(number) for number in range(121, 71, -1)]
    assert (found["next"], kept.ask("versions", scope="s", key="k", before="71")["next"]) == ("72", "21")
    assert kept.ask("versions", scope="s", key="k", before="21")["next"] is None


def test_without_versions_it_says_how_they_are_kept(host: ConsoleHost, tab: Tab) -> None:
    host.set("s", "k", 1)
    page = tab.open(host, "state", "s", "k", "history")
    page.get_by_role("heading", name="No versions are kept").wait_for()
    page.get_by_text("give its setting history, as {keep: 100, days: 7}").wait_for()
    page.get_by_text("config: {history: {keep: 100, days: 7}}").wait_for()


def test_an_end_is_shown_counted_down_set_and_taken_away(host: ConsoleHost, tab: Tab) -> None:
    host.set("s", "k", 1)
    page = tab.open(host, "state", "s", "k")
    ends = page.locator("footer .ends")
    expect(ends).to_have_text("Stays")
    ends.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="In 1 day").click()
    dialog.get_by_role("button", name="Set").click()
    page.get_by_text("The key ends").wait_for()
    left = host.call("iii-skill::state::expire", scope="s", key="k")["expires_at_ms"]
    assert left > 0
    expect(ends).to_contain_text("in 23 h 59 min")
    ends.click()
    dialog.get_by_label("Ends at").fill("2020-01-01T00:00:00")
    dialog.get_by_text("That is past").wait_for()
    expect(dialog.get_by_role("button", name="Set")).to_be_disabled()
    dialog.get_by_role("button", name="Let it stay").click()
    expect(ends).to_have_text("Stays")
    assert host.call("iii-skill::state::expire", scope="s", key="k")["expires_at_ms"] is None
    # Of others, too; and once it is over there is no value.
    host.call("iii-skill::state::expire", scope="s", key="k", ttl_ms=600_000)
    expect(ends).to_contain_text("Ends at")
    host.call("iii-skill::state::expire", scope="s", key="k", ttl_ms=1)
    page.get_by_text("No value").wait_for()


def test_a_source_without_ends_or_versions_shows_none(host: ConsoleHost, tab: Tab) -> None:
    host.set("s", "k", 1)
    page = tab.page
    page.route(
        "**/api/about",
        lambda route: route.fulfill(
            json={"label": "an engine", "offers": ["state::get", "state::compare-and-set"]}
        ),
    )
    page.route(
        "**/api/versions",
        lambda route: route.fulfill(json={"error": {"code": "function_not_found", "message": "no"}}),
    )
    tab.open(host, "state", "s", "k")
    page.wait_for_selector(EDITOR)
    assert page.locator("footer .ends").count() == 0
    press(page, "h")
    page.get_by_text("This engine keeps none").wait_for()


def test_names_and_lines_are_shown_as_what_they_are(kept: ConsoleHost, tab: Tab) -> None:
    name = "<b>x</b>\u202e/%2f#"
    kept.set(name, name, {"html": "<img src=x onerror=alert(1)>", "long": "x" * 5000})
    kept.set(name, name, {"html": "</pre><script>alert(1)</script>"})
    page = tab.open(kept, "state", name, name, "history")
    page.locator("[data-list=versions] .row").nth(1).click()
    page.locator(".difference .gone").first.wait_for()
    assert page.locator("main :is(b, img, script)").count() == 0
    assert any("<img src=x onerror=alert(1)>" in line for line in lines(page))
    assert json.loads(kept.text(name, name)) == {"html": "</pre><script>alert(1)</script>"}


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_everybody_can_use_it(kept: ConsoleHost, new_tab: Callable[..., Tab], size: tuple[int, int]) -> None:
    for number in range(5):
        kept.set("s", "k", {"n": number, "text": "x", "rows": list(range(20))})
    kept.call("state::delete", scope="s", key="k")
    kept.set("s", "k", {"n": 9, "text": "y"})
    kept.call("iii-skill::state::expire", scope="s", key="k", ttl_ms=3_600_000)
    tab = new_tab(size)
    page = tab.open(kept, "state", "s", "k")
    page.locator("footer .ends.some").wait_for()
    found = {"value": tab.violations()}
    page.locator("footer .ends").click()
    found["ends"] = tab.violations()
    press(page, "Escape")
    press(page, "h")
    page.locator("[data-list=versions] .row").nth(3).click()
    page.locator(".difference .gone").first.wait_for()
    found["compared"] = tab.violations()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= size[0]
    page.get_by_role("button", name="All lines").click()
    found["all lines"] = tab.violations()
    page.locator("[data-list=versions] .row").nth(1).click()
    page.get_by_text("The key was not there").wait_for()
    found["deleted"] = tab.violations()
    assert {name: faults for name, faults in found.items() if faults} == {}
