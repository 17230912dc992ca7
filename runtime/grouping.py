"""Grouped convolutions in a plan: how many groups, and the blocks, found on the sliced model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from prunec.compiler.dial import Dial
from prunec.compiler.errors import InfeasibleBudgetError, UsageError
from prunec.compiler.grouped import DENSE, KEY
from prunec.compiler.partition import Partition
from prunec.compiler.plan import Plan
from prunec.compiler.problem import Limit
from prunec.compiler.spec import render
from prunec.passes.dials import LATENCY
from prunec.passes.grouping import Grouping
from prunec.passes.options import Options
from prunec.passes.pairwise.objectives import Pairwise
from prunec.passes.pipeline import Choice
from prunec.passes.regroup.choosers import chooser
from prunec.passes.regroup.dead import live_groups
from prunec.passes.regroup.detect import detected
from prunec.passes.regroup.folds import Auto, Fold, Free, blocks_by, parse_fold
from prunec.passes.regroup.joint import Joint
from prunec.passes.regroup.mask import masked
from prunec.passes.regroup.offers import fixed_dials
from prunec.passes.regroup.permutations import permutation
from prunec.passes.regroup.scored import scored_sites
from prunec.passes.regroup.scores import kernel_score
from prunec.passes.regroup.sites import Site, group_sites
from prunec.passes.regroup.told import told
from prunec.passes.schedules.one_shot import OneShot
from prunec.runtime.grouped import PERMUTING, regrouped, slicing_alone
from prunec.runtime.kernel_scores import kernel_scores
from prunec.runtime.searched_groups import searched_dials
from prunec.runtime.subject import Subject, reopened

if TYPE_CHECKING:
    from prunec.runtime.compile import Progress, Settings


@dataclass(frozen=True, slots=True, eq=False)
class Slim:
    """The sliced model of a plan, and the same analysed for putting channels in another order."""

    sliced: ir.Model
    subject: Subject
    sites: tuple[Site, ...]

    @classmethod
    def of(cls, subject: Subject, plan: Plan) -> Slim:
        """Carry out the slicing of a plan."""
        from prunec.runtime.compile import apply_plan

        sliced = apply_plan(subject, slicing_alone(subject, plan))
        slim = reopened(sliced, subject, PERMUTING)
        return cls(sliced, slim, group_sites(slim.model, slim.facts, slim.graph))


def group_dials(
    subject: Subject,
    limits: tuple[Limit, ...],
    options: Options,
    settings: Settings,
    progress: Progress,
) -> tuple[Dial, ...]:
    """How many groups convolutions may have, for the budget to choose from.

    Where the options say how many, there is no choice: the budget counts the groups, and kept
    counts are divided by them. () where nothing is asked for, or only channels can be chosen, of
    pairs. Raises UsageError, InfeasibleBudgetError.
    """
    grouping = options.grouping
    if not grouping.groups or (isinstance(options.objective, Pairwise) and not grouping.searched):
        return ()
    fold = fold_of(grouping, {x.resource for x in limits})
    joint = isinstance(fold, Joint)
    if grouping.searched:
        dials = searched_dials(subject, limits, options, settings, progress, joint)
    else:
        sites = group_sites(subject.model, subject.facts, subject.graph)
        dials = fixed_dials(sites, told(subject.model, sites, grouping).numbers)
    if LATENCY not in {x.resource for x in limits}:
        return dials
    from prunec.runtime.latency.attach import at_batch
    from prunec.runtime.latency.group_times import timed_dials
    from prunec.runtime.latency.kernels import Where

    gathered = not isinstance(fold, Joint) or fold.gathers > 0
    where = Where(settings.provider, settings.threads)
    bound = at_batch(subject, settings.batch, settings.rules)
    return timed_dials(bound, dials, where, progress, gathered)


def without_dead(subject: Subject, choice: Choice, options: Options) -> Choice:
    """The choice without the channels that are always 0, where these are to be detected."""
    if not options.grouping.detect_dead:
        return choice
    live = choice.mask & live_groups(subject.model, subject.facts, subject.graph)
    for edge in subject.graph.edges:
        own = slice(edge.first, edge.first + edge.size)
        if not live[own].any():  # something must stay, and a branch that vanishes has nothing
            live[own] = choice.mask[own]
    return replace(choice, mask=live)


def check_company(options: Options) -> None:
    """Raise UsageError for what can't be combined with groups."""
    for flag, given in (
        ("--schedule", options.schedule != OneShot()),
        ("--kernel-positions per-filter", options.gamma is not None),
    ):
        if options.grouping.active and given:
            raise UsageError(
                f"{flag} can't be combined with groups; prune first, then group the result"
            )
    if options.grouping.groups and options.grouping.detect_dead:
        raise UsageError(
            "--detect-dead leaves numbers of channels that groups need not divide; detect first, "
            "then group the result"
        )
    fold_of(options.grouping, ())
    if isinstance(options.grouping.conv, str):
        chooser(options.grouping.conv)
    kernel_score(options.grouping.score)


