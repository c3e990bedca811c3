"""The report: self-contained, escaped, and the same numbers in HTML, Markdown and JSON."""

from __future__ import annotations

import copy
import json
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import pytest
from scipy.stats import binomtest

from mobileprune.attacks import ATTACKS
from mobileprune.report.render import card, html, markdown
from mobileprune.report.tables import attack_rows, estimate, rate_rows, summary_rows
from mobileprune.schemas import problems

EVIL = "<script>alert('x')</script>|\"&\n# head *b* [a](http://b) `c` \\"


class Page(HTMLParser):
    """Tags with attributes, text, and tables as rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.tables, self._cell = "", [], None
        self.open: list[str] = []
        self.script = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "path", "link"):
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
        if self.open and self.open[-1] in ("script", "style"):
            self.script += data * (self.open[-1] == "script")
            return
        self.text += data
        if self._cell is not None:
            self._cell += data


def markdown_tables(text: str) -> list[list[list[str]]]:
    tables: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if not line.startswith("|"):
            tables.append([])
        elif not re.fullmatch(r"(\| --- )+\||\|( --- \|)+", line):
            cells = re.findall(r"((?:\\.|[^|\\])*)\|", line[1:])
            tables[-1].append([unescape(re.sub(r"\\(.)", r"\1", cell)).strip() for cell in cells])
    return [table for table in tables if table]


@pytest.mark.parametrize("page_of", [html, card])
def test_the_page_asks_for_nothing_outside_itself(value, page_of) -> None:
    text = page_of(value)
    page = Page(text)
    assert page.open == [], "every tag is closed"
    names = {name for _, attributes in page.tags for name in attributes}
    assert names.isdisjoint({"src", "srcset", "xlink:href", "action", "data", "poster", "background"})
    assert {tag for tag, _ in page.tags}.isdisjoint({"iframe", "img", "object", "embed", "base", "form"})
    assert all(a["href"].startswith(("#", "data:,")) for _, a in page.tags if "href" in a)
    assert {a.get("type") for tag, a in page.tags if tag == "script"} <= {"application/json"}, "nothing that is run"
    assert not any(name.startswith("on") for name in names)
    assert not re.search(r"url\(|@import|https?://", text)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert text == page_of(copy.deepcopy(value)), "the same document gives the same bytes"


def resolve(document: Any, pointer: str) -> Any:
    """RFC 6901."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def written(found: Any) -> set[str]:
    """All that the page may write for a value of the document."""
    if isinstance(found, dict) and "zeros" in found:
        return {f"{found['zeros'] / found['total']:.4f}"}
    if isinstance(found, dict):
        forms: tuple[str, ...] = ("{value:.1%} [{low:.1%}, {high:.1%}]",)
        forms += ("{value:.3f} [{low:.3f}, {high:.3f}]", "{value:.2f}x [{low:.2f}, {high:.2f}]", "{value:.2f}")
        return {"not resolvable"} if found["value"] is None else {form.format(**found) for form in forms}
    if isinstance(found, str | None):
        return {"-"} if found is None else {"not known"}
    forms = ("{:,}", "{:.1%}", "{:.3f} ms", "{:.1f} ms", "{:.3g} ms", "{:.2f}", "{:g}")
    return {form.format(found) for form in forms} | {f"{found / 1024:,.1f} KiB", f"{100 * found:.0f}"}


def test_every_number_leads_to_where_it_was_taken_from(value) -> None:
    """Links have anchors, and their text is what the value there is written as."""
    layers = value["manifest"]["sparsity"]["layers"]
    layers["a/b ~c"] = layers.pop("fc1.weight")
    text = html(value)
    page = Page(text)
    anchors = [a["id"] for _, a in page.tags if "id" in a]
    assert len(anchors) == len(set(anchors))
    links = re.findall(r'<a class="n" href="#([^"]+)">([^<]+)</a>', text)
    assert {target for target, _ in links} <= set(anchors)
    assert len(links) > 100
    document = json.loads(page.script)
    for target, shown in links:
        assert shown.partition(" of ")[0] in written(resolve(document, unquote(target))), target
    assert any(unquote(target) == "/manifest/sparsity/layers/a~1b ~0c" for target, _ in links)


def test_the_document_in_the_page_is_valid_and_tells_no_path(value) -> None:
    value["artifact"] = "/home/somebody/out"
    for subject in value["audit"]["subjects"].values():
        drawn = subject["measurements"]["all"]
        assert sum(bool(m["roc"]["fpr"]) for m in drawn.values()) > 1
    text = html(value)
    document = json.loads(Page(text).script)
    assert problems(document, "report") == []
    assert "/home/somebody" not in text
    subject = document["audit"]["subjects"]["artifact"]
    drawn = [name for name, m in subject["measurements"]["all"].items() if m["roc"]["fpr"]]
    assert drawn == [subject["distributions"]["all"]["attack"]], "only the curve that the page draws"


