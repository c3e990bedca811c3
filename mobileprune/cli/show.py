"""Results as tables on stdout."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from mobileprune.api import ReportResult
from mobileprune.bench import BenchResult
from mobileprune.evaluate import AttackResult, AuditResult
from mobileprune.models.folder import ModelFolder
from mobileprune.report.tables import GROUPS, Rows, attack_rows, bench_rows, rate_rows, sparsity_sentence, summary_rows

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
    if spent := folder.info.differential_privacy:
        print(f"({spent['epsilon']:g}, {spent['delta']:g})-differentially private")


def bench(result: BenchResult) -> None:
    _print(bench_rows(result.to_dict()), f"{result.num_threads} thread(s), batch 1")
    if not result.valid:
        print(f"timings are not valid: {result.note}")


def attack(result: AttackResult) -> None:
    value = result.to_dict()
    for group in value["subjects"]["artifact"]["measurements"]:
        _print(attack_rows(value, group), f"every attack, {GROUPS[group]}")
        _print(rate_rows(value, group), f"the exported file, {GROUPS[group]}")
    for note in result.notes:
        print(note)


def verdict(value: dict[str, Any]) -> None:
    print(f"\nverdict: {value['overall']}")
    for finding in value["findings"]:
        print(f"  {finding['verdict']:<12}  {finding['sentence']}")
    print(value["caveat"])


def audit(result: AuditResult) -> None:
    attack(result.attack)
    verdict(result.verdict.to_dict())


def report(result: ReportResult) -> None:
    value = result.to_dict()
    _print(summary_rows(value), f"{result.artifact.path}: {sparsity_sentence(value['manifest']['sparsity'])}")
    if not result.bench.valid:
        print(f"timings are not valid: {result.bench.note}")
    verdict(value["audit"]["verdict"])
    print(f"report: {value['report']['html']}")


def inspect(value: dict[str, Any]) -> None:
    print(f"target {value['target']}, file {value['file']}, {value['size_bytes']:,} bytes, sha256 {value['sha256']}")
    print(f"input (N, {', '.join(map(str, value['input_shape']))}) float32, {value['num_classes']} classes")
    print(sparsity_sentence(value["sparsity"]))
    layers = value["sparsity"].get("layers", {})
    rows = [(name, "x".join(map(str, x["shape"])), f"{x['zeros'] / x['total']:.4f}") for name, x in layers.items()]
    _print([("layer", "shape", "sparsity"), *rows], "prunable layers")
