"""The pages of `mobileprune serve` in a real browser: quiet, accessible, and usable with a keyboard on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.servers import started


@pytest.fixture(scope="module")
def url(artifacts: dict[str, Path]) -> Iterator[str]:
    pytest.importorskip("uvicorn", reason="needs the extra: pip install '.[serve]'")
    folder = artifacts["onnx"].parent
    with started() as start:
        _, line = start(folder)
        yield line.strip()


def test_the_way_through_the_pages(visit: Any, url: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for size, scheme in (("desktop", "light"), ("phone", "dark")):
        seen = visit(url, size, scheme)
        page = seen.page
        for step in (None, "artifact", "report", "compare"):
            if step == "artifact":
                with page.expect_navigation():
                    page.locator("th a").first.click()
            if step == "report":
                with page.expect_navigation():
                    page.get_by_role("link", name="report").click()
            if step == "compare":
                page.goto(url)
                page.locator("input[name=a]").first.check()
                page.locator("input[name=b]").last.check()
                with page.expect_navigation():
                    page.get_by_role("button", name="Compare").press("Enter")
                assert "/compare?a=" in page.url
            found = Axe().run(page)
            assert found.violations_count == 0, (page.url, found.generate_report())
            assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        assert seen.console == []
        assert all(re.match(re.escape(url), request) for request in seen.requests)


def test_the_filter_works(visit: Any, url: str) -> None:
    page = visit(url).page
    page.get_by_role("searchbox").fill("torchscript-lite")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.locator("tbody tr").count() == 1
