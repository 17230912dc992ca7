"""Numbers of groups to be chosen under a budget: scores, what is kept at each, dials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from prunec.compiler.dial import Dial
from prunec.compiler.problem import Limit
from prunec.passes.options import Options
from prunec.passes.regroup.blocks import FloatArray, Permutation
from prunec.passes.regroup.candidates import Bounds
from prunec.passes.regroup.choosers import searched_dials as pose_dials
from prunec.passes.regroup.grps import Grps
from prunec.passes.regroup.permutations import permutation
from prunec.passes.regroup.search import Search
from prunec.passes.regroup.shares import shares_of
from prunec.passes.regroup.sites import group_sites
from prunec.runtime.kernel_scores import kernel_scores
from prunec.runtime.subject import Subject

if TYPE_CHECKING:
    from prunec.runtime.compile import Progress, Settings

LARGE = 1 << 20  # kernels of a model in which the search would take a minute


def searched_dials(
    subject: Subject,
    limits: tuple[Limit, ...],
    options: Options,
    settings: Settings,
    progress: Progress,
    joint: bool,
) -> tuple[Dial, ...]:
    """One dial per dense convolution that groups can save anything of, for `decide`.

    joint: whether blocks will have to share one order per hyperedge. Raises UsageError,
    InfeasibleBudgetError, DataError.
    """
    grouping = options.grouping
    bounds = Bounds(grouping.min_width, grouping.max_groups, grouping.depthwise)
    sites = group_sites(subject.model, subject.facts, subject.graph)
    scores = kernel_scores(subject, sites, grouping.score, settings, progress)
    progress("weighing numbers of groups")
    shares = shares_of(sites, scores, bounds, _quick(grouping.perm, joint, scores))
    return pose_dials(subject.graph, sites, limits, options, shares, scores)


def _quick(spec: str, joint: bool, scores: Mapping[str, FloatArray]) -> Permutation:
    """A way to find blocks that takes less time, to compare numbers of groups by.

    Blocks are searched for again once numbers and channels are known. Those of one order for all
    keep about as much as what GRPS finds for each alone: on ResNet-20, 0.58 against 0.59 at G = 2.
    """
    search = permutation(spec)
    if joint or (isinstance(search, Search) and sum(x.size for x in scores.values()) > LARGE):
        return Grps(iters=2)
    return replace(search, rounds=0) if isinstance(search, Search) else search
