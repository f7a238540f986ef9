"""The page in a real browser: Debian's Chromium, driven by Playwright; axe looks at what a screen reader gets."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allmrec.library import Run
from allmrec.serve.keys import add_key
from tests.serve.conftest import Served, serving

sync_api = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = os.environ.get("ALLMREC_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed: apt-get install chromium, or name one in ALLMREC_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def shown(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose catalogue has a title made to be believed."""
    with serving(run.path, database=f"sqlite:///{tmp_path_factory.mktemp('page')}/state.sqlite3") as made:
        yield made


def opened(browser: Any, server: Served, **settings: Any) -> tuple[Any, list[str]]:
    """The page once it shows recommendations, and what the browser complains of."""
    page = browser.new_page(**settings)
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on(
        "request",
        lambda one: None if one.url.startswith((server.url, "data:")) else complaints.append(f"asked {one.url}"),
    )
    page.goto(server.url)
    page.wait_for_selector("#lists .item")
    page.wait_for_selector("#lists:not([aria-busy])")
    return page, complaints


def test_a_history_is_built_by_keyboard_and_recommendations_follow(browser: Any, shown: Served) -> None:
    page, complaints = opened(browser, shown)
    assert "did not answer (empty history)" in page.inner_text("#lists")
    assert page.locator("#lists > section").count() == 3
    page.focus("#search")
    page.keyboard.type("item 1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#found li")
    # By keyboard alone: the first title's button comes behind the search button and the list itself.
    page.locator("#found button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#chosen li")
    page.wait_for_selector("#lists:not([aria-busy])")
    first = page.locator("#lists > section").first
    assert "A-LLMRec" in first.locator("h3").inner_text()
    assert "did not answer" not in first.inner_text()
    assert page.locator("#lists h3").all_inner_texts()[1:] == ["SASRec alone", "Late fusion alone"]
    first.locator("summary").first.click()
    assert "behaviour" in first.locator(".parts").first.inner_text()
    first.locator(".speak").first.click()
    page.wait_for_selector(".note:not([hidden])")
    assert "may be wrong" in first.locator(".note").first.inner_text() or "said nothing" in first.inner_text()
    page.select_option("#category", "War")
    page.wait_for_selector("#lists:not([aria-busy])")
    sync_api.expect(page.locator("#lists .categories").filter(has_not_text="War")).to_have_count(0)
    page.fill("#user", "u3")
    page.press("#user", "Enter")
    sync_api.expect(page.locator("#chosen li")).to_have_count(6)
    assert [one for one in complaints if "report" not in one and "404" not in one] == []
    page.close()


def test_titles_are_text_and_never_markup(browser: Any, shown: Served) -> None:
    page, complaints = opened(browser, shown)
    page.fill("#search", "onerror")
    page.press("#search", "Enter")
    page.wait_for_selector("#found li")
    assert page.locator("#found .title").inner_text().startswith("<img src=x onerror=alert(1)>")
    page.fill("#new-title", "<script>alert(2)</script> film")
    page.fill("#new-categories", "War, <b>x</b>")
    page.click("#add-form button")
    page.wait_for_selector("#added:has-text('is in the catalogue')")
    sync_api.expect(page.locator("#found .title").first).to_have_text(re.compile(r"^<script>"))
    assert page.locator("img").count() == 0
    assert [one for one in complaints if "404" not in one] == []
    page.close()


def test_a_language_model_that_is_not_served_is_not_offered(
    browser: Any, run: Run, shown: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "without"
    # Without stage 2 there is nobody to ask.
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("serve", "tune"))
    with serving(folder, database=f"sqlite:///{tmp_path}/state.sqlite3") as silent:
        assert silent.ask("/v1/model", None, "GET")["versions"][0]["language_model"] is None
        page, _ = opened(browser, silent)
        assert page.locator(".why").count() > 0
        assert page.locator(".speak").count() == 0
        page.close()
    page, _ = opened(browser, shown)
    assert page.locator(".speak").count() == page.locator(".why").count() > 0
    page.close()


def test_what_was_said_of_a_missing_key_goes_away_after_a_good_one(browser: Any, run: Run, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "all", ["read", "write"])
    with serving(run.path, keys=tmp_path / "keys.json", database=f"sqlite:///{tmp_path}/state.sqlite3") as keyed:
        page = browser.new_page()
        page.goto(keyed.url)
        status = page.locator("#status")
        sync_api.expect(status).to_contain_text("An API key is needed")
        for given, words in (("wrong", "An API key is needed"), (key, "")):
            page.fill("#key", given)
            page.click("#key-form button")
            if given == key:
                page.wait_for_selector("#lists .item")
                assert page.locator("#key-form").is_hidden()
            else:
                page.wait_for_selector("#key-form:not([hidden])")
            sync_api.expect(status).to_contain_text(words)
        sync_api.expect(status).to_have_text("")
        page.close()


