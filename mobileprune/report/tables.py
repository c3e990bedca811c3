"""The report's tables as rows of text: one source for terminal, Markdown and HTML. First row: the headings."""

from __future__ import annotations

from typing import Any

Rows = list[tuple[str, ...]]
SUBJECTS = {"dense": "dense", "source": "pruned (PyTorch)", "artifact": "exported file"}
GROUPS = {"all": "all members", "canaries": "canaries"}


def estimate(value: dict[str, Any], digits: int = 3) -> str:
    """``0.512 [0.480, 0.544]``, or that the sample is too small to tell."""
    if value["value"] is None:
        return "not resolvable"
    return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def highest(measurements: dict[str, Any]) -> dict[str, Any]:
    """The attack with the highest AUC. That the best of many looks better than it is, :mod:`audit.selection` mends."""
    return max(measurements.values(), key=lambda m: m["auc"]["value"])


def sparsity_sentence(value: dict[str, Any]) -> str:
    prunable, total = value["prunable_total"], value["all_total"]
    sentence = (
        f"{value['prunable_zeros']:,} of {prunable:,} prunable weights are zero "
        f"({value['prunable_zeros'] / prunable:.2%}), {value['all_zeros'] / total:.2%} of all {total:,} parameters"
    )
    if value["zero_channels"]:
        sentence += f"; {value['zero_channels']:,} of {value['channels']:,} output channels are all zero"
    dense = value.get("left_dense")
    return f"{sentence}; left dense by the pattern: {', '.join(dense)}" if dense else sentence


def made_by(lineage: dict[str, Any]) -> list[str]:
    """How the model came about: network, defences, pruning, and the guarantee that it carries if any."""
    train, prune, spent = lineage["train"], lineage["prune"], lineage["differential_privacy"]
    sentences = [f"network {train['model']}, defence while training: {train['train_defense']}"]
    if prune:
        sentences.append(
            f"pruned by {prune['method']}, pattern {prune['pattern']}, budget {prune['budget']}, at most "
            f"{prune['retrain_epochs']} epochs of retraining, defence: {prune['defense']}"
        )
    if removed := lineage["removed_channels"]:
        sentences.append(f"{removed:,} output channels are taken out of the network; sparsity counts them as zeros")
    if spent:
        sentences.append(
            f"its weights are ({spent['epsilon']:g}, {spent['delta']:g})-differentially private (DP-SGD, noise "
            f"{spent['noise_multiplier']:.3g}, gradients clipped to {spent['max_grad_norm']:g})"
        )
    return sentences


def stored_as(manifest: dict[str, Any]) -> str:
    """In which precision and form the file keeps its weights, why, and how far from the bound."""
    storage = manifest["storage"]
    sizes = ", ".join(f"{form} {size:,} bytes" for form, size in storage["sizes"].items())
    sentence = f"weights in {manifest['precision']}, stored as {storage['form']}: {storage['why']} ({sizes})"
    if storage["bound_bytes"]:
        sentence += f"; they take {storage['weight_bytes']:,} bytes, their entropy is {storage['bound_bytes']:,}"
    return sentence


def kernels_sentence(kernels: dict[str, Any]) -> str:
    """How many layers are for the native library, and how they were chosen."""
    layers = kernels["layers"]
    count = sum(layer["kernel"] == "native" for layer in layers)
    sentence = f"{count} of {len(layers)} layers are for mobileprune's native library, {kernels['why']}"
    return sentence + (f"; the whole model {kernels['ratio']:.2f}x as fast by them" if kernels["ratio"] else "")


def kernel_rows(kernels: dict[str, Any]) -> Rows:
    rows: Rows = [("layer", "shape", "operator", "kernel", "why")]
    for layer in kernels["layers"]:
        shape = "x".join(map(str, layer["shape"]))
        rows.append((layer["name"], shape, layer["operator"], layer["kernel"], layer["why"]))
    return rows


def _bytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1024:,.1f} KiB"


def summary_rows(value: dict[str, Any]) -> Rows:
    """Before and after, privacy beside accuracy beside cost."""
    subjects = value["audit"]["subjects"]
    costs = {"dense": value["bench"]["baseline"], "source": None, "artifact": value["bench"]["artifact"]}
    names = [name for name in SUBJECTS if name in subjects]

    def row(title: str, cells: list[str]) -> tuple[str, ...]:
        return (title, *cells)

    rows: Rows = [row("", [SUBJECTS[n] for n in names])]
    for part, words in {"test": "test accuracy", "members": "accuracy on members"}.items():
        rows.append(row(words, [f"{subjects[n]['accuracy'][part]:.1%}" for n in names]))
    for group, words in GROUPS.items():
        if group in subjects["artifact"]["measurements"]:
            best = [subjects[n]["strongest"][group] for n in names]
            accuracy = [subjects[n]["measurements"][group][b["chosen"][0]] for n, b in zip(names, best, strict=True)]
            rows.append(row(f"attack AUC, {words}", [estimate(b["auc"]) for b in best]))
            rows.append(row("  strongest attack", [" / ".join(dict.fromkeys(b["chosen"])) for b in best]))
            rows.append(row("  attack accuracy", [estimate(m["balanced_accuracy"]) for m in accuracy]))
            rows.append(row("  TPR at 1% FPR", [estimate(b["tpr_at_1pct_fpr"]) for b in best]))

    def cost(key: str) -> list[str]:
        return [_bytes(found[key]) if (found := costs[n]) else "-" for n in names]

    rows.append(row("file size", cost("size_bytes")))
    rows.append(row("deflated (app store)", cost("deflated_bytes")))
    rows.append(row("memory added by loading", cost("added_memory_bytes")))
    rows.append(row("load time", [f"{c['load_ms']:.1f} ms" if (c := costs[n]) else "-" for n in names]))
    rows.append(row("latency p50", [f"{c['latency_ms']['p50']:.3f} ms" if (c := costs[n]) else "-" for n in names]))
    speed = value["bench"]["speedup"]
    if speed:
        cells = {
            "dense": "1",
            "source": "-",
            "artifact": f"{speed['value']:.2f}x [{speed['low']:.2f}, {speed['high']:.2f}]",
        }
        rows.append(row("speed-up", [cells[n] for n in names]))
    return rows


