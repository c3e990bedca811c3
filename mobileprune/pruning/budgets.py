r"""Budgets: how many units of each site stay.

    uniform   the same share everywhere
    global    whatever the largest scores over all sites leave in each
    erk       Erdős–Rényi-kernel: density_i proportional to sum(shape_i) / prod(shape_i), at most 1
              (Mocanu et al. 2018; kernel form of Evci et al., arXiv 1911.11134, section 3)
    a file    TOML, glob of a site's name = its ratio; the first that matches counts, others get the overall ratio

The total is exact: N - round(ratio * N) units of N stay, shared out by largest remainder.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mobileprune.errors import ConfigError, UsageError
from mobileprune.pruning.patterns import Site

Kept = dict[str, int]
SHARED = ("uniform", "global", "erk")


def kept_total(sites: Sequence[Site], ratio: float) -> int:
    """How many units stay: N - round(ratio * N), and no more than the pattern allows."""
    total = sum(site.units for site in sites)
    return min(total - round(ratio * total), sum(site.capacity for site in sites))


def uniform(sites: Sequence[Site], ratio: float) -> Kept:
    total = sum(site.units for site in sites)
    share = kept_total(sites, ratio) / total
    return _whole({site.name: share * site.units for site in sites}, kept_total(sites, ratio))


def erk(sites: Sequence[Site], ratio: float) -> Kept:
    """Sites that would need more than they have are filled first; the rest is shared among the others."""
    wanted = {site.name: site.units * sum(site.shape) / torch.Size(site.shape).numel() for site in sites}
    capacity = {site.name: site.capacity for site in sites}
    total, full = kept_total(sites, ratio), set[str]()
    while True:
        left = total - sum(capacity[name] for name in full)
        scale = left / (sum(w for name, w in wanted.items() if name not in full) or 1.0)
        over = {name for name, w in wanted.items() if name not in full and scale * w > capacity[name]}
        if not over:
            break
        full |= over
    return _whole({n: float(capacity[n]) if n in full else scale * w for n, w in wanted.items()}, total)


def by_score(sites: Sequence[Site], scores: Mapping[str, Tensor], ratio: float) -> Kept:
    """The largest over all sites, but one unit of each while there are enough: an emptied layer cuts the network."""
    total = kept_total(sites, ratio)
    flat = {name: score.clone() for name, score in scores.items()}
    if total >= len(flat):
        for score in flat.values():
            score[score.argmax()] = torch.inf
    order = torch.sort(torch.cat(list(flat.values())), descending=True, stable=True).indices[:total]
    owner = torch.repeat_interleave(torch.arange(len(sites)), torch.tensor([site.units for site in sites]))
    counts = torch.bincount(owner[order.cpu()], minlength=len(sites)).tolist()
    return {site.name: count for site, count in zip(sites, counts, strict=True)}


def read_file(path: Path) -> dict[str, float]:
    """Glob -> ratio of a budget file; ConfigError lists what is wrong."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError([f"--budget {path}: {error}; choose from {', '.join(SHARED)}, or a TOML file"]) from error
    wrong = [
        f"--budget {path}: {glob} = {value!r} must be a number in [0, 1); names with dots need quotes"
        for glob, value in values.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1
    ]
    if wrong:
        raise ConfigError(wrong)
    return {glob: float(value) for glob, value in values.items()}


def from_globs(sites: Sequence[Site], ratio: float, globs: Mapping[str, float], done: float) -> Kept:
    """``ratio``: of layers that ``globs`` does not name. ``done``: how far a schedule has come, with all layers."""
    unused = [glob for glob in globs if not any(fnmatch.fnmatchcase(site.name, glob) for site in sites)]
    if unused:
        names = ", ".join(site.name for site in sites)
        raise UsageError(f"--budget: {', '.join(unused)} matches nothing that is pruned here; there are {names}")
    kept = {}
    for site in sites:
        own = next((r for glob, r in globs.items() if fnmatch.fnmatchcase(site.name, glob)), None)
        dropped = (ratio if own is None else own) * done
        kept[site.name] = min(site.capacity, site.units - round(dropped * site.units))
    return kept


def rounded(sites: Sequence[Site], kept: Kept) -> Kept:
    """Counts moved to the nearest multiple that a site asks for, at least one multiple and at most all."""
    result = {}
    for site in sites:
        step, count = site.multiple, kept[site.name]
        result[site.name] = min(site.capacity, max(step, round(count / step) * step)) if step else count
    return result


def _whole(wanted: Mapping[str, float], total: int) -> Kept:
    """Integers that sum to ``total``, by largest remainder."""
    kept = {name: int(value) for name, value in wanted.items()}
    by_remainder = sorted(wanted, key=lambda name: wanted[name] - kept[name], reverse=True)
    for name in by_remainder[: total - sum(kept.values())]:
        kept[name] += 1
    return kept
