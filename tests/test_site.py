"""The documentation as pages: every link within it leads somewhere, and nothing is fetched from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import mobileprune

ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """Links and the ids that they can lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.ids: set[str | None] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids |= {value for name, value in attrs if name == "id"}
        self.links += [(tag, value) for name, value in attrs if name in ("href", "src") and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pdoc", reason="needs pdoc: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, ROOT / ".ci" / "pages.py", folder], check=True)
    return folder


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert {"index.html", "export/index.html", "benchmarks/index.html", "api/index.html"} <= {
        path.relative_to(site).as_posix() for path in pages
    }
    assert sum(tag == "img" for tag, _ in pages[site / "index.html"].links) == 2
    for path, page in pages.items():
        for tag, link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert tag == "a" or parts.scheme == "data", f"{path} fetches {link}"
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert there.is_file(), f"{path} leads to {link}"
            known = pages[there].ids if there in pages else set()
            assert not parts.fragment or {parts.fragment, unquote(parts.fragment)} & known, f"{path} leads to {link}"


def test_the_api_has_every_public_name_with_what_it_does(site: Path) -> None:
    page = Page(site / "api" / "index.html")
    assert set(mobileprune.__all__) <= page.ids
    assert "Train the dense model into the model folder" in (site / "api" / "index.html").read_text("utf-8")
