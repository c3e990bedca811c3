"""The report: self-contained, escaped, the same numbers in HTML, Markdown and JSON, and true axes."""

from __future__ import annotations

import copy
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from mobileprune.report.render import html, markdown
from mobileprune.report.roc import LOWEST, SIZE, panel
from mobileprune.report.tables import attack_rows, estimate, highest, rate_rows, summary_rows

EVIL = "<script>alert('x')</script>|\"&\n# head"


@pytest.fixture(scope="session")
def original(artifacts) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((artifacts["onnx"] / "report.json").read_text())
    return value


@pytest.fixture
def value(original) -> dict[str, Any]:
    return copy.deepcopy(original)


class Page(HTMLParser):
    """Tags with attributes, text, and tables as rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.tables, self._cell = "", [], None
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "path"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self._cell = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("th", "td"):
            self.tables[-1][-1].append(self._cell.strip())
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell is not None:
            self._cell += data


def markdown_tables(text: str) -> list[list[list[str]]]:
    tables: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if not line.startswith("|"):
            tables.append([])
        elif not re.fullmatch(r"(\| --- )+\||\|( --- \|)+", line):
            cells = re.split(r"(?<!\\)\|", line[1:-1])
            tables[-1].append([cell.replace("\\|", "|").strip() for cell in cells])
    return [table for table in tables if table]


def test_the_page_asks_for_nothing_outside_itself(value) -> None:
    text = html(value)
    page = Page(text)
    assert page.open == [], "every tag is closed"
    names = {name for _, attributes in page.tags for name in attributes}
    assert names.isdisjoint({"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"})
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "img", "object", "embed", "base"})
    assert not any(name.startswith("on") for name in names)
    assert not re.search(r"url\(|@import|https?://", text)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def spoil(value: dict[str, Any]) -> None:
    """Put a hostile text into everything that a file or a data set can name."""
    value["audit"]["data"]["name"] = value["manifest"]["target"] = EVIL
    value["manifest"]["labels"] = [EVIL]
    value["audit"]["notes"] = [EVIL]
    value["bench"]["machine"]["cpu"] = EVIL
    layers = value["manifest"]["sparsity"]["layers"]
    layers[EVIL] = layers.pop("fc1.weight")


def test_hostile_names_are_text_in_the_page(value) -> None:
    spoil(value)
    page = Page(html(value))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert('x')</script>|\"&") == 5


def test_hostile_names_are_text_in_markdown(value) -> None:
    before = markdown_tables(markdown(value))
    spoil(value)
    text = markdown(value)
    after = markdown_tables(text)
    assert [[len(row) for row in table] for table in after] == [[len(row) for row in table] for table in before]
    assert "<script>" not in text
    assert "\n# head" not in text


def test_a_pipe_in_markdown_stays_in_its_cell(value) -> None:
    layers = value["manifest"]["sparsity"]["layers"]
    layers["a|b"] = layers.pop("fc1.weight")
    rows = markdown_tables(markdown(value))[-1]
    assert ["a|b", "120x400"] in [row[:2] for row in rows]


def test_tables_are_the_same_in_html_and_markdown(value) -> None:
    in_html, in_markdown = Page(html(value)).tables, markdown_tables(markdown(value))
    assert in_html == in_markdown
    assert len(in_html) == 1 + 2 + 2 + 1 + 1 + 1


def test_tables_say_what_the_json_says(value) -> None:
    """Every interval of the JSON, written here a second time, stands in its row and column."""
    audit = value["audit"]
    tables = Page(html(value)).tables

    def text(e: dict[str, Any]) -> str:
        return "not resolvable" if e["value"] is None else "{value:.3f} [{low:.3f}, {high:.3f}]".format(**e)

    for position, group in ((1, "all"), (2, "canaries")):
        for name, access, *cells in tables[position][1:]:
            for subject, cell in zip(("dense", "source", "artifact"), cells, strict=True):
                found = audit["subjects"][subject]["measurements"][group][name]
                assert (cell, access) == (text(found["auc"]), found["access"])
        keys = ("balanced_accuracy", "tpr_at_1pct_fpr", "tpr_at_01pct_fpr", "ppv_at_prior_1pct", "ppv_at_prior_10pct")
        for name, *cells in tables[position + 2][1:]:
            found = audit["subjects"]["artifact"]["measurements"][group][name]
            assert cells == [text(found[key]) for key in keys]
    summary = {row[0].strip(): row[1:] for row in tables[0]}
    for subject, cell in zip(("dense", "source", "artifact"), summary["attack AUC, all members"], strict=True):
        assert cell == text(audit["subjects"][subject]["strongest"]["all"]["auc"])
    assert summary["test accuracy"][2] == f"{100 * audit['subjects']['artifact']['accuracy']['test']:.1f}%"
    assert summary["file size"][2] == f"{value['manifest']['size_bytes'] / 1024:,.1f} KiB"


def test_what_the_sample_cannot_resolve_is_said(value) -> None:
    """100 non-members can not show a false positive rate of 0.1 %."""
    assert value["audit"]["subjects"]["artifact"]["measurements"]["all"]["loss"]["tpr_at_01pct_fpr"]["value"] is None
    for text in (html(value), markdown(value)):
        assert "not resolvable" in text
        assert "None" not in text
    assert estimate({"value": 0.5, "low": 0.25, "high": 1.0}) == "0.500 [0.250, 1.000]"


@pytest.mark.parametrize("missing", [["dense"], ["source"], ["dense", "source"]], ids=str)
def test_a_report_without_relatives_shows_what_there_is(value, missing) -> None:
    for name in missing:
        del value["audit"]["subjects"][name]
    if "dense" in missing:
        value["bench"]["baseline"] = value["bench"]["speedup"] = None
    value["audit"]["notes"] = [f"no {name}" for name in missing]
    columns = [n for n, key in (("dense", "dense"), ("pruned (PyTorch)", "source")) if key not in missing]
    page = Page(html(value))
    assert page.tables[0][0][1:] == [*columns, "exported file"]
    assert page.tables == markdown_tables(markdown(value))
    assert all(f"no {name}" in page.text for name in missing)
    assert {a["class"] for tag, a in page.tags if tag == "path"}.isdisjoint(missing)


def test_a_report_without_canaries_has_one_panel(value) -> None:
    for subject in value["audit"]["subjects"].values():
        del subject["measurements"]["canaries"]
    value["audit"]["exposure"]["by_kind"] = {}
    page = Page(html(value))
    assert [tag for tag, _ in page.tags].count("figure") == 1
    assert "canaries" not in json.dumps(page.tables)


@pytest.mark.parametrize("overall", ["pass", "fail", "inconclusive"])
def test_the_verdict_is_the_first_thing_said(value, overall) -> None:
    value["audit"]["verdict"]["overall"] = overall
    value["audit"]["verdict"]["sentence"] = "This is the sentence."
    title = {"pass": "Within what was tested, yes.", "fail": "Not by this policy.", "inconclusive": "cannot tell."}
    body = Page(html(value)).text.partition("</style>")[2] or Page(html(value)).text
    assert body.index(title[overall]) < body.index("This is the sentence.") < body.index("Before and after")
    assert markdown(value).startswith(f"# mobileprune report: {overall}\n\nThis is the sentence.\n")


def curve(fpr: list[float], tpr: list[float]) -> list[tuple[float, float]]:
    """The corners of the drawn path, through the public panel."""
    best = {"attack": "loss", "auc": {"value": 0.5}, "roc": {"fpr": fpr, "tpr": tpr}}
    ((_, _, path),) = panel({"artifact": {"measurements": {"all": {"loss": best}}}}, "all").curves
    start, *steps = re.findall(r"M([\d.]+) ([\d.]+)|H([\d.]+) V([\d.]+)", path)
    return [(float(start[0]), float(start[1])), *((float(x), float(y)) for _, _, x, y in steps)]


def where(rate: float) -> float:
    """Three decades over SIZE units: 0.001 at 0, 0.01 at a third, 1 at SIZE."""
    return SIZE * (3 + math.log10(max(rate, 0.001))) / 3


def test_curves_lie_where_the_logarithm_puts_them() -> None:
    fpr, tpr = [0.0, 0.0, 0.002, 0.05, 0.3, 1.0], [0.0, 0.01, 0.01, 0.2, 0.6, 1.0]
    expected = [(where(x), SIZE - where(y)) for x, y in zip(fpr, tpr, strict=True)]
    assert curve(fpr, tpr) == pytest.approx([pytest.approx(point, abs=0.06) for point in expected])
    assert curve([0, 1], [0, 1])[-1] == (SIZE, 0)
    assert LOWEST == 0.001


def test_ticks_and_the_chance_line_fit_the_curves() -> None:
    drawn = panel({}, "all")
    assert drawn.curves == []
    assert [(at, text) for at, text in drawn.ticks] == [
        (pytest.approx(where(float(text)), abs=0.06), text) for text in ("0.001", "0.01", "0.1", "1")
    ]
    ends = [float(number) for number in re.findall(r"[\d.]+", drawn.chance)]
    assert ends == [0, SIZE, SIZE, 0], "equal rates: from the lower left corner straight to the upper right"


def test_the_curve_of_the_real_report_is_the_strongest_attacks(value) -> None:
    for group in ("all", "canaries"):
        found = {name: path for name, _, path in panel(value["audit"]["subjects"], group).curves}
        assert list(found) == ["dense", "source", "artifact"]
        for name in found:
            best = highest(value["audit"]["subjects"][name]["measurements"][group])
            assert curve(best["roc"]["fpr"], best["roc"]["tpr"])
            assert found[name] in html(value)


def test_rows_are_rectangular(value) -> None:
    for rows in (summary_rows(value), attack_rows(value["audit"], "all"), rate_rows(value["audit"], "canaries")):
        assert {len(row) for row in rows} == {len(rows[0])}
        assert all(isinstance(cell, str) for row in rows for cell in row)
