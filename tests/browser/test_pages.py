"""The pages in a real browser: quiet, alone, accessible, readable on a phone, and the card on one printed sheet."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.sweeps import document

from mobileprune.report import write_sweep_report

SMALL = 1_500_000
PAGES = ("report.html", "card.html", "sweep.html")


@pytest.fixture(scope="module")
def folder(artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every page that is written, side by side."""
    folder = tmp_path_factory.mktemp("pages")
    for name in PAGES[:2]:
        shutil.copy(artifacts["onnx"] / name, folder)
    write_sweep_report(document(), folder)
    return folder


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_and_asks_for_nothing_else(visit: Any, folder: Path, name: str) -> None:
    url = (folder / name).as_uri()
    seen = visit(url)
    assert seen.console == []
    assert seen.requests == [url]
    assert (folder / name).stat().st_size < SMALL


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible(visit: Any, folder: Path, name: str, size: str, scheme: str) -> None:
    """All rules of axe-core, best practices included; details open, so that what they hide is looked at too."""
    from axe_playwright_python.sync_playwright import Axe

    page = visit((folder / name).as_uri(), size, scheme).page
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(visit: Any, folder: Path, name: str) -> None:
    page = visit((folder / name).as_uri(), "phone").page
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == 360, "only tables scroll sideways"
    small = page.evaluate(
        "[...document.querySelectorAll('svg text')].filter(t => t.getBoundingClientRect().height < 8).length"
    )
    assert small == 0, "labels of drawings can be read"


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_the_first_screen_answers_the_three_questions(visit: Any, folder: Path, size: str) -> None:
    page = visit((folder / "report.html").as_uri(), size).page
    height = page.viewport_size["height"]
    for selector in ("h1", ".costs dd:last-of-type", "[aria-labelledby=untried] li:last-of-type"):
        box = page.locator(selector).last.bounding_box()
        assert box["y"] + box["height"] <= height, selector


def test_a_number_leads_to_its_place_in_the_raw_data(visit: Any, folder: Path) -> None:
    page = visit((folder / "report.html").as_uri()).page
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    links = page.locator("a.n")
    for index in (0, links.count() // 2, links.count() - 1):
        target = links.nth(index).get_attribute("href")
        links.nth(index).focus()  # by keyboard
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == target
        box = page.locator("pre.raw :target").bounding_box()
        assert 0 <= box["y"] < 800


def test_the_card_is_one_printed_page(visit: Any, folder: Path) -> None:
    pdf = visit((folder / "card.html").as_uri()).page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) == 1


def test_the_checks_can_fail(visit: Any, tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    bad = tmp_path / "bad.html"
    bad.write_text("<p style='color:#ccc;width:900px'>pale</p><img src=missing.png><script>console.error(1)</script>")
    seen = visit(bad.as_uri(), "phone")
    assert {found["id"] for found in Axe().run(seen.page).response["violations"]} >= {"color-contrast", "image-alt"}
    assert len(seen.requests) == 2
    assert "1" in seen.console
    assert seen.page.evaluate("document.documentElement.scrollWidth") > 360
