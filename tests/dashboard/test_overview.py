"""The first page: the map, the totals, what holds readers back; and the frame of all pages."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.dashboard.browsing import Open, grave, in_both_themes


@in_both_themes
def test_all_can_use_the_overview(visit: Open) -> None:
    page = visit("/")
    expect(page.locator("svg .node")).not_to_have_count(0)
    assert grave(page) == []


def test_the_map_shows_projections_and_streams_of_all_services(visit: Open) -> None:
    page = visit("/")
    drawn = page.locator(".map")
    for name in ("welcome-projection", "users-projection", "users-stream", "mails-stream"):
        expect(drawn.locator("text.name", has_text=re.compile(f"^{name}$")).first).to_be_visible()
    expect(drawn.locator("a", has_text="welcome-projection").locator("rect")).to_have_class(
        re.compile("failed")
    )
