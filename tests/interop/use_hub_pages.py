"""Uses the pages of a hub as a person would, in a headless Chromium.

    use_hub_pages.py ADDRESS CHROMIUM TOKEN PICTURE

ADDRESS is that of a hub's pages, with at least six images to review. Signs in with TOKEN, decides with the keyboard, also while the network is
away, takes a picture of the review page, and signs out.
"""
import re
import sys

from playwright.sync_api import expect, sync_playwright

address, chromium, token, picture = sys.argv[1:]
expect.set_options(timeout=30_000)

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    # The hub's certificate is its own.
    new_context = lambda: browser.new_context(viewport={"width": 1280, "height": 900}, ignore_https_errors=True)
    context = new_context()
    page = context.new_page()
    problems = []
    page.on("console", lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None)
    page.on("pageerror", lambda error: problems.append(str(error)))

    # Into the pages by a token, which is asked for whatever page was meant.
    page.goto(f"{address}review.html")
    assert page.url == f"{address}sign-in", page.url
    page.get_by_label("Token").fill("guessed")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("token is unknown")
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Rounds")
    expect(page.get_by_text("ann")).to_be_visible()
    page.get_by_role("link", name="Review").click()
    page.wait_for_url("**/review.html")

    tiles, progress = page.get_by_role("option"), page.get_by_role("status")
    all_sent = lambda: expect(progress).not_to_contain_text("still to be sent")
    said = lambda i: tiles.nth(i).locator(".said").inner_text()
    tiles.nth(0).focus()
    for key in ["1", "2", "x", "u"]:
        page.keyboard.press(key)
    all_sent()
    # Taken back after it was sent; then two more while the hub cannot be reached.
    page.keyboard.press("z")
    all_sent()
    context.set_offline(True)
    tiles.nth(4).focus()
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    expect(progress).to_contain_text("cannot be reached")
    expect(progress).to_contain_text(re.compile(r"[23] labels are still to be sent"))
    context.set_offline(False)
    all_sent()
    # It is there again from the hub, not from this browser.
    page.evaluate("localStorage.clear()")
    page.reload()
    guess = tiles.nth(5).get_attribute("data-guess")
    assert [said(i) for i in range(6)] == ["a", "b", "no class", "", "c", guess], [said(i) for i in range(6)]
    page.screenshot(path=picture)
    page.get_by_role("link", name="History").click()
    expect(page.get_by_role("main")).to_contain_text("ann, ")

    stranger = new_context().new_page()
    stranger.goto(f"{address}history.html")
    assert stranger.url == f"{address}sign-in", stranger.url
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{address}history.html")
    assert page.url == f"{address}sign-in", page.url
    assert not problems, problems
    browser.close()