def test_a_page_with_every_attack_stays_small(value) -> None:
    """23 attacks with curves of 200 points each, and 150 layers."""
    for subject in value["audit"]["subjects"].values():
        for group, by_attack in subject["measurements"].items():
            some = dict(by_attack[subject["distributions"][group]["attack"]])
            some["roc"] = {side: [i / 199.7 for i in range(200)] for side in ("fpr", "tpr")}
            by_attack.update({f"attack_{i}": some | {"attack": f"attack_{i}"} for i in range(23 - len(by_attack))})
    layers = value["manifest"]["sparsity"]["layers"]
    layers.update({f"features.{i}.conv.weight": layers["conv1.weight"] for i in range(150)})
    assert len(html(value).encode()) < 1_500_000


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
    for page_of in (html, card):
        page = Page(page_of(value))
        assert {a.get("type") for tag, a in page.tags if tag == "script"} <= {"application/json"}
        assert "<script>alert('x')</script>|\"&" in page.text
    assert EVIL in json.loads(Page(html(value)).script)["manifest"]["labels"]


def test_hostile_names_are_text_in_markdown(value) -> None:
    before = markdown_tables(markdown(value))
    spoil(value)
    text = markdown(value)
    after = markdown_tables(text)
    assert [[len(row) for row in table] for table in after] == [[len(row) for row in table] for table in before]
    assert "<script>" not in text
    assert "\n# head" not in text
    assert not re.search(r"(?<!\\)(\*b|\[a|`c`)", text)


def test_a_pipe_in_markdown_stays_in_its_cell(value) -> None:
    layers = value["manifest"]["sparsity"]["layers"]
    layers["a|b"] = layers.pop("fc1.weight")
    rows = markdown_tables(markdown(value))[-1]
    assert rows[0][-2:] == ["bytes", "entropy, bytes"]
    assert ["a|b", "120x400"] in [row[:2] for row in rows]


def test_tables_are_the_same_in_html_and_markdown(value) -> None:
    in_html = [[[cell or "" for cell in row] for row in table] for table in Page(html(value)).tables]
    in_markdown = markdown_tables(markdown(value))
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
    tested = audit["data"]["counts"]["test"]
    for subject, cell in zip(
        ("dense", "source", "artifact"), summary[f"test accuracy, {tested:,} images"], strict=True
    ):
        share = audit["subjects"][subject]["accuracy"]["test"]
        exact = binomtest(round(share * tested), tested).proportion_ci(0.95, "exact")
        assert cell == f"{100 * share:.1f}% [{100 * exact.low:.1f}%, {100 * exact.high:.1f}%]"
    assert summary["file size"][2] == f"{value['manifest']['size_bytes'] / 1024:,.1f} KiB"


def test_what_the_sample_cannot_resolve_is_said(value) -> None:
    """100 non-members can not show a false positive rate of 0.1 %."""
    assert value["audit"]["subjects"]["artifact"]["measurements"]["all"]["loss"]["tpr_at_01pct_fpr"]["value"] is None
    for text in (html(value), markdown(value)):
        assert "not resolvable" in text
        assert "None" not in text
    assert estimate({"value": 0.5, "low": 0.25, "high": 1.0}) == "0.500 [0.250, 1.000]"


def test_what_was_asked_for_and_could_not_be_tried_was_not_tested(value) -> None:
    audit = value["audit"]
    readers = [name for name, attack in ATTACKS.items() if "gradients" in attack.needs]
    skipped = audit["subjects"]["artifact"]["skipped"]
    audit["effort"]["access"] = "file"
    audit["subjects"]["artifact"]["skipped"] = {name: why for name, why in skipped.items() if name not in readers}
    assert "read the weights" not in Page(html(value)).text
    audit["subjects"]["artifact"]["skipped"] |= dict.fromkeys(readers, "gradients need a file of target onnx")
    text = Page(html(value)).text
    assert "attackers who read the weights, who were asked for: gradients need a file of target onnx" in text
    assert Page(card(value)).text.count("attackers who read the weights") == 1


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
    assert [tag for tag, _ in page.tags].count("figure") == 2 + 1, "curve and scores of all members, and latency"
    assert "canaries" not in json.dumps(page.tables)


@pytest.mark.parametrize("overall", ["pass", "fail", "inconclusive"])
def test_the_verdict_is_the_first_thing_said(value, overall) -> None:
    value["audit"]["verdict"]["overall"] = overall
    value["audit"]["verdict"]["sentence"] = "This is the sentence."
    title = {"pass": "Yes, within what was tested.", "fail": "No, not by this policy.", "inconclusive": "cannot tell."}
    value["audit"]["verdict"]["findings"][0] |= {"question": "deployment", "verdict": "fail", "sentence": "A finding."}
    for page_of in (html, card):
        body = Page(page_of(value)).text.partition("safe to ship?")[2]
        assert body.index(title[overall]) < body.index("A finding.") < body.index("test accuracy")
    assert markdown(value).startswith(f"# mobileprune report: {overall}\n\nThis is the sentence.\n")