# Answers of the language model that come when the test says so, and that an abort ends as it ends a real one.
_STREAMS = """() => {
  window.streams = [];
  const real = window.fetch;
  window.fetch = (path, settings) => {
    if (!path.includes("explain")) return real(path, settings);
    const one = { aborted: false };
    window.streams.push(one);
    one.say = (name, data) => {
      if (!one.aborted) one.to.enqueue(new TextEncoder().encode(`event: ${name}\\ndata: ${JSON.stringify(data)}\\n\\n`));
    };
    const body = new ReadableStream({ start: (to) => { one.to = to; } });
    settings.signal?.addEventListener("abort", () => {
      one.aborted = true;
      one.to.error(new DOMException("aborted", "AbortError"));
    });
    return Promise.resolve(new Response(body));
  };
}"""


def test_two_answers_of_the_language_model_never_share_a_quote(browser: Any, shown: Served) -> None:
    page, complaints = opened(browser, shown)
    rows = page.locator("#lists > section").first.locator(".item")
    first, second = rows.nth(0), rows.nth(1)
    for row in (first, second):
        row.locator("summary").click()
    words = first.locator(".words")
    # The server's own stream can be aborted too.
    first.locator(".speak").dblclick()
    sync_api.expect(first.locator(".note")).to_be_visible()
    page.evaluate(_STREAMS)
    first.locator(".speak").click()
    page.evaluate("streams[0].say('piece', {text: 'old words'})")
    sync_api.expect(words).to_have_text("old words")
    first.locator(".speak").click()
    page.evaluate("streams[0].say('piece', {text: ' and more of them'})")
    page.evaluate("streams[1].say('piece', {text: 'new <b>words</b>'})")
    sync_api.expect(words).to_have_text("new <b>words</b>")
    second.locator(".speak").click()
    sync_api.expect(words).to_have_text("(Stopped: something else was asked for.)")
    page.evaluate(
        "streams[2].say('piece', {text: 'of another'}), streams[2].say('end', {ms: 1}), streams[2].to.close()"
    )
    sync_api.expect(second.locator(".words")).to_have_text("of another")
    assert page.evaluate("streams.map((one) => one.aborted)") == [True, True, False]
    first.locator(".speak").click()
    page.evaluate(
        "streams[3].say('piece', {text: 'It'}), setTimeout(() => streams[3].to.error(new TypeError('network error')), 50)"
    )
    sync_api.expect(words).to_have_text("It (The connection was lost before the answer ended.)")
    # New recommendations end what streams for the old ones.
    second.locator(".speak").click()
    page.click("#settings button")
    page.wait_for_function("streams[4].aborted")
    assert [one for one in complaints if "404" not in one] == []
    page.close()


def test_an_answer_that_is_cut_or_refused_says_so_in_its_place(browser: Any, shown: Served) -> None:
    page, _ = opened(browser, shown)
    row = page.locator("#lists > section").first.locator(".item").first
    row.locator("summary").click()
    words, lost = row.locator(".words"), "(The connection was lost before the answer ended.)"
    begun = 'event: start\ndata: {"note": "It may be wrong."}\n\nevent: piece\ndata: {"text": "Because"}\n\n'
    failed = 'event: error\ndata: {"detail": "It failed."}\n\n'
    for named, shows in (
        ({"body": begun}, f"Because {lost}"),
        ({"body": begun + failed}, "Because (It failed.)"),
        ({"body": begun + 'event: end\ndata: {"ms": 1}\n\n'}, "Because"),
        ({"body": ""}, lost),
        ({"status": 429, "json": {"detail": "Too many <i>wait</i>."}}, "(Too many <i>wait</i>.)"),
        (None, lost),
    ):
        page.route("**/v1/explain", lambda route, _, named=named: route.fulfill(**named) if named else route.abort())
        row.locator(".speak").click()
        sync_api.expect(words).to_have_text(shows)
        # The model's name stands over its own words only.
        own = "language model" in words.evaluate("(one) => getComputedStyle(one, '::before').content")
        assert own == shows.startswith("Because")
        page.unroute("**/v1/explain")
    assert words.get_attribute("aria-live") == "polite"
    page.close()


