"""``inspect`` and ``compare``: what is in a file, said without torch and the second that importing it takes."""

from __future__ import annotations

import argparse
from typing import Any

from mobileprune import inspection
from mobileprune.cli.finish import finish
from mobileprune.cli.printing import plain, plain_rows, print_table
from mobileprune.cli.progress import Console
from mobileprune.errors import printable
from mobileprune.inspection import tables
from mobileprune.report.sentences import kernels_sentence, sparsity_sentence
from mobileprune.report.tables import kernel_rows, measured_rows

MAX_CLASSES = 20


def inspect(args: argparse.Namespace, console: Console) -> int:
    if args.lint:
        from mobileprune.cli.verbs import lint

        return lint(args, console)
    value = inspection.inspect(args.artifact)
    finish(args, value, lambda: _show_view(value))
    return 0


def compare(args: argparse.Namespace, console: Console) -> int:
    value = inspection.compare(args.a, args.b).to_dict()
    finish(args, value, lambda: _show_difference(value))
    return 0


def _show_view(value: dict[str, Any]) -> None:
    """What its manifest says, where there is one, and what is in the file."""
    size = f"{value['size_bytes']:,} bytes ({value['deflated_bytes']:,} deflated), sha256 {value['sha256']}"
    print(f"file {printable(value['file'])}, {size}")
    if "target" in value:
        shape = ", ".join(map(str, value["input_shape"]))
        print(f"target {value['target']}, {value['precision']}; input (N, {shape}), {value['num_classes']} classes")
        inside = "in the file" if value["preprocessing_baked"] else "to be done before it"
        print(f"(pixels / 255 - mean) / std {inside}: mean {_numbers(value['mean'])}, std {_numbers(value['std'])}")
        classes = [*value["labels"][:MAX_CLASSES], *(["..."] if value["num_classes"] > MAX_CLASSES else [])]
        print(printable(f"classes: {', '.join(classes)}"))
        print(printable(sparsity_sentence(value["sparsity"])))
        storage = value["storage"]
        print_table(plain_rows(tables.storage_rows(storage)), plain(f"stored as {storage['form']}: {storage['why']}"))
        if kernels := storage.get("kernels"):
            print_table(plain_rows(kernel_rows(kernels)), plain(kernels_sentence(kernels)))
    contents = value["contents"]
    if contents["layers"]:
        print_table(plain_rows(tables.layer_rows(contents)), "layers")
    if contents["macs"] is not None:
        by_zero = tables.share(contents["zero_macs"], contents["macs"])
        print(f"{contents['macs']:,} multiplications for one image, {by_zero} of them by zero")
    print(f"operators: {printable(tables.operators(contents))}")
    for note in contents["notes"]:
        print(printable(note))


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _show_difference(value: dict[str, Any]) -> None:
    print(f"A {printable(value['a'])}\nB {printable(value['b'])}")
    if value["same_file"]:
        print("the model files are the same, byte for byte")
    if value["measured"]:
        print_table(plain_rows(measured_rows(value)), "measured, by the report of each")
    for sentence in tables.unread(value):
        print(printable(sentence))
    for caveat in value["caveats"]:
        print(printable(f"note: {caveat}"))
    print_table(tables.value_rows(value), "file")
    for rows, title in (
        (tables.layer_difference_rows(value), "layers that differ"),
        (tables.pair_rows(value["operators"], "operator"), "operators that differ"),
        (tables.pair_rows(value["lineage"], "option"), "where they come from"),
    ):
        if len(rows) > 1:
            print_table(plain_rows(rows), title)