def on_a_device(value: dict[str, Any], *, emulated: bool) -> None:
    """What `report --device` adds to the document; the numbers are this machine's."""
    device = {"name": "qemu:cortex-a53" if emulated else "local", "platform": "linux-aarch64", "emulated": emulated}
    machine = {"architecture": "aarch64", "system": "Linux", "cpu": "Cortex-A53", "features": "neon", "cores": 4}
    device |= {"runtime": "1.32.0", "machine": machine}
    names = ("latency_ms", "runs", "blocks", "load_ms", "peak_memory_bytes", "added_memory_bytes", "size_bytes")
    names += ("deflated_bytes", "nonzeros", "weights")
    costs = {}
    for side in ("artifact", "baseline"):
        found = {name: value["bench"][side][name] for name in names} | {"first_run_ms": 3.25, "instructions": None}
        if emulated:
            found |= dict.fromkeys([*names[:6], "first_run_ms"]) | {"instructions": 1_234_567}
        costs[side] = found
    rest = {"kernels": "", "num_threads": 1, "cpus": "", "checks": [], "profile": [], "operators": {}, "sustained": []}
    ratios = {
        "speedup": None if emulated else value["bench"]["speedup"],
        "fewer_instructions": 1.5 if emulated else None,
    }
    value["device_bench"] = {"device": device, **costs, **ratios, "valid": True, **rest}
    measured = value["audit"]["subjects"]["artifact"]["measurements"]
    aucs = {group: {name: m["auc"] for name, m in by_attack.items()} for group, by_attack in measured.items()}
    answers = {"kernels": "", "examples": 200, "largest_difference": 1e-6, "top1_differ": 0}
    value["audit"]["on_device"] = {"device": device, **answers, "auc": aucs, "auc_difference": aucs}


@pytest.mark.parametrize("emulated", [False, True])
def test_what_a_device_did_is_a_section_of_its_own(value, emulated) -> None:
    assert "On the device" not in html(value)
    on_a_device(value, emulated=emulated)
    assert problems(value, "report") == []
    text = html(value)
    page = Page(text)
    assert "On the device" in page.text
    (rows,) = (
        table for table in page.tables if ["first run", "3.2 ms", "3.2 ms"] in table or "1,234,567" in str(table)
    )
    assert ("latency p50" in [row[0] for row in rows]) is not emulated, "an emulated device has no times"
    links = re.findall(r'<a class="n" href="#(/(?:device_bench|audit/on_device)[^"]+)">', text)
    assert len(links) >= 4
    assert set(links) <= {attributes["id"] for _, attributes in page.tags if "id" in attributes}


def test_classes_are_called_by_their_names(value) -> None:
    labels = value["manifest"]["labels"] = [f"kind_{k}" for k in range(10)]
    labels[3], labels[4] = EVIL, " "
    audit = value["audit"]["exposure"]["by_class"]
    for tables in (Page(html(value)).tables, markdown_tables(markdown(value))):
        (rows,) = (dict(table[1:]) for table in tables if table[0][0] == "class or kind")
        assert rows["kind_7"] == estimate(audit["7"])
        assert rows["4"] == estimate(audit["4"]), "a name that nobody can see is none"
        assert {name for name in rows if name.startswith("kind_")} == {f"kind_{k}" for k in (0, 1, 2, 5, 6, 7, 8, 9)}
        assert any("alert('x')" in name for name in rows)


def test_why_one_auc_has_three_intervals_is_said_below_the_first_of_them(value) -> None:
    finding = next(f for f in value["audit"]["verdict"]["findings"] if f["question"] == "ceiling")
    chosen = value["audit"]["subjects"]["artifact"]["strongest"]["all"]["auc"]
    alone = value["audit"]["subjects"]["artifact"]["measurements"]["all"][finding["attack"]]["auc"]
    assert (chosen["confidence"], alone["confidence"]) == (0.95, 0.95)
    alpha = value["audit"]["verdict"]["policy"]["alpha"]
    assert 1 - 2 * alpha < finding["estimate"]["confidence"] < 1 - alpha, "only one side is corrected"
    for page in (Page(html(value)).text, markdown(value)):
        first, said = page.index("speed-up"), page.index("One AUC has three intervals")
        assert first < said
        assert page.index("Every attack") > said


def test_notes_are_not_what_was_not_tested(value) -> None:
    value["audit"]["notes"], value["bench"]["valid"] = ["The model is known to us."], True
    known, untested = markdown(value).partition("## To be known")[2].split("## Not tested")
    assert known.strip() == "- The model is known to us."
    assert "known to us" not in untested
    value["audit"]["notes"] = []
    assert "To be known" not in markdown(value)


def test_rows_are_rectangular(value) -> None:
    for rows in (summary_rows(value), attack_rows(value["audit"], "all"), rate_rows(value["audit"], "canaries")):
        assert {len(row) for row in rows} == {len(rows[0])}
        assert all(isinstance(cell, str) for row in rows for cell in row)
