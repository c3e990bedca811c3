"""Results as tables on stdout."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mobileprune.bench import BenchResult
from mobileprune.bench.on_device import DeviceBench
from mobileprune.devices.doctor import DevicesResult
from mobileprune.evaluate import AttackResult
from mobileprune.foreign import ForeignResult
from mobileprune.inspection import tables
from mobileprune.models.folder import ModelFolder
from mobileprune.report.device import (
    device_bench_rows,
    device_sentence,
    device_tables,
    on_device_rows,
    on_device_title,
)
from mobileprune.report.sentences import (
    epsilon_sentences,
    exposed_sentence,
    kernels_sentence,
    power_sentences,
    sparsity_sentence,
)
from mobileprune.report.tables import GROUPS, Rows, attack_rows, bench_rows, kernel_rows, rate_rows, summary_rows
from mobileprune.results import Audited, ReportResult

SIDES = {"members": "members", "held_out": "non-members", "test": "test images"}
MAX_FINDINGS = 50  # of thousands that debug records give; --json lists all
PIPE_WIDTH = 200  # a pipe has no width to fold to


def _print(rows: Rows, title: str) -> None:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2), header_style="bold")
    for index, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows[1:]:
        table.add_row(*row)
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def model_value(folder: ModelFolder) -> dict[str, Any]:
    info = folder.info
    return {
        "path": str(folder.path),
        "weights_sha256": folder.weights_sha256,
        "model": info.model,
        "split_sha256": info.split_sha256,
        "sparsity": info.sparsity,
        "differential_privacy": info.differential_privacy,
    }


def model(folder: ModelFolder) -> None:
    print(f"{folder.path}: {folder.info.model}, {sparsity_sentence(folder.info.sparsity)}")
    if removed := sum(map(len, folder.info.removed_channels.values())):
        print(f"{removed:,} output channels are taken out of the network, counted above as zeros")
    if spent := folder.info.differential_privacy:
        print(f"({spent['epsilon']:g}, {spent['delta']:g})-differentially private")


def bench(result: BenchResult) -> None:
    _print(bench_rows(result.to_dict()), f"{result.num_threads} thread(s), batch 1")
    if result.kernels:
        print(result.kernels.note)
    if not result.valid:
        print(f"timings are not valid: {result.note}")


def device_bench(result: DeviceBench) -> None:
    value = result.to_dict()
    print(device_sentence(value))
    _print(device_bench_rows(value), "")
    for title, rows in device_tables(value):
        _print(_plain_rows(rows), title)
    if result.kernels:
        print(result.kernels)
    if not result.valid:
        print(f"timings are not valid: {'; '.join(check.note for check in result.checks if check.ok is False)}")


def attack(result: AttackResult) -> None:
    _attacks(result.to_dict(), "exported file")


def foreign(result: ForeignResult) -> None:
    """A model that is not an artifact."""
    value = result.to_dict()
    print(_printable(f"{value['model']['kind']} {value['model']['name']}, outputs: {value['model']['outputs']}"))
    shares = (f"{SIDES[side]} {share:.1%}" for side, share in value["subjects"]["artifact"]["accuracy"].items())
    print(f"accuracy on {', '.join(shares)}")
    _attacks(value, "model")
    if value["verdict"]:
        verdict(value["verdict"], value["gates"])


def _attacks(value: dict[str, Any], what: str) -> None:
    for group in value["subjects"]["artifact"]["measurements"]:
        head, *rows = attack_rows(value, group)
        _print([tuple(name.replace("exported file", what) for name in head), *rows], f"every attack, {GROUPS[group]}")
        _print(rate_rows(value, group), f"the {what}, {GROUPS[group]}")
        if "on_device" in value:
            _print(on_device_rows(value["on_device"], group), f"{on_device_title(value['on_device'])}, {GROUPS[group]}")
    for why, names in _skipped(value["subjects"]["artifact"]["skipped"]).items():
        print(f"not run: {', '.join(names)} ({why})")
    if "epsilon" in value:
        print(*epsilon_sentences(value), sep="\n")
    print(exposed_sentence(value))
    for note in value["notes"]:
        print(note)


def _skipped(reasons: dict[str, str]) -> dict[str, list[str]]:
    """Reason -> the attacks that it keeps out."""
    found: dict[str, list[str]] = {}
    for name, why in reasons.items():
        found.setdefault(why, []).append(name)
    return found


def verdict(value: dict[str, Any], gates: list[dict[str, Any]]) -> None:
    print(f"\nverdict: {value['overall']}")
    for finding in value["findings"]:
        print(f"  {finding['verdict']:<12}  {finding['sentence']}")
    print(f"smallest leak that this sample could have shown: {'; '.join(power_sentences(value)) or 'none'}")
    print(value["caveat"])
    if gates:
        print("\ngates:")
    for gate in gates:
        print(f"  {gate['outcome']:<12}  {gate['name']}: {gate['sentence']}")


def audit(result: Audited) -> None:
    value = result.to_dict()
    attack(result.attack)
    verdict(value["verdict"], value["gates"])


def report(result: ReportResult) -> None:
    value = result.to_dict()
    _print(summary_rows(value), f"{result.artifact.path}: {sparsity_sentence(value['manifest']['sparsity'])}")
    if not result.bench.valid:
        print(f"timings are not valid: {result.bench.note}")
    if kernels := value["manifest"]["storage"].get("kernels"):
        print(kernels_sentence(kernels))
    if result.bench.kernels:
        print(result.bench.kernels.note)
    if result.device_bench:
        device_bench(result.device_bench)
    verdict(value["audit"]["verdict"], value["audit"]["gates"])
    print(f"report: {value['report']['html']}")


def inspect(value: dict[str, Any]) -> None:
    """What its manifest says, where there is one, and what is in the file."""
    size = f"{value['size_bytes']:,} bytes ({value['deflated_bytes']:,} deflated), sha256 {value['sha256']}"
    print(f"file {_printable(value['file'])}, {size}")
    if "target" in value:
        shape = ", ".join(map(str, value["input_shape"]))
        print(f"target {value['target']}, {value['precision']}; input (N, {shape}), {value['num_classes']} classes")
        print(_printable(sparsity_sentence(value["sparsity"])))
        storage = value["storage"]
        _print(_plain_rows(tables.storage_rows(storage)), _plain(f"stored as {storage['form']}: {storage['why']}"))
        if kernels := storage.get("kernels"):
            _print(_plain_rows(kernel_rows(kernels)), _plain(kernels_sentence(kernels)))
    contents = value["contents"]
    if contents["layers"]:
        _print(_plain_rows(tables.layer_rows(contents)), "layers")
    if contents["macs"] is not None:
        by_zero = tables.share(contents["zero_macs"], contents["macs"])
        print(f"{contents['macs']:,} multiplications for one image, {by_zero} of them by zero")
    print(f"operators: {_printable(tables.operators(contents))}")
    for note in contents["notes"]:
        print(_printable(note))


def compare(value: dict[str, Any]) -> None:
    print(f"A {_printable(value['a'])}\nB {_printable(value['b'])}")
    if value["same_file"]:
        print("the model files are the same, byte for byte")
    _print(tables.value_rows(value), "file")
    for rows, title in (
        (tables.layer_difference_rows(value), "layers that differ"),
        (tables.pair_rows(value["operators"], "operator"), "operators that differ"),
        (tables.pair_rows(value["lineage"], "option"), "where they come from"),
    ):
        if len(rows) > 1:
            _print(_plain_rows(rows), title)


def explain(value: dict[str, Any]) -> None:
    print(_printable(tables.network_sentence(value)))
    print(f"faster: {tables.WORDS[value['speed']]}; smaller: {tables.WORDS[value['size']]}")
    for each in value["advice"]:
        print(f"  {each['about']:<8}{each['effect']:<8}{_printable(each['sentence'])}\n{'':18}({each['source']})")


def devices(result: DevicesResult) -> None:
    width = max(len(entry.name) for entry in result.entries) + 2
    for entry in result.entries:
        print(f"{entry.name:<{width}}{'ready' if entry.ready else 'missing':<9}{_printable(entry.says)}")


def lint(value: dict[str, Any]) -> None:
    found = value["findings"]
    if found:
        names = ("file", "rule", "where", "what")
        rows = [tuple(_plain(each[name]) for name in names) for each in found[:MAX_FINDINGS]]
        _print([names, *rows], "what should not be in it")
    says = f"{len(found):,} findings" if found else "nothing that should not be in it"
    print(f"{value['path']}: {says}")


def _plain_rows(rows: Rows) -> Rows:
    return [tuple(map(_plain, row)) for row in rows]


def _plain(text: str) -> str:
    """Of a stranger's file: without what a terminal or rich would obey."""
    return escape(_printable(text))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
