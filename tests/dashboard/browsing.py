"""A browser as a person has it: what goes wrong in it, who can use a page, whether it jumps.

What a test opens may not log an error, raise one, or break the policy that the dashboard sends:
`watch` notes all of it, and the fixture `visit` fails the test at its end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, sync_playwright

from tests.environment import require
from tests.waiting import PATIENCE_S

CHROMIUM = Path(shutil.which("chromium") or "/usr/bin/chromium")
ZONE = "Europe/Vienna"
DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
in_both_themes = pytest.mark.parametrize("theme", ["light", "dark"])
GRAVE = ("serious", "critical")

SHIFTS = """
    window.updates = 0;
    document.addEventListener("htmx:afterSettle", () => { window.updates += 1; });
    window.shifts = [];
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
            const sources = entry.sources.map(({ node }) =>
                (node?.outerHTML || node?.parentElement?.outerHTML || "gone").slice(0, 200));
            window.shifts.push({ value: entry.value, sources });
        }
    }).observe({ type: "layout-shift", buffered: true });
"""


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Debian's Chromium, as the tests' browser."""
    require(CHROMIUM.exists(), "a browser: apt-get install chromium")
    # without a sandbox, as the superuser has none
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def watch(page: Page, faults: list[str]) -> None:
    """Notes what goes wrong in a page from now on."""

    def noted(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"{message.location.get('url')}: {message.text}")

    page.on("console", noted)
    page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))


@contextmanager
def visitor(
    browser: Browser,
    url: str,
    *,
    theme: str = "light",
    size: ViewportSize = DESK,
    scripts: bool = True,
    faults: list[str] | None = None,
    **options: Any,
) -> Iterator[Page]:
    """A page of a person's own browser, with nothing in it yet; its addresses begin with `url`."""
    context = browser.new_context(
        base_url=url,
        color_scheme=theme,  # type: ignore[arg-type]
        viewport=size,
        java_script_enabled=scripts,
        timezone_id=ZONE,
        locale="en-GB",
        reduced_motion="reduce",
        **options,
    )
    context.set_default_timeout(PATIENCE_S * 1000)
    page = context.new_page()
    if faults is not None:
        watch(page, faults)
    if scripts:
        page.add_init_script(SHIFTS)
    try:
        yield page
    finally:
        context.close()


Open = Callable[..., Page]


def grave(page: Page) -> list[str]:
    """What keeps people from using a page, as axe-core sees it; empty: nothing."""
    found = Axe().run(page).response["violations"]
    return [
        f"{violation['help']}: {node['html']} ({node['failureSummary']})"
        for violation in found
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]


def shifts(page: Page) -> list[Any]:
    """What has jumped in a page since it was opened, and how far; empty: nothing."""
    found: list[Any] = page.evaluate("window.shifts")
    return found


def refresh(page: Page) -> None:
    """Brings a page up to date, as it does by itself when something has changed."""
    known = page.evaluate("window.updates")
    page.evaluate("htmx.trigger(document.getElementById('page'), 'refresh')")
    page.wait_for_function("known => window.updates > known", arg=known)


def is_wide(page: Page) -> bool:
    """Whether a person has to scroll sideways to read all of it."""
    return bool(
        page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    )
