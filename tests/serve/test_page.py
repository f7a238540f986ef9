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
