"""Uses the pages as a person would, in a headless Chromium.

    use_pages.py PAGES CHROMIUM TABLE PICTURE

PAGES is a folder of pages with at least six images to review and a confusion. Decides with the keyboard, saves the labels to TABLE, takes a
picture of the review page, and looks at the others: menu, links, a phone's width, names for screen readers.
"""
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

pages, chromium, table, picture = sys.argv[1:]
pages = Path(pages).resolve()
PHONE = {"width": 360, "height": 740}


def names(page, role):
    """Accessible names of all elements of a role."""
    return [element.get_attribute("aria-label") or element.inner_text() for element in page.get_by_role(role).all()]


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(("file:", "blob:", "data:")) else problems.append(request.url))

    page.goto(f"{pages.as_uri()}/review.html")
    tiles = page.get_by_role("option")
    progress = page.get_by_role("status")
    waiting = tiles.count()
    left = page.locator("[role=option]:not([data-said])").count()
    assert left >= 6, left
    assert f"{left} of {waiting} images wait" in progress.inner_text(), progress.inner_text()

    def selected():
        return [i for i in range(waiting) if tiles.nth(i).get_attribute("aria-selected") == "true"]

    # By keyboard alone: into the grid by tab, one decision a key, each goes on to the next image.
    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Your name").press("Tab")
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "option"
    # The first was kept by chance, to judge the model: there is nothing to accept. The second by a finger, in the bar.
    for key in ["Enter", "1"]:
        page.keyboard.press(key)
    page.get_by_role("list", name="Classes and their keys").get_by_role("button", name="b").click()
    for key in ["x", "u"]:
        page.keyboard.press(key)
    assert selected() == [4], selected()
    said = [tiles.nth(i).locator(".said").inner_text() for i in range(5)]
    assert said == ["a", "b", "no class", "unsure", ""], said
    # Taken back, and decided again; then by the list, and by a click on the model's second guess.
    page.keyboard.press("z")
    assert selected() == [3] and tiles.nth(3).locator(".said").inner_text() == "", selected()
    page.keyboard.press("Enter")
    assert tiles.nth(3).locator(".said").inner_text() == tiles.nth(3).get_attribute("data-guess") == "a"
    page.keyboard.press("c")
    page.get_by_label("Class", exact=True).fill("c")
    page.keyboard.press("Enter")
    assert tiles.nth(4).locator(".said").inner_text() == "c"
    tiles.nth(5).get_by_role("button").nth(1).click()
    assert f"{left - 6} of {waiting} images wait" in progress.inner_text(), progress.inner_text()
    for key, place in [("Home", 0), ("ArrowRight", 1), ("End", waiting - 1), ("ArrowLeft", waiting - 2)]:
        page.keyboard.press(key)
        assert selected() == [place], (key, selected())

    # What was decided is there again, after the page was closed.
    page.reload()
    assert tiles.nth(1).locator(".said").inner_text() == "b"
    page.screenshot(path=picture)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save labels").click()
    assert download.value.suggested_filename == "labels-ann.csv", download.value.suggested_filename
    download.value.save_as(table)

    # The other pages: by the menu, each with its heading, and on a phone nothing is wider than the screen.
    for name, file in [("Rounds", "index"), ("Fleet", "fleet"), ("Review", "review"), ("Confusion", "confusion"), ("History", "history")]:
        page.set_viewport_size({"width": 1280, "height": 900})
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        page.wait_for_url(f"**/{file}.html")
        assert names(page, "heading")[0] == name, names(page, "heading")
        assert page.locator("nav a[aria-current=page]").inner_text() == name
        assert all(image.get_attribute("alt") for image in page.locator("img").all())
        page.set_viewport_size(PHONE)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], (name, width)
    page.goto(f"{pages.as_uri()}/confusion.html")
    cell = page.locator("table.confusion a").first
    count = int(cell.inner_text())
    cell.click()
    shown = page.locator("section:target img")
    assert shown.count() == count, (shown.count(), count)
    shown.first.scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('section:target img')].every(i => i.complete && i.naturalWidth > 0)")
    assert not problems, problems
    browser.close()
