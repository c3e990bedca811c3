"""The one schema document is valid, strict everywhere, and its complaints name the place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mobileprune.bounds import MOST_CLASSES
from mobileprune.schemas import document, parse, problems

DEFS: dict[str, Any] = document()["$defs"]


def nodes(schema: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside ``schema``, with its place."""
    if not isinstance(schema, dict):
        return
    yield place, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{place}/{name}")
    for key in ("items", "additionalProperties"):
        yield from nodes(schema.get(key), f"{place}/{key}")
    for i, part in enumerate(schema.get("anyOf", [])):
        yield from nodes(part, f"{place}/{i}")


NODES = dict(pair for name, schema in DEFS.items() for pair in nodes(schema, name))


def test_the_document_is_a_valid_2020_12_schema() -> None:
    assert document()["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(document())


@pytest.mark.parametrize("place", [place for place, schema in NODES.items() if schema.get("type") == "object"])
def test_objects_admit_no_unknown_members(place: str) -> None:
    schema = NODES[place]
    rule = schema.get("additionalProperties")
    assert rule is False or isinstance(rule, dict)
    assert set(schema.get("required", [])) <= set(schema.get("properties", {}))


def test_every_reference_leads_somewhere() -> None:
    targets = {schema["$ref"] for schema in NODES.values() if "$ref" in schema}
    assert targets <= {f"#/$defs/{name}" for name in DEFS}


def test_every_string_pattern_is_anchored_at_both_ends() -> None:
    patterns = [schema["pattern"] for schema in NODES.values() if "pattern" in schema]
    assert patterns
    for pattern in patterns:
        assert pattern.startswith("^")
        assert not re.search(pattern, "a" * 64 + "\n"), "Python's $ lets a newline pass"


def test_no_document_counts_more_classes_than_readers_take() -> None:
    counts = [schema["maximum"] for place, schema in NODES.items() if place.endswith("/num_classes")]
    assert counts
    assert set(counts) == {MOST_CLASSES}


@pytest.mark.parametrize("verb", ["export", "bench", "attack", "audit", "report", "inspect", "compare", "explain"])
def test_each_verbs_document_has_a_schema(verb: str) -> None:
    assert {"properties", "$ref"} & set(DEFS[verb])
    assert problems({}, verb)


LAYER = {"shape": [2, 3], "total": 6, "zeros": 1}
SPARSITY = {
    "prunable_zeros": 1,
    "prunable_total": 6,
    "zero_channels": 0,
    "channels": 2,
    "all_zeros": 1,
    "all_total": 8,
    "layers": {"fc": LAYER},
}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"all_zeros": -1}, "all_zeros: "),
        ({"prunable_total": True}, "prunable_total: "),
        ({"layers": {"fc": LAYER | {"zeros": "1"}}}, "layers/fc/zeros: "),
        ({"layers": {"fc": LAYER | {"shape": [2, None]}}}, "layers/fc/shape/1: "),
        ({"extra": 1}, "the document: .*'extra'"),
    ],
)
def test_problems_name_the_place(change: dict[str, Any], place: str) -> None:
    assert problems(SPARSITY, "sparsity") == []
    (found,) = problems(SPARSITY | change, "sparsity")
    assert re.match(place, found)


def test_problems_are_few_and_short() -> None:
    many = {"layers": {str(i): {"shape": "x" * 10_000} for i in range(100)}}
    assert len(problems(many, "sparsity")) == 5
    assert len(problems(many, "sparsity", limit=2)) == 2
    assert all(len(line) < 200 for line in problems(many, "sparsity"))


@pytest.mark.parametrize("value", [None, [], "text", 3, True])
def test_a_document_of_another_type_is_a_problem(value: Any) -> None:
    (found,) = problems(value, "sparsity")
    assert found.startswith("the document: ")


@pytest.mark.parametrize("text", [rb'"\ud800"', rb'{"\uDFFF": 1}', b'"\xed\xa0\x80"', b'"\xff"', "1".encode("utf-16")])
def test_what_is_no_text_is_not_read(text: bytes) -> None:
    """Python reads them all, and then cannot print or write what it read."""
    with pytest.raises(ValueError, match=r"surrogate|utf-8"):
        parse(text)


@pytest.mark.parametrize("text", ["1" + "0" * 400, "-1" + "0" * 19, "9" * 5000, "1e400", "NaN", "-Infinity"])
def test_what_is_too_large_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"too large|finite|digits"):
        parse(f'{{"a": [{text}]}}'.encode())


def test_all_other_json_is_read() -> None:
    assert parse('\ufeff{"a": ["\\ud83d\\ude00", "dög", 9223372036854775807, -1.5]}'.encode()) == {
        "a": ["😀", "dög", 2**63 - 1, -1.5]
    }
