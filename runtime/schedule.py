"""Choosing in steps: what is left is recovered and scored again before more leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.problem import FloatArray, Limit
from prunec.compiler.spec import render
from prunec.passes.gates.goal import goal_of
from prunec.passes.options import Options
from prunec.passes.pipeline import Choice, Mask, choose, decide, plan_of, score
from prunec.passes.schedules.schedule import Step
from prunec.runtime.subject import Subject, open_model

if TYPE_CHECKING:
    from prunec.runtime.compile import Progress, Settings


def choose_in_steps(
    subject: Subject,
    graph: Hypergraph,
    limits: tuple[Limit, ...],
    options: Options,
    settings: Settings,
    progress: Progress,
) -> tuple[Choice, dict[str, Any]]:
    """What the steps of the schedule leave, as one choice of the dense model; what plans record.

    graph: of the subject, maybe with latency among its costs. What has left stays away. Objective
    and bound are those of the step that chose the kept counts. Raises UsageError,
    InfeasibleBudgetError, GapError, SolverError, DataError, ModelError.
    """
    if settings.scores is not None or settings.save_scores is not None:
        raise UsageError(
            "--scores and --save-scores hold scores of the dense model; a schedule scores again "
            "after every step: use --schedule one-shot"
        )
    return _Course(subject, graph, limits, options, settings, progress).run()


class _Course:
    """The state of one run. mask: what is still there. model: the same, recovered."""

    def __init__(
        self,
        subject: Subject,
        graph: Hypergraph,
        limits: tuple[Limit, ...],
        options: Options,
        settings: Settings,
        progress: Progress,
    ) -> None:
        self.subject, self.graph, self.limits = subject, graph, limits
        self.options, self.settings, self.progress = options, settings, progress
        self.mask: Mask = np.ones(graph.number_of_groups + 1, bool)
        self.now = subject
        self.record: dict[str, Any] = {}
        self.between: dict[str, Any] = {}
        self.scores = self._scored()
        self.target: Choice | None = None

    def run(self) -> tuple[Choice, dict[str, Any]]:
        steps = self._useful(self.options.schedule.course(self.graph))
        choice = self.target
        for number, step in enumerate(steps, 1):
            if number > 1:
                self._recover()
                self.progress(f"step {number} of {len(steps)}: scoring")
                self.scores = self._scored()
            choice = self._chosen(step)
            self.mask = choice.mask
        assert choice is not None
        return replace(choice, mask=self.mask), {**self.record, **self.between}

    def _useful(self, steps: Sequence[Step]) -> list[Step]:
        """Without hyperedges that keep everything."""
        if all(step.edges is None for step in steps):
            return list(steps)
        self.target = decide(self.graph, self.scores, self.limits, self.options)
        counts = _counts(self.graph, self.target.mask)
        return [
            step
            for step in steps
            if step.edges is None or any(counts[e] < self.graph.edges[e].size for e in step.edges)
        ]

    def _chosen(self, step: Step) -> Choice:
        graph, counts = self._left(), _counts(self.graph, self.mask)
        if step.edges is None:
            eased = tuple(self._eased(limit, step.share) for limit in self.limits)
            return decide(graph, self.scores, eased, self.options, counts)
        assert self.target is not None
        wanted = _counts(self.graph, self.target.mask)
        own = [wanted[e] if e in step.edges else n for e, n in enumerate(counts)]
        return replace(self.target, mask=choose(graph, self.scores, own))

    def _left(self) -> Hypergraph:
        """The hypergraph in which sets of kernel positions are those that are still there."""
        subsets = {
            e: tuple(
                s for s in sets if self.mask[self.graph.edges[e].first + np.array(s, int)].all()
            )
            for e, sets in self.graph.subsets.items()
        }
        return replace(self.graph, subsets=subsets)

    def _eased(self, limit: Limit, share: float) -> Limit:
        """The limit once so much is gone of what it removes."""
        dense = self.graph.costs[limit.resource](self.graph.dense())
        eased = math.ceil(dense - share * (dense - limit.at_most))
        return replace(limit, at_most=max(limit.at_most, min(eased, dense)))

    def _recover(self) -> None:
        """Rewrite the dense model by what is left, recover it and couple it anew."""
        from prunec.runtime.compile import apply_plan, recovery_of

        used = tuple(replace(x, at_most=self._cost(x)) for x in self.limits)
        made = Choice(self.mask, 0.0, 0.0, None, None, "schedule")
        plan = plan_of(self.graph, made, used, self.options, self.subject.digest)
        pruned = apply_plan(self.subject, plan)
        recovery = recovery_of(self.settings)
        if recovery is not None:
            from prunec.runtime.recovery.step import recovered

            self.between = {"recovered_between_steps": render(recovery)}
            settings, say = self.settings, self.progress
            pruned = recovered(self.subject, plan, pruned, recovery, settings, None, say).model
        self.now = open_model(
            pruned,
            self.settings.shapes,
            freedom=self.graph.freedom,
            rules=self.settings.rules,
        )

    def _cost(self, limit: Limit) -> int:
        return self.graph.costs[limit.resource](_counts(self.graph, self.mask))

    def _scored(self) -> FloatArray:
        """(number_of_groups,) of the dense hypergraph: 0 for what has left, more for the rest."""
        from prunec.runtime.compile import calibrate

        settings = self.settings
        if self.options.criterion.needs == "gates":
            known = tuple(x for x in self.limits if x.resource in self.now.graph.costs)
            settings = replace(settings, goal=goal_of(self.now.graph, known, self.options))
        stats = calibrate(self.now, self.options, settings, self.progress)
        found = score(self.now.model, self.now.graph, self.options, stats)
        assert isinstance(found, np.ndarray), "options refuse a schedule with pairs"
        self.record = {} if stats is None else dict(stats.record)
        if self.now is self.subject:
            return found
        same = counterparts(self.graph, self.mask, self.now.graph)
        scores = np.where(self.mask[:-1], self.scores, 0.0)
        known = same != KEPT
        scores[same[known]] = found[known]
        least = 1e-12 * max(float(scores.max(initial=0.0)), float(np.finfo(np.float32).tiny))
        return np.where(self.mask[:-1], np.maximum(scores, least), 0.0)


def _counts(graph: Hypergraph, mask: Mask) -> list[int]:
    return [int(mask[e.first : e.first + e.size].sum()) for e in graph.edges]


def counterparts(dense: Hypergraph, mask: Mask, slim: Hypergraph) -> NDArray[np.int64]:
    """(groups of `slim`,) the group of `dense` that each is; KEPT where no axis tells.

    slim: of the model that has what `mask` keeps of the dense one; names are the same in both.
    """
    found = np.full(slim.number_of_groups, KEPT, np.int64)
    for axis, groups in slim.axes.items():
        old = dense.axes.get(axis)
        if old is None:
            continue
        left = old[mask[old]]
        if len(left) == len(groups):
            live = (groups != KEPT) & (left != KEPT)
            found[groups[live]] = left[live]
    return found