def bench_rows(value: dict[str, Any]) -> Rows:
    found = {"exported file": value["artifact"], "dense": value["baseline"]}
    columns = {name: costs for name, costs in found.items() if costs}
    rows: Rows = [("", *columns)]
    for key in ("p50", "p90", "p99"):
        rows.append((f"latency {key}", *(f"{c['latency_ms'][key]:.3f} ms" for c in columns.values())))
    rows.append(("load time", *(f"{c['load_ms']:.1f} ms" for c in columns.values())))
    for words, key in {
        "file size": "size_bytes",
        "deflated": "deflated_bytes",
        "peak memory": "peak_memory_bytes",
        "memory added by loading": "added_memory_bytes",
    }.items():
        rows.append((words, *(_bytes(c[key]) for c in columns.values())))
    rows.append(("nonzero weights", *(f"{c['nonzeros']:,} of {c['weights']:,}" for c in columns.values())))
    if speed := value["speedup"]:
        rows.append(("speed-up", f"{speed['value']:.2f}x [{speed['low']:.2f}, {speed['high']:.2f}]", "1"))
    if (kernels := value["kernels"]) and (by := kernels["speedup"]):
        ours = f"{by['value']:.2f}x [{by['low']:.2f}, {by['high']:.2f}]"
        rows.append(("  by native kernels, same file", ours, *("-" for _ in [*columns][1:])))
    return rows


def attack_rows(value: dict[str, Any], group: str) -> Rows:
    """AUC of every attack, the subjects side by side."""
    names = [name for name in SUBJECTS if name in value["subjects"]]
    found = {name: value["subjects"][name]["measurements"][group] for name in names}
    rows: Rows = [("attack", "needs", *(f"AUC, {SUBJECTS[name]}" for name in names))]
    for attack, m in found["artifact"].items():
        cells = [estimate(found[n][attack]["auc"]) if attack in found[n] else "-" for n in names]
        rows.append((attack, m["access"], *cells))
    return rows


def exposure_rows(value: dict[str, Any]) -> Rows:
    """The AUC of the strongest attack on the exported file by class, and the members that stand out most."""
    found = value["exposure"]
    rows: Rows = [("class or kind", f"AUC of {found['attack']}")]
    return rows + [(name, estimate(e)) for part in ("by_kind", "by_class") for name, e in found[part].items()]


def exposed_sentence(value: dict[str, Any]) -> str:
    """How many members stand out, and which, by their position among the examples that the audit asked about."""
    found = value["exposure"]["most_exposed"]
    if found["threshold"] is None:
        return f"Members that stand out: {found['note']}"
    surest = ", ".join(str(example["position"]) for example in found["examples"])
    return (
        f"{found['found']} members score above all but {found['fpr']:.0%} of the non-members by "
        f"{value['exposure']['attack']} ({found['by_chance']:.0f} would by chance)"
        + (f"; the surest, by position among all that were asked about: {surest}" if surest else "")
    )


def power_sentences(verdict: dict[str, Any]) -> list[str]:
    """What a sample of this size could have shown, by group."""
    return [
        f"{GROUPS[group]}: AUC {found['smallest_auc']:.3f} or more in any of {found['attacks']} attacks"
        for group, found in verdict["power"].items()
        if found["smallest_auc"] is not None
    ]


def epsilon_sentences(value: dict[str, Any]) -> list[str]:
    """What one training run refutes of differential privacy, by group."""
    sentences = []
    for group, found in value["epsilon"].items():
        estimate = found["estimate"]
        if estimate["value"] is None:
            sentences.append(f"Lower bound on epsilon, {GROUPS[group]}: {estimate['note']}")
        else:
            sentences.append(
                f"Differential privacy with epsilon below {estimate['low']:.2f} (one example replaced by another) is "
                f"refuted at {estimate['confidence']:.1%} confidence, {GROUPS[group]}: {found['correct']} of "
                f"{found['guesses']} guesses about {found['pairs']} pairs were right ({found['attack']})"
            )
    return sentences


def rate_rows(value: dict[str, Any], group: str) -> Rows:
    """What else every attack reaches on the exported file."""
    columns = {
        "attack accuracy": "balanced_accuracy",
        "TPR at 1% FPR": "tpr_at_1pct_fpr",
        "TPR at 0.1% FPR": "tpr_at_01pct_fpr",
        "PPV, 1% members": "ppv_at_prior_1pct",
        "PPV, 10% members": "ppv_at_prior_10pct",
    }
    rows: Rows = [("attack", *columns)]
    for name, m in value["subjects"]["artifact"]["measurements"][group].items():
        rows.append((name, *(estimate(m[key]) for key in columns.values())))
    return rows


def layer_rows(value: dict[str, Any]) -> Rows:
    layers = value["manifest"]["sparsity"]["layers"]
    rows: Rows = [("layer", "shape", "zeros", "weights", "sparsity")]
    for name, layer in layers.items():
        shape = "x".join(map(str, layer["shape"]))
        share = f"{layer['zeros'] / layer['total']:.4f}"
        rows.append((name, shape, f"{layer['zeros']:,}", f"{layer['total']:,}", share))
    return rows
