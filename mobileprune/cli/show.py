"""Results as tables on stdout."""

from __future__ import annotations

from typing import Any

from mobileprune.audit.verdict import GROUPS
from mobileprune.bench import BenchResult
from mobileprune.bench.on_device import DeviceBench
from mobileprune.cli.printing import plain, plain_rows, print_table
from mobileprune.devices.doctor import DevicesResult
from mobileprune.errors import printable
from mobileprune.evaluate import AttackResult
from mobileprune.foreign import ForeignResult
from mobileprune.inspection import tables
from mobileprune.models.folder import ModelFolder
from mobileprune.report.advice import advice
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
from mobileprune.report.sweep_tables import case_rows, options_text
from mobileprune.report.tables import attack_rows, bench_rows, percent, rate_rows, summary_rows
from mobileprune.report.words import would_run
from mobileprune.results import Audited, ReportResult
from mobileprune.sweep.markdown import headline
from mobileprune.sweep.output import TEXT
from mobileprune.sweep.run import SweepResult

SIDES = {"members": "members", "held_out": "non-members"}
MAX_FINDINGS = 50  # of thousands that debug records give; --json lists all


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
    print_table(bench_rows(result.to_dict()), f"{result.num_threads} thread(s), batch 1")
    if result.kernels:
        print(result.kernels.note)
    if not result.valid:
        print(f"timings are not valid: {result.note}")


def device_bench(result: DeviceBench) -> None:
    value = result.to_dict()
    print(device_sentence(value))
    print_table(device_bench_rows(value), "")
    for title, rows in device_tables(value):
        print_table(plain_rows(rows), title)
    if result.kernels:
        print(result.kernels)
    if not result.valid:
        print(f"timings are not valid: {'; '.join(check.note for check in result.checks if check.ok is False)}")


def attack(result: AttackResult) -> None:
    _attacks(result.to_dict(), "exported file")


def foreign(result: ForeignResult) -> None:
    """A model that is not an artifact."""
    value = result.to_dict()
    print(printable(f"{value['model']['kind']} {value['model']['name']}, outputs: {value['model']['outputs']}"))
    subject = value["subjects"]["artifact"]
    shares = [f"{words} {subject['accuracy'][side]:.1%}" for side, words in SIDES.items()]
    if "test" in subject["accuracy"]:
        shares.append(f"{value['data']['counts']['test']:,} test images {percent(subject['test_accuracy'])}")
    print(f"accuracy on {', '.join(shares)}")
    _attacks(value, "model")
    if value["verdict"]:
        verdict(value)


def _attacks(value: dict[str, Any], what: str) -> None:
    for group in value["subjects"]["artifact"]["measurements"]:
        head, *rows = attack_rows(value, group)
        print_table(
            [tuple(name.replace("exported file", what) for name in head), *rows], f"every attack, {GROUPS[group]}"
        )
        print_table(rate_rows(value, group), f"the {what}, {GROUPS[group]}")
        if "on_device" in value:
            print_table(
                on_device_rows(value["on_device"], group), f"{on_device_title(value['on_device'])}, {GROUPS[group]}"
            )
    for why, names in _skipped(value).items():
        print(f"not run: {', '.join(names)} ({why})")
    if "epsilon" in value:
        print(*epsilon_sentences(value), sep="\n")
    print(printable(exposed_sentence(value)))
    _notes(value)


def _notes(audit: dict[str, Any]) -> None:
    for note in audit["notes"]:
        print(printable(note))


def _skipped(value: dict[str, Any]) -> dict[str, list[str]]:
    """Reason, with the options that would end it -> the attacks that it keeps out."""
    found: dict[str, list[str]] = {}
    kind = value.get("model", {}).get("kind", "artifact")
    for name, why in value["subjects"]["artifact"]["skipped"].items():
        options = would_run(name, value["effort"], kind)
        found.setdefault(f"{why}: {options}" if options else why, []).append(name)
    return found


def verdict(audit: dict[str, Any]) -> None:
    value, gates = audit["verdict"], audit["gates"]
    print(f"\nverdict: {value['overall']}")
    for finding in value["findings"]:
        print(f"  {finding['verdict']:<12}  {finding['sentence']}")
        if more := advice(finding, audit["data"], value["power"]):
            print(f"{'':16}{more}")
    print(f"smallest leak that this sample could have shown: {'; '.join(power_sentences(value)) or 'none'}")
    print(value["caveat"])
    if gates:
        print("\ngates:")
    for gate in gates:
        print(f"  {gate['outcome']:<12}  {gate['name']}: {gate['sentence']}")


def audit(result: Audited) -> None:
    value = result.to_dict()
    attack(result.attack)
    verdict(value)


def report(result: ReportResult) -> None:
    value = result.to_dict()
    print_table(summary_rows(value), f"{result.artifact.path}: {sparsity_sentence(value['manifest']['sparsity'])}")
    if not result.bench.valid:
        print(f"timings are not valid: {result.bench.note}")
    if kernels := value["manifest"]["storage"].get("kernels"):
        print(printable(kernels_sentence(kernels)))
    if result.bench.kernels:
        print(result.bench.kernels.note)
    if result.device_bench:
        device_bench(result.device_bench)
    _notes(value["audit"])
    verdict(value["audit"])
    print(f"report: {value['report']['html']}")


def sweep(result: SweepResult) -> None:
    value = result.value
    print_table(plain_rows(case_rows(value, value["front"], brief=True)), "Pareto front, means over seeds")
    for each in value["failed"]:
        print(printable(f"failed: {options_text(each['options'])}: {each['error']}"))
    for note in value["notes"]:
        print(note)
    print(headline(value))
    if result.artifact:
        print(f"artifact: {result.artifact.path}; `mobileprune report {result.artifact.path}` audits it in full")
    print(f"sweep: {result.path / TEXT}")


def explain(value: dict[str, Any]) -> None:
    print(printable(tables.network_sentence(value)))
    print(f"faster: {tables.WORDS[value['speed']]}; smaller: {tables.WORDS[value['size']]}")
    for each in value["advice"]:
        print(f"  {each['about']:<8}{each['effect']:<8}{printable(each['sentence'])}\n{'':18}({each['source']})")


def devices(result: DevicesResult) -> None:
    width = max(len(entry.name) for entry in result.entries) + 2
    for entry in result.entries:
        print(f"{entry.name:<{width}}{'ready' if entry.ready else 'missing':<9}{printable(entry.says)}")


def lint(value: dict[str, Any]) -> None:
    found = value["findings"]
    if found:
        names = ("file", "rule", "where", "what")
        rows = [tuple(plain(each[name]) for name in names) for each in found[:MAX_FINDINGS]]
        print_table([names, *rows], "what should not be in it")
    says = f"{len(found):,} findings" if found else "nothing that should not be in it"
    print(f"{value['path']}: {says}")
