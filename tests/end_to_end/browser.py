"""A real browser, driven headless; tests that need one skip where it is not installed."""

import importlib.util
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass
class Said:
    """What a page asked for, and what it complained of."""

    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


@contextmanager
def start_browser():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("needs a browser: apt install chromium, then make browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def open_page(browser, path, *, width=1280, scheme="light"):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said = Said()
    page.on("request", lambda request: said.requests.append(request.url))
    page.on("console", lambda message: said.messages.append(message.text))
    page.on("pageerror", lambda error: said.messages.append(str(error)))
    page.goto(path.as_uri())
    yield page, said
    page.close()