def test_one_long_word_does_not_move_the_page_sideways(browser: Any, shown: Served) -> None:
    page, _ = opened(browser, shown, viewport={"width": 360, "height": 740})
    page.fill("#new-title", "Q" * 300)
    page.fill("#new-categories", "Z" * 90)
    page.click("#add-form button")
    page.wait_for_selector("#added:has-text('is in the catalogue')")
    page.locator("#found button").first.click()
    sync_api.expect(page.locator("#status")).to_contain_text("Added QQQ")
    page.wait_for_selector("#lists:not([aria-busy])")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()


def test_a_key_that_lacks_a_role_can_be_replaced(browser: Any, run: Run, tmp_path: Path) -> None:
    blind = add_key(tmp_path / "keys.json", "blind", ["write"])
    reader = add_key(tmp_path / "keys.json", "reader", ["read"])
    with serving(run.path, keys=tmp_path / "keys.json", database=f"sqlite:///{tmp_path}/state.sqlite3") as keyed:
        page = browser.new_page()
        page.goto(keyed.url)
        status, form = page.locator("#status"), page.locator("#key-form")
        kept = "sessionStorage.getItem('allmrec-key')"
        sync_api.expect(form).to_be_visible()
        page.fill("#key", blind)
        page.click("#key-form button")
        sync_api.expect(status).to_contain_text("lacks the role 'read'")
        sync_api.expect(form).to_be_visible()
        assert page.evaluate(kept) is None
        # One that stood there from before is forgotten too.
        page.evaluate("(key) => sessionStorage.setItem('allmrec-key', key)", blind)
        page.reload()
        sync_api.expect(status).to_contain_text("lacks the role 'read'")
        sync_api.expect(form).to_be_visible()
        assert page.evaluate(kept) is None
        page.fill("#key", reader)
        page.click("#key-form button")
        page.wait_for_selector("#lists .item")
        sync_api.expect(form).to_be_hidden()
        assert page.evaluate(kept) == reader
        page.reload()
        page.wait_for_selector("#lists .item")
        page.fill("#new-title", "A film")
        page.click("#add-form button")
        sync_api.expect(status).to_contain_text("lacks the role 'write'")
        sync_api.expect(form).to_be_visible()
        assert page.evaluate(kept) is None
        page.close()


def test_the_focus_stays_in_the_history_when_an_item_is_removed(browser: Any, shown: Served) -> None:
    page, _ = opened(browser, shown)
    page.fill("#user", "u3")
    page.press("#user", "Enter")
    chosen = page.locator("#chosen button")
    sync_api.expect(chosen).to_have_count(6)
    labels = [one.get_attribute("aria-label") for one in chosen.all()]
    chosen.nth(1).focus()
    # The next one, again and again; then the one before; then nothing is left.
    for expected in [*labels[2:], labels[0]]:
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == expected
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "search"
    page.close()


def test_notes_and_what_a_new_item_brings_are_shown(browser: Any, shown: Served) -> None:
    page, complaints = opened(browser, shown)
    items = shown.ask("/v1/model", None, "GET")["versions"][0]["items"]
    header = page.locator("#model")
    sync_api.expect(header).to_contain_text(f" {items} items")
    page.select_option("#category", "War")
    page.wait_for_selector("#lists:not([aria-busy])")
    page.fill("#new-title", "A film with songs")
    page.fill("#new-categories", "Musical")
    page.click("#add-form button")
    sync_api.expect(header).to_contain_text(f" {items + 1} items")
    page.wait_for_selector("#lists:not([aria-busy])")
    assert page.input_value("#category") == "War"
    page.select_option("#category", "Musical")
    sync_api.expect(page.locator("#lists > section").first).to_contain_text("1 of 8 items: no other was found")

    def noted(route: Any) -> None:
        route.fulfill(json={**route.fetch().json(), "note": "<b>Fewer</b> items."})

    page.route("**/v1/recommend", noted)
    page.click("#settings button")
    sync_api.expect(page.locator("#lists > section").first).to_contain_text("<b>Fewer</b> items.")
    assert [one for one in complaints if "404" not in one] == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (360, 740)])
def test_axe_finds_nothing_serious(browser: Any, shown: Served, scheme: str, size: tuple[int, int]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, _ = opened(
        browser, shown, color_scheme=scheme, viewport={"width": size[0], "height": size[1]}, bypass_csp=True
    )
    page.fill("#search", "item")
    page.press("#search", "Enter")
    page.wait_for_selector("#found li")
    page.locator("#found button").first.click()
    page.wait_for_selector("#chosen li")
    page.wait_for_selector("#lists:not([aria-busy])")
    page.locator("summary").first.click()
    found = axe.Axe().run(page).response["violations"]
    assert [
        (one["id"], one["impact"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")
    ] == []
    # Nothing sticks out at the side.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if folder := os.environ.get("ALLMREC_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{scheme}-{size[0]}.png"), full_page=True)
    page.close()
