"""What every convolution keeps at every number of groups it could have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prunec.passes.regroup.blocks import FloatArray, Permutation, kept
from prunec.passes.regroup.candidates import Bounds, candidates
from prunec.passes.regroup.sites import Site

Shares = Mapping[
    str, Mapping[int, float]
]  # weight -> number of groups, 1 too -> share, from 0 to 1


def shares_of(
    sites: Sequence[Site], scores: Mapping[str, FloatArray], bounds: Bounds, search: Permutation
) -> Shares:
    """With the best blocks of every convolution alone. scores: weight -> (F, C)."""
    return {
        site.weight: {
            groups: _share(score, kept(score, search(score, groups)), groups)
            for groups in candidates(score.shape[0], score.shape[1], bounds)
        }
        for site in sites
        for score in (scores[site.weight],)
    }


def _share(score: FloatArray, held: float, groups: int) -> float:
    total = float(score.sum())
    return min(held / total, 1.0) if total > 0 else 1.0 / groups
