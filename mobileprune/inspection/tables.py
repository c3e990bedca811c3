"""Inspection's results as rows of text; the first row holds the headings. All values are those of ``--json``."""

from __future__ import annotations

from typing import Any

Rows = list[tuple[str, ...]]
WORDS = {"gain": "yes", "none": "no", "loss": "no, on the contrary", "depends": "it depends"}


def number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if isinstance(value, float) else str(value)


def share(part: int | None, whole: int | None) -> str:
    return "-" if part is None or not whole else f"{part / whole:.2%}"


def size(shape: list[int] | None) -> str:
    return "-" if shape is None else "x".join(map(str, shape))


def layer_rows(contents: dict[str, Any]) -> Rows:
    """One line a layer, and the sum."""
    keys = ("total", "zeros", "zero_channels", "macs", "zero_macs", "stored_bytes", "bound_bytes")
    layers = contents["layers"]
    rows: Rows = [
        ("layer", "shape", "weights", "zero", "zero channels", "MACs", "by zero", "bytes", "entropy, bytes"),
    ]
    sums = {
        key: None if None in (column := [x[key] for x in layers.values()]) else sum(column) for key in keys if layers
    }
    for name, layer in [*layers.items(), *([("all", {**sums, "shape": None})] if layers else [])]:
        rows.append(
            (
                name,
                size(layer["shape"]),
                number(layer["total"]),
                share(layer["zeros"], layer["total"]),
                number(layer["zero_channels"]),
                number(layer["macs"]),
                share(layer["zero_macs"], layer["macs"]),
                number(layer["stored_bytes"]),
                number(layer["bound_bytes"]),
            )
        )
    return rows


def operators(contents: dict[str, Any]) -> str:
    """``9 Conv, 7 Relu``; names alone where the file has no counts."""
    found = contents["operators"]
    if found is None:
        return "unknown"
    return ", ".join(name if count is None else f"{count} {name}" for name, count in found.items())


def storage_rows(storage: dict[str, Any]) -> Rows:
    rows: Rows = [("form", "bytes of the file", "")]
    rows += [(form, number(count), "this file" * (form == storage["form"])) for form, count in storage["sizes"].items()]
    return rows


def value_rows(difference: dict[str, Any]) -> Rows:
    rows: Rows = [("", "A", "B", "B / A")]
    for key, (a, b) in difference["values"].items():
        if a is None and b is None:
            continue
        ratio = f"{b / a:.3f}" if isinstance(a, int) and isinstance(b, int) and a else ""
        rows.append((key.replace("_", " "), number(a), number(b), ratio))
    for form, (a, b) in difference["forms"].items():
        rows.append((f"bytes if {form}", number(a), number(b), f"{b / a:.3f}" if a and b else ""))
    return rows


def layer_difference_rows(difference: dict[str, Any]) -> Rows:
    rows: Rows = [("layer", "shape A", "shape B", "zero A", "zero B", "MACs A", "MACs B")]
    for name, layer in difference["layers"].items():
        if any(a != b for a, b in layer.values()):
            zeros = (share(*pair) for pair in zip(layer["zeros"], layer["total"], strict=True))
            rows.append((name, *map(size, layer["shape"]), *zeros, *map(number, layer["macs"])))
    return rows


def unread(difference: dict[str, Any]) -> list[str]:
    """Of which side no report was read, and why."""
    sides = zip("AB", difference["unread"], strict=True)
    return [f"nothing measured of {side}: {why}" for side, why in sides if why]


def pair_rows(pairs: dict[str, Any], what: str) -> Rows:
    rows: Rows = [(what, "A", "B")]
    rows += [(name, number(a), number(b)) for name, (a, b) in pairs.items()]
    return rows


def network_sentence(value: dict[str, Any]) -> str:
    """What an explanation is about."""
    verb = "are" if value["counted"] else "will be"
    text = f"{value['zeros']:,} of {value['weights']:,} weights {verb} zero ({share(value['zeros'], value['weights'])})"
    if gone := value["dense_weights"] - value["weights"]:
        text += f", {gone:,} {verb} taken out"
    if value["macs"] is not None:
        text += f"; {value['macs']:,} multiplications for one image"
    return f"{value['subject']}, target {value['target']}, {value['precision']}, form {value['form']}: {text}"