def grouped_plan(
    subject: Subject,
    plan: Plan,
    choice: Choice,
    options: Options,
    settings: Settings,
    progress: Progress,
) -> Plan:
    """The plan of a choice with its groups: chosen, told and detected.

    Deterministic. Raises UsageError, DataError, InfeasibleBudgetError.
    """
    grouping = options.grouping
    slim = Slim.of(subject, plan)
    found = _Found({}, {}, {})
    if grouping.groups:
        progress("putting channels into groups")
        found = _blocks(slim, plan, choice, options, settings, progress)
    if grouping.detect_groups:
        own = detected(slim.subject.model, slim.subject.facts, slim.subject.graph)
        own = {name: blocks for name, blocks in own.items() if name not in found.blocks}
        kept = {**found.kept, **dict.fromkeys(own, 1.0)}
        found = replace(found, blocks={**own, **found.blocks}, kept=kept)
    return _recorded(subject, plan, found, options, slim)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """blocks: weight -> partition of the sliced axes; kept: share of its scores in the blocks.

    dense: weight -> why it stays dense.
    """

    blocks: Mapping[str, Partition]
    kept: Mapping[str, float]
    dense: Mapping[str, str]
    fold: str = ""


def _blocks(
    slim: Slim, plan: Plan, choice: Choice, options: Options, settings: Settings, progress: Progress
) -> _Found:
    grouping, dense = options.grouping, dict[str, str]()
    numbers: Mapping[str, int] = choice.chosen("groups")
    if not choice.posed_dials and not grouping.searched:
        said = told(slim.subject.model, slim.sites, grouping)
        numbers, dense = said.numbers, dict(said.dense)
    sites = [s for s in slim.sites if numbers.get(s.weight, 1) > 1]
    scores = kernel_scores(slim.subject, sites, grouping.score, settings, progress)
    scored = scored_sites(sites, scores, numbers)
    fold = fold_of(grouping, plan.budget)
    blocks = blocks_by(fold, scored, slim.subject.graph, permutation(grouping.perm))
    kept = {s.weight: float(s.score[blocks[s.weight].mask()].sum() * s.scale) for s in scored}
    return _Found(blocks, kept, dense, render(fold))


def fold_of(grouping: Grouping, budgeted: Collection[str]) -> Fold:
    """Joint or free, where that is left open. Raises UsageError."""
    searched = permutation(grouping.perm).name == "search"
    said = parse_fold(grouping.fold)
    if isinstance(said, Joint) and not searched:
        raise UsageError(
            f"--group-fold joint searches orders itself: --group-perm {grouping.perm} has no say; "
            "leave one of them out"
        )
    if not isinstance(said, Auto):
        return said
    return Joint() if searched and LATENCY not in budgeted else Free()


def _recorded(subject: Subject, plan: Plan, found: _Found, options: Options, slim: Slim) -> Plan:
    """The plan with the blocks, how they came about, and what the grouped model costs."""
    record: dict[str, Any] = options.grouping.provenance()
    if found.dense:
        record[DENSE] = dict(found.dense)
    groups = {name: _spread(subject, plan, name, own) for name, own in found.blocks.items()}
    plan = replace(plan, groups=groups, options={**plan.options, KEY: record})
    if not groups:
        return plan
    made = regrouped(subject, plan, masked(slim.sliced, found.blocks))
    record |= {"kept": dict(found.kept), "gathers": list(made.gathers)}
    record |= {"folded": found.fold} if found.fold else {}
    costs = {
        name: (dense, made.costs.get(name, pruned)) for name, (dense, pruned) in plan.costs.items()
    }
    for resource, limit in plan.budget.items():
        if resource == "bytes" and plan.bits:
            continue  # those of the quantised model, which is not there yet
        if costs[resource][1] > limit:  # Gathers compute activations of their own
            raise InfeasibleBudgetError(resource, limit, None, costs[resource][0])
    return replace(plan, costs=costs)


def _spread(subject: Subject, plan: Plan, name: str, own: Partition) -> Partition:
    """The partition over the dense axes."""
    outputs, inputs = subject.facts.shapes[name][:2]
    rows, columns = (
        plan.weights.get(name, {}).get(axis, tuple(range(size)))
        for axis, size in enumerate((outputs, inputs))
    )
    return own.spread(rows, columns, (outputs, inputs))
