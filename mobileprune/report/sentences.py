"""What the report, the terminal and Markdown say in sentences."""

from __future__ import annotations

from typing import Any

from mobileprune.audit.verdict import GROUPS


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


def exposed_sentence(value: dict[str, Any]) -> str:
    """How many members stand out, and which, by file or by position among the examples that the audit asked about."""
    found = value["exposure"]["most_exposed"]
    if found["threshold"] is None:
        return f"Members that stand out: {found['note']}"
    files = [example["file"] for example in found["examples"] if example["file"]]
    surest = ", ".join(files or [str(example["position"]) for example in found["examples"]])
    by = "" if files else ", by position among all that were asked about"
    return (
        f"{found['found']} members score above all but {found['fpr']:.0%} of the non-members by "
        f"{value['exposure']['attack']} ({found['by_chance']:.0f} would by chance)"
        + (f"; the surest{by}: {surest}" if surest else "")
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
        elif estimate["low"] < 0.005:  # it would be shown as 0.00
            sentences.append(f"No epsilon of differential privacy is refuted, {GROUPS[group]}")
        else:
            sentences.append(
                f"Differential privacy with epsilon below {estimate['low']:.2f} and delta {found['delta']:g} (one "
                f"example replaced by another) is refuted at {estimate['confidence']:.1%} confidence, {GROUPS[group]}: "
                f"{found['correct']} of {found['guesses']} guesses about {found['pairs']} pairs were right "
                f"({found['attack']})"
            )
    return sentences
