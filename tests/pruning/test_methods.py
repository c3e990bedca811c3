"""Every method with every pattern through ``prune``: exact, reproducible, defended, and resumed where it was killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.pruning import PATTERNS, examples, network, pruned, space, task, units, violations
from support.states import same
from torch import Tensor, nn

from mobileprune.defenses import Plan, Situation, defend
from mobileprune.errors import UsageError
from mobileprune.pruning import DATA_FREE, METHODS, SEARCHING, base, method, prune
from mobileprune.pruning.budgets import SHARED
from mobileprune.pruning.masks import count_zeros, prunable
from mobileprune.resume import Checkpoint
from mobileprune.training import Hook, Progress, Recipe

NAMES = sorted({function: name for name, function in METHODS.items()}.values())
"""Each method once: "mia" is "admm"."""
STAGES = {"admm": "ADMM", "gradual": "gradual pruning"}
SHORT = {"search": Recipe(1, decay=False), "retrain": Recipe(1)}


def options(pattern: str) -> dict[str, Any]:
    """A sparsity that the pattern can have on the tiny network."""
    return {"pattern": pattern, "sparsity": 0.3 if pattern in ("filter", "channel") else 0.8}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pattern", [*PATTERNS, "channel"])
def test_every_method_keeps_to_every_pattern_and_to_its_seed(name: str, pattern: str) -> None:
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    one = task(model, **SHORT, **options(pattern))
    masks = prune(one, METHODS[name])
    assert violations(pattern, masks) == []
    for key, mask in masks.items():
        weight = model.get_parameter(key)
        assert not weight[~mask].any(), "zeros are exact after retraining"
        assert weight[mask].all()
    dropped = sum(int((~masks[key]).sum()) for key in one.space.layers if key in masks)
    counted = count_zeros(model, list(one.space.layers))
    assert counted["prunable_zeros"] == dropped
    if pattern not in ("filter", "channel"):
        every = {key: units(pattern, tuple(mask.shape)) for key, mask in masks.items()}
        kept = sum(all(masks[key].flatten()[unit]) for key, parts in every.items() for unit in parts)
        total = sum(map(len, every.values()))
        assert kept == total - round(0.8 * total)
    else:
        assert dropped >= 0.3 * counted["prunable_total"]
    assert not torch.equal(before["8.bias"], model.state_dict()["8.bias"]), "it was retrained"
    assert not model.training
    assert same(pruned(name, **SHORT, **options(pattern)), model.state_dict())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", SHARED)
@pytest.mark.parametrize(("sparsity", "keep_dense"), [(0.0, "none"), (0.77, "none"), (0.77, "last"), (0.999, "none")])
def test_sparsity_is_exact_after_retraining(name: str, budget: str, sparsity: float, keep_dense: str) -> None:
    model = network()
    masks = prune(task(model, sparsity=sparsity, budget=budget, keep_dense=keep_dense, **SHORT), METHODS[name])
    weights = prunable(model, keep_dense)
    counted = count_zeros(model, list(masks))
    assert list(masks) == list(weights)
    assert counted["prunable_zeros"] == round(sparsity * counted["prunable_total"])


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_is_another_result(name: str) -> None:
    assert not same(pruned(name), pruned(name, seed=1))


@pytest.mark.parametrize("name", NAMES)
def test_without_retraining_the_weights_are_those_that_the_masks_leave(name: str) -> None:
    model = network()
    start = {key: value.clone() for key, value in model.state_dict().items()}
    masks = prune(task(model, retrain=Recipe(0)), METHODS[name])
    after = model.state_dict()
    assert all(not after[key][~mask].any() for key, mask in masks.items())
    if name not in SEARCHING:
        cut = {key: value * masks[key] if key in masks else value for key, value in start.items()}
        assert same(cut, after), "nothing else has changed, running statistics included"


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_set_matters_only_to_those_that_look_at_it(name: str) -> None:
    """``taylor-reference`` does; a min-max game does in every method that trains."""
    looks = name == "taylor-reference"
    assert same(pruned(name, reference=2, **SHORT), pruned(name, reference=3, **SHORT)) is not looks
    game = SHORT | {"defense": "minmax:5"}
    assert not same(pruned(name, reference=2, **game), pruned(name, reference=3, **game))


@pytest.mark.parametrize("name", DATA_FREE)
def test_what_is_said_to_look_at_no_data_does_not(name: str) -> None:
    """On this the promise of differential privacy rests."""
    nothing = replace(examples(1), x=torch.full((40, 1, 4, 4), torch.nan), y=torch.full((40,), -1))
    one = replace(task(network(), retrain=Recipe(0)), members=nothing, reference=nothing)
    masks = prune(one, METHODS[name])
    assert same(masks, prune(task(network(), retrain=Recipe(0)), METHODS[name]))
    assert all(value.isfinite().all() for value in one.model.state_dict().values())


@pytest.mark.parametrize("defense", ["none", "minmax:0.5"])
def test_the_game_is_played_in_both_stages_or_in_none(tmp_path: Path, defense: str) -> None:
    pruned("mia", defense=defense, checkpoint=lambda stage: Checkpoint(tmp_path / stage, every_secs=0))
    played = {p.name: any("/h/" in key for key in safetensors.torch.load_file(p)) for p in tmp_path.iterdir()}
    assert played == dict.fromkeys(("ADMM", "retraining"), defense != "none")


def test_a_defence_is_asked_for_the_stage_that_runs_with_all_that_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, Situation]] = []

    def watched(spec: str, stage: str, situation: Situation) -> Plan:
        asked.append((spec, stage, situation))
        return defend(spec, stage, situation)

    monkeypatch.setattr(base, "defend", watched)
    model = network()
    start = {key: value.clone() for key, value in model.state_dict().items()}
    one = replace(task(model, seed=3, defense="ppb", **SHORT), crossfitted=lambda folds: examples(folds))
    prune(one, METHODS["admm"])
    assert [(spec, stage) for spec, stage, _ in asked] == [("ppb", "pruning"), ("ppb", "retraining")]
    for _, _, situation in asked:
        assert (situation.members, situation.reference) == (one.members, one.reference)
        assert (situation.num_classes, situation.seed, situation.crossfitted) == (3, 3, one.crossfitted)
        assert situation.dense is not None
        assert same(situation.dense.state_dict(), start), "as it was before pruning"


@pytest.mark.parametrize("name", NAMES)
def test_only_the_searching_methods_have_a_stage_of_their_own(name: str) -> None:
    heard = []
    pruned(name, progress=lambda what, done, total: heard.append(what))
    assert sorted(set(heard)) == sorted({STAGES[name], "retraining"} if name in SEARCHING else {"retraining"})


DEFENSES = ["none", "minmax:0.5", "relaxloss:1.2", "early-stopping:2", "early-stopping:1+ppb:2", "distill+ppb"]
STOPS = [
    *((name, defense, stage, 1) for name, stage in STAGES.items() for defense in ("none", "minmax:0.5")),
    ("gradual", "relaxloss:1.2", "gradual pruning", 3),
    ("admm", "relaxloss:1.2", "ADMM", 3),
    ("gradual", "distill+ppb", "gradual pruning", 2),
    *(("magnitude", defense, "retraining", done) for defense in DEFENSES for done in (1, 2)),
    ("taylor", "label-smoothing+confidence-penalty", "retraining", 1),
]


@pytest.mark.parametrize(("name", "defense", "stage", "done"), STOPS)
def test_a_killed_run_resumes_to_the_same_weights(
    tmp_path: Path, name: str, defense: str, stage: str, done: int
) -> None:
    def kill(what: str, epoch: int, total: int) -> None:
        if (what, epoch) == (stage, done):
            raise KeyboardInterrupt

    def run(progress: Progress | None = None) -> dict[str, Tensor]:
        search, retrain = (1, done + 2) if stage == "retraining" else (done + 2, 1)
        recipes = {"search": Recipe(search, 0.02, 20, decay=False), "retrain": Recipe(retrain, 0.05, 20)}
        place = {"checkpoint": lambda what: Checkpoint(tmp_path / what, every_secs=0)}
        torch.manual_seed(len(list(tmp_path.iterdir())))  # what the process drew before must not matter
        return pruned(name, defense=defense, progress=progress, **recipes, **place)

    with pytest.raises(KeyboardInterrupt):
        run(kill)
    resumed = run()
    assert same(resumed, run()), "a finished run answers at once"
    for file in tmp_path.iterdir():
        file.unlink()
    assert same(resumed, run())


class Kill(Hook):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["admm", "gradual"])
def test_killed_after_an_epoch_but_before_it_is_saved(tmp_path: Path, name: str) -> None:
    """The epoch is done again, from what the one before it left."""
    from mobileprune.pruning.admm import Admm
    from mobileprune.pruning.magnitude import CubicSchedule

    def run(*extra: Hook) -> dict[str, Tensor]:
        model = network()
        one = task(model, search=Recipe(5, 0.02, 16, decay=False), checkpoint=lambda what: place)
        hook = (Admm if name == "admm" else CubicSchedule)(one)
        one.fit("stage", one.recipe.search, [hook, *extra])
        return model.state_dict() | hook.masks

    place = Checkpoint(tmp_path / "c", every_secs=0)
    with pytest.raises(KeyboardInterrupt):
        run(Kill(3))
    resumed = run()
    (tmp_path / "c").unlink()
    assert same(resumed, run())


def test_unknown_methods_are_refused_with_the_choices() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'magnitude'\? choose from admm, gradual, magnitude, mia"):
        method("magnitud")


def test_every_method_projects_onto_the_space_it_is_given() -> None:
    """A budget by hand: one layer untouched, one nearly emptied."""
    for name in METHODS:
        one = task(network(), **SHORT)
        globs = {"0.weight": 0.0, "3.weight": 0.99}
        one = replace(one, space=replace(space(network(), sparsity=0.5), budget="b.toml", globs=globs))
        kept = {key: int(mask.sum()) for key, mask in prune(one, METHODS[name]).items()}
        assert kept == {"0.weight": 36, "3.weight": 2, "8.weight": 144}, name
