"""Weights that are to be put in blocks: what each kernel is worth, and whose channels it joins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunec.compiler.hypergraph import Groups
from prunec.compiler.partition import Partition
from prunec.passes.regroup.blocks import FloatArray, Permutation, require_blocks
from prunec.passes.regroup.sites import Site


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A weight with F outputs and C inputs.

    score: (F, C), finite. outputs: (F,), inputs: (C,) channel group at each position, KEPT where it
    has none. groups: how many blocks. worth: what the whole matrix counts among the others; what is
    maximised is ``worth * kept / score.sum()``.
    """

    weight: str
    score: FloatArray
    outputs: Groups
    inputs: Groups
    groups: int
    worth: float = 1.0

    @property
    def scale(self) -> float:
        """What one unit of the score counts among the others."""
        total = float(self.score.sum())
        return self.worth / total if total > 0 else 0.0


def scored_sites(
    sites: Sequence[Site],
    scores: Mapping[str, FloatArray],
    groups: Mapping[str, int],
    worths: Mapping[str, float] | None = None,
) -> tuple[Scored, ...]:
    """The sites that have a number of groups above 1, in their order.

    scores: weight -> (F, C). groups: weight -> blocks. worths: weight -> `Scored.worth`, 1 where
    there is none: all count the same. Raises UsageError where groups do not divide a weight.
    """
    out = []
    for site in sites:
        count = groups.get(site.weight, 1)
        if count > 1:
            score = require_blocks(scores[site.weight], count)
            worth = (worths or {}).get(site.weight, 1.0)
            out.append(Scored(site.weight, score, site.outputs, site.inputs, count, worth))
    return tuple(out)


def free(scored: Sequence[Scored], search: Permutation) -> dict[str, Partition]:
    """Weight -> the best blocks of every weight alone; orders of channels may contradict."""
    return {s.weight: search(s.score, s.groups) for s in scored}
