"""The page of a sweep: the front and the choice are where the document says, and nothing leaves the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.sweeps import document

from mobileprune.report import write_sweep_report
from mobileprune.report.sweep import pareto_charts, sweep_html
from mobileprune.report.sweep_tables import baseline_rows, case_rows, numbering, point_rows, telling

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def value() -> dict[str, Any]:
    return document()


def centres(chart: Any, css: str) -> list[tuple[float, float]]:
    """Of the dots of a class: the middles of their circles."""
    found = (re.match(r"M(\S+) ([\d.]+)a5", s.path) for s in chart.shapes if (s.kind, s.css) == ("dot", css))
    return [(float(m[1]) + 5, float(m[2])) for m in found if m]


def test_dots_lie_where_the_means_are(value: dict[str, Any]) -> None:
    charts = dict(pareto_charts(value))
    assert list(charts) == ["file, bytes", "latency, ms", "attack AUC, all members"]
    chart = charts["attack AUC, all members"]
    means = {case["id"]: case["means"] for case in value["cases"]}
    assert centres(chart, "artifact") == [
        pytest.approx((chart.x.at(means[i]["auc"]["mean"]), chart.up(means[i]["test_accuracy"]["mean"])), abs=0.11)
        for i in value["front"]
    ]
    assert len(centres(chart, "other")) == len(value["cases"]) - len(value["front"])
    assert len(centres(chart, "dense")) == len(value["baselines"])
    assert len(centres(charts["latency, ms"], "dense")) == 0, "dense models are not timed by themselves"
    assert [text for _, _, text in chart.texts] == ["1", "2", "3"]
    (ring,) = [shape for shape in chart.shapes if shape.kind == "ring"]
    x, _ = centres(chart, "artifact")[-1]
    assert ring.path.startswith(f"M{round(x - 9, 1)} ")


def test_numbers_that_would_lie_on_each_other_are_one_text(value: dict[str, Any]) -> None:
    value["cases"][1]["means"] |= {"test_accuracy": value["cases"][0]["means"]["test_accuracy"]}
    value["cases"][1]["means"] |= {"auc": value["cases"][0]["means"]["auc"]}
    chart = dict(pareto_charts(value))["attack AUC, all members"]
    assert [text for _, _, text in chart.texts] == ["1, 2", "3"]


def test_options_that_are_set_together_are_one_value(value: dict[str, Any]) -> None:
    value["grid"]["network"] = [{"model": "lenet5", "batch_size": 32}, {"model": "resnet8"}]
    assert "model lenet5, batch_size 32; model resnet8" in sweep_html(value)


def test_tables_hold_the_means(value: dict[str, Any]) -> None:
    rows = case_rows(value, value["front"])
    assert rows[0][:4] == ("case", "method", "sparsity", "test accuracy")
    assert [row[:4] for row in rows[1:]] == [
        ("mia-0.7", "mia", "0.7", "36.0% [35.0%, 37.0%]"),
        ("mia-0.9", "mia", "0.9", "34.0% [33.0%, 35.0%]"),
        ("mia-0.95", "mia", "0.95", "32.0% [31.0%, 33.0%]"),
    ]
    assert rows[0][-2:] == ("front", "misses")
    assert [row[-2:] for row in rows[1:]] == [("1", "max_auc"), ("2", "max_auc"), ("3", "-")]
    assert case_rows(value, ["magnitude-0.9"])[1][-2:] == ("-", "max_auc")
    assert numbering(value) == {"mia-0.7": "1", "mia-0.9": "2", "mia-0.95": "3"}


def test_a_brief_table_has_the_same_numbers_and_fewer_intervals(value: dict[str, Any]) -> None:
    full, brief = (case_rows(value, value["front"], brief=brief) for brief in (False, True))
    wide = ["test accuracy", "attack AUC, all members"]
    assert brief[0] == ("case", "method", "sparsity", wide[0], "file, bytes", "latency, ms", wide[1])
    for cells, all_cells in zip(brief[1:], full[1:], strict=True):
        row, all_of_it = (dict(zip(head, c, strict=True)) for head, c in ((brief[0], cells), (full[0], all_cells)))
        assert [name for name, cell in row.items() if "[" in cell] == wide
        assert row == {
            name: cell if name in wide else cell.split(" [")[0] for name, cell in all_of_it.items() if name in row
        }


def test_what_was_measured_of_one_file_stands_in_its_row(value: dict[str, Any]) -> None:
    head, first, second, *_ = point_rows(value)
    assert head[:5] == ("artifact", "method", "sparsity", "seed", "verdict")
    assert first == ("mia-0.7-0", "mia", "0.7", "0", "fail", "36.0%", "0.800 [0.770, 0.830]", "-", "0" * 12)
    assert second[7] == "0.900 [0.870, 0.930]"
    assert baseline_rows(value)[1] == (("dense-0", "defaults", "0", "37.0%", "0.900 [0.870, 0.930]", "-", "250,000"))


def test_tables_show_the_options_that_tell_cases_apart() -> None:
    options = [
        {"model": m, "members": n, "method": "mia", "sparsity": s} for m, n in (("a", 1), ("b", 2)) for s in (0.5, 0.9)
    ]
    assert telling([{"options": each} for each in options]) == ["model", "sparsity"]
    assert telling([{"options": each} for each in options[:2]]) == ["sparsity"]
    assert telling([{"options": options[0]}]) == []
    assert telling([{"options": {"a": 1}}, {"options": {"b": 1}}]) == ["a"]


@pytest.mark.parametrize(
    ("chosen", "answer"),
    [({"fits": True}, "Yes: one is chosen."), ({"fits": False}, "No: nothing fits"), (None, "3 of 6 combinations")],
)
def test_the_choice_is_said_first(value: dict[str, Any], chosen: dict[str, Any] | None, answer: str) -> None:
    value["chosen"] = chosen and value["chosen"] | chosen | {"sentence": "The sentence."}
    text = sweep_html(value).partition("<main>")[2]
    assert (
        text.index(answer)
        < text.index("The sentence." if chosen else "No limits were given")
        < text.index("The Pareto front")
    )


def test_what_is_not_measured_leaves_the_page_whole(value: dict[str, Any]) -> None:
    for case in value["cases"]:
        case["means"] = {key: mean for key, mean in case["means"].items() if key in ("size_bytes", "deflated_bytes")}
        case["rank"] = None
    for point in value["points"]:
        point |= {"test_accuracy": None, "latency": None, "accuracy_drop": None}
    value |= {"front": [], "chosen": None}
    assert list(pareto_charts(value)) == []
    assert "0 of 6 combinations" in sweep_html(value)


def test_one_case_alone_has_axes(value: dict[str, Any]) -> None:
    only = value["cases"][0]
    for mean in only["means"].values():
        mean |= {"low": None, "high": None, "count": 1}
    value |= {"cases": [only], "front": [only["id"]], "baselines": [], "chosen": None}
    assert [centres(chart, "artifact") for _, chart in pareto_charts(value)] == [[(180.0, 130.0)]] * 3, "in the middle"


def test_hostile_names_are_text(value: dict[str, Any], tmp_path: Path) -> None:
    value["name"] = value["notes"][0] = value["failed"][0]["error"] = EVIL
    value["cases"][0]["options"] = value["points"][0]["options"] = {EVIL: EVIL}
    path = write_sweep_report({key: part for key, part in value.items() if key != "schema"}, tmp_path)
    text = path.read_text("utf-8")
    assert "<script>" not in text
    script = text.partition('<script type="application/json" id="document">')[2].partition("</script>")[0]
    assert json.loads(script) == value
    links = re.findall(r'<a class="n" href="#([^"]+)">', text)
    assert links
    assert {f'id="{link}"' for link in links} <= set(re.findall(r'id="[^"]+"', text))
    assert not re.search(r"url\(|@import|https?://", text)
