"""Real artifacts of a network that knows its members by heart: what export adds, how far the attacker goes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobileprune import api, evaluate
from mobileprune.artifact import Artifact, write_artifact
from mobileprune.attacks import ATTACKS, Scores
from mobileprune.audit.selection import Strongest, highest_auc, strongest
from mobileprune.audit.verdict import Policy
from mobileprune.config import Effort
from mobileprune.errors import ConfigError, DataError
from mobileprune.evaluate import results
from mobileprune.evaluate.asking import PLAIN
from mobileprune.evaluate.relatives import Relatives
from mobileprune.evaluate.results import guessing
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import export
from mobileprune.pipeline.inputs import splits_of
from mobileprune.pipeline.prune import prune
from mobileprune.pipeline.train import train
from mobileprune.shadows import Shadows

OPTIONS = {"members": 300, "canaries": 0.3, "epochs": 60, "method": "magnitude", "sparsity": 0.97, "retrain_epochs": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Artifact, Relatives, Context]:
    ctx, config = api.context(tmp_path_factory.mktemp("runs")), api.configure(**OPTIONS)
    artifact = export(prune(train(config, ctx), config, ctx), config, ctx)
    return artifact, evaluate.relatives(artifact, {}, ctx), ctx


@pytest.fixture(scope="module")
def splits(made):
    return evaluate.audit_data(made[0], {})


def test_a_plain_export_adds_nothing(made, splits) -> None:
    artifact, relatives, ctx = made
    asked = evaluate.subjects(artifact, relatives, splits, ctx)
    found = evaluate.result(artifact, splits, asked).subjects
    for group, attacks in found["artifact"].measurements.items():
        for name, measured in attacks.items():
            assert measured.auc.value == pytest.approx(found["source"].measurements[group][name].auc.value, abs=1e-3)
    verdict = evaluate.verdict(artifact, asked, Policy(), PLAIN)
    assert {f.question: f.verdict for f in verdict.findings}["deployment"] == "pass"


def test_a_file_with_the_wrong_weights_is_caught(made, splits, tmp_path: Path) -> None:
    """The dense file, shipped as the pruned one by mistake: it fits the manifest in everything but what it knows."""
    artifact, relatives, ctx = made
    dense = relatives.baseline
    manifest = replace(artifact.manifest, sha256=dense.manifest.sha256, size_bytes=dense.manifest.size_bytes)
    wrong = write_artifact(tmp_path / "wrong", dense.model_path, manifest)
    verdict = evaluate.verdict(wrong, evaluate.subjects(wrong, relatives, splits, ctx), Policy(), PLAIN)
    deployment = next(f for f in verdict.findings if f.question == "deployment")
    assert deployment.verdict == "fail"
    assert verdict.exit_code == 3


def test_a_file_that_leaks_more_than_the_dense_model_is_told(made, splits) -> None:
    """The two changed round: the dense network of this fixture knows its members by heart, the pruned one less."""
    artifact, relatives, ctx = made
    asked = evaluate.subjects(artifact, relatives, splits, ctx)
    told = "the exported file leaks more than the dense model, AUC +"
    assert not any(told in note for note in evaluate.result(artifact, splits, asked).notes)
    turned = {**asked, "artifact": asked["dense"], "dense": asked["artifact"]}
    notes = [note for note in evaluate.result(artifact, splits, turned).notes if told in note]
    assert [note.partition(":")[0] for note in notes] == ["all members", "canaries"]


def test_the_strongest_attack_is_sought_once_in_each_group(made, splits, monkeypatch) -> None:
    artifact, kin, ctx = made
    asked = evaluate.subjects(artifact, kin, splits, ctx)
    sought = []

    def counted(scores: Scores) -> Strongest:
        sought.append(scores)
        return strongest(scores)

    monkeypatch.setattr(results, "strongest", counted)
    found = evaluate.result(artifact, splits, asked)
    assert len(sought) == len(asked) * len(asked["artifact"].scores.groups()) == 6
    assert found.exposure.attack == highest_auc(asked["artifact"].scores)


@pytest.mark.parametrize(("name", "told"), [("artifact", "gives little away"), ("dense", "trained too briefly")])
def test_a_model_that_knows_hardly_more_than_a_guess_is_told(made, splits, name: str, told: str) -> None:
    artifact, relatives, ctx = made
    asked = evaluate.subjects(artifact, relatives, splits, ctx)
    outputs = asked[name].outputs
    constant = replace(outputs.evidence, logits=np.zeros_like(outputs.evidence.logits))
    lazy = {**asked, name: replace(asked[name], outputs=replace(outputs, evidence=constant))}
    before, found = (evaluate.result(artifact, splits, each) for each in (asked, lazy))
    assert guessing(before.subjects["dense"]) == ""
    note = guessing(found.subjects[name])
    assert note in found.notes
    assert note not in before.notes
    share = np.bincount(outputs.evidence.labels[outputs.member]).max() / outputs.member.sum()
    assert told in note
    assert f"of whom {share:.1%} have the most frequent class" in note


def test_the_same_weights_with_other_inputs_are_another_model(tmp_path: Path) -> None:
    """One checkpoint, normalised in two ways in one run store: each has its own dense model and its own answers."""
    ctx = api.context(tmp_path / "runs")
    weights = train(api.configure(members=60, epochs=2), ctx).path / "weights.safetensors"
    given = {"members": 60, "checkpoint": str(weights), "method": "magnitude", "sparsity": 0.5, "retrain_epochs": 0}
    accuracies = set()
    for mean, std in (("0.2", "0.3"), ("0.9", "0.1"), ("0.2", "0.3")):
        config = api.configure(**given, mean=mean, std=std)
        artifact = export(prune(train(config, ctx), config, ctx), config, ctx)
        relatives = evaluate.relatives(artifact, {}, ctx)
        assert (
            [*relatives.baseline.manifest.mean]
            == [*artifact.manifest.mean]
            == relatives.source.info.mean
            == [float(mean)]
        )
        found = evaluate.subjects(artifact, relatives, splits_of(config), ctx)
        alone = evaluate.subjects(artifact, relatives, splits_of(config), api.context(tmp_path / f"alone {mean}"))
        assert {name: s.test_accuracy for name, s in found.items()} == {n: s.test_accuracy for n, s in alone.items()}
        accuracies.add(found["dense"].test_accuracy)
    assert len(accuracies) == 2


def test_more_queries_the_file_and_other_versions_add_their_attacks(made, splits) -> None:
    artifact, relatives, ctx = made
    effort = Effort(access="file", queries=3, versions=(str(relatives.baseline.path),))
    asked = evaluate.subjects(artifact, relatives, splits, ctx, effort)
    run = {name: set(subject.scores.by_attack) for name, subject in asked.items()}
    wanted = {name for name, attack in ATTACKS.items() if "references" not in attack.needs}
    assert run["artifact"] == wanted
    assert wanted - run["source"] == {n for n in wanted if {"versions", "gradients"} & {*ATTACKS[n].needs}}
    variants = asked["artifact"].outputs.evidence.variants
    assert {v.shape for v in variants.values()} == {(3, 600, 10)}
    plain = asked["artifact"].outputs.evidence.logits
    np.testing.assert_allclose(variants["augmented"][0], plain, atol=1e-5, err_msg="the first copy is the image")
    found = evaluate.result(artifact, splits, asked, effort)
    assert set(found.subjects["artifact"].skipped) == set(ATTACKS) - wanted
    assert found.to_dict()["effort"]["versions"] == 1
    assert {bound.attack for bound in found.epsilon.values()}.isdisjoint({"version_sum", "version_gap"})


def test_what_other_versions_give_away_is_not_what_this_file_adds(made, splits) -> None:
    """The leaky dense file as the other version of one that gives nothing away."""
    artifact, relatives, ctx = made
    asked = evaluate.subjects(artifact, relatives, splits, ctx)
    turned = {**asked, "artifact": asked["dense"], "dense": asked["artifact"]}
    notes = evaluate.result(artifact, splits, turned, Effort(versions=("another",))).notes
    assert not any("leaks more than the dense model" in note for note in notes)


def test_epsilon_is_refuted_at_the_delta_that_training_claims(made, splits) -> None:
    artifact, relatives, ctx = made
    asked = evaluate.subjects(artifact, relatives, splits, ctx)
    asked["artifact"] = asked["dense"]
    pure = evaluate.result(artifact, splits, asked).epsilon["all"]
    guarantee = {"epsilon": 8.0, "delta": 1e-4, "noise_multiplier": 1.0, "max_grad_norm": 1.0}
    lineage = {**artifact.manifest.lineage, "differential_privacy": guarantee}
    private = replace(artifact, manifest=replace(artifact.manifest, lineage=lineage))
    approximate = evaluate.result(private, splits, asked).epsilon["all"]
    assert (pure.delta, approximate.delta) == (0.0, 1e-4)
    assert 0 < approximate.estimate.low < pure.estimate.low


def test_access_is_the_least_of_what_is_wanted_and_shown(made, splits) -> None:
    artifact, relatives, ctx = made
    asked = evaluate.subjects(artifact, relatives, splits, ctx, Effort(access="labels"))
    assert set(asked["artifact"].scores.by_attack) == {"gap"}
    config = api.configure(**OPTIONS, harden="label-only")
    hardened = export(prune(train(config, ctx), config, ctx), config, ctx)
    asked = evaluate.subjects(hardened, relatives, splits, ctx)
    assert set(asked["artifact"].scores.by_attack) == {"gap"}
    assert "needs logits, and only labels are given" in asked["artifact"].scores.skipped["confidence"]
    assert "loss" in asked["source"].scores.by_attack


def test_hardening_proves_nothing_to_whoever_reads_the_file(made, splits) -> None:
    _, relatives, ctx = made
    config = api.configure(**OPTIONS, harden="round:0")
    hardened = export(prune(train(config, ctx), config, ctx), config, ctx)
    lenient, effort = Policy(max_auc=1, max_canary_auc=1, auc_margin=0.99, tpr_margin=0.99), Effort(access="file")
    asked = evaluate.subjects(hardened, relatives, splits, ctx)
    assert evaluate.verdict(hardened, asked, lenient, PLAIN).overall == "pass"
    read = evaluate.verdict(hardened, evaluate.subjects(hardened, relatives, splits, ctx, effort), lenient, effort)
    assert {finding.verdict for finding in read.findings} == {"inconclusive"}
    assert "audit an export without --harden" in read.sentence


def test_a_file_that_cannot_be_read_back_says_so(made, splits) -> None:
    _, relatives, ctx = made
    config = api.configure(**OPTIONS, target="torchscript-lite")
    lite = export(prune(train(config, ctx), config, ctx), config, ctx)
    asked = evaluate.subjects(lite, relatives, splits, ctx, Effort(access="file"))
    assert "--target onnx" in asked["artifact"].scores.skipped["gradient_norm"]


def test_references_are_asked_about_the_copies_that_an_attack_learns_from(made, splits, monkeypatch) -> None:
    artifact, _, ctx = made
    heard = []

    def none(*args: object, copies: dict[str, int], **options: object) -> Shadows:
        heard.append(copies)
        return Shadows(np.zeros((0, 600), bool), {})

    monkeypatch.setattr(sys.modules[evaluate.subjects.__module__], "references", none)
    for queries in (1, 2):
        evaluate.subjects(artifact, Relatives(None, None), splits, ctx, Effort(references=2, queries=queries))
    assert heard == [{}, {"nearby": 2}]


@pytest.mark.long
def test_references_are_asked_as_the_subject_was_and_find_more(tmp_path: Path) -> None:
    ctx = api.context(tmp_path)
    config = api.configure(members=100, canaries=0.3, epochs=40, sparsity=0.5, method="magnitude", retrain_epochs=2)
    artifact = export(prune(train(config, ctx), config, ctx), config, ctx)
    splits, relatives = splits_of(config), evaluate.relatives(artifact, {}, ctx)
    asked = evaluate.subjects(artifact, relatives, splits, ctx, Effort(references=4, queries=3))
    for subject in asked.values():
        evidence = subject.outputs.evidence
        assert len(evidence.references) == 4
        assert (evidence.references.inside.sum(axis=0) == 2).all()
        assert {"lira_online", "rmia", "base", "bavaria", "samia"} <= set(subject.scores.by_attack)
        assert [answers.shape for answers in evidence.references.variants["nearby"]] == [(3, 200, 10)] * 4
    source, file = (asked[name].outputs.evidence.references.logits[0] for name in ("source", "artifact"))
    np.testing.assert_allclose(source, file, atol=1e-3, err_msg="the same reference, asked in two ways")


def test_versions_of_other_data_are_refused(made, splits) -> None:
    artifact, relatives, ctx = made
    config = api.configure(**{**OPTIONS, "epochs": 1, "retrain_epochs": 1}, seed=1)
    other = export(train(config, ctx), config, ctx)
    with pytest.raises(DataError, match="was trained on other data"):
        evaluate.subjects(artifact, relatives, splits, ctx, Effort(versions=(str(other.path),)))


def test_an_odd_number_of_references_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be even"):
        Effort(references=3)
