"""Dials: one more variable per weight, exact in its costs, for every solver."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
from nets import conv
from properties.builder import Builder

from prunec.compiler.dial import Dial
from prunec.compiler.errors import InfeasibleBudgetError, UsageError
from prunec.compiler.partition import Partition
from prunec.compiler.plan import Plan
from prunec.passes.apply import prune
from prunec.passes.dials import FIT, dialled_costs, sizes_of
from prunec.passes.options import Options
from prunec.passes.pairwise.objectives import Pairwise
from prunec.passes.pipeline import decide, limits_of, plan_of, pose, score
from prunec.passes.regroup.blocks import contiguous
from prunec.passes.regroup.rewrite import regroup
from prunec.passes.regroup.sites import group_sites
from prunec.passes.solvers import SOLVERS
from prunec.runtime.subject import Subject, open_model, reopened

GROUPS = (12, 6, 4, 3, 2, 1)


def net(opset: int = 17):
    """A chain of three convolutions, of which the last two may be grouped."""
    b = Builder(3, opset, batch=1)
    x = b.relu(conv(b, b.input(1, 3, 4, 4), "a.weight", 12, 3))
    x = b.relu(conv(b, x, "b.weight", 12, 3))
    b.output(conv(b, b.relu(conv(b, x, "c.weight", 12)), "d.weight", 5))
    return b.model()


def group_dial(subject: Subject, weight: str, worth: float, choices=GROUPS) -> Dial:
    (site,) = (s for s in sites(subject) if s.weight == weight)
    values = tuple(worth * (0.3 + 0.7 / g) for g in choices)
    counts = tuple(12 // g for g in choices)
    return Dial(f"{weight}:groups", "groups", weight, choices, counts, 12, values, site.nodes)


def bits_dial(weight: str, worth: float, choices=(4, 8, 32)) -> Dial:
    values = tuple(worth * (1 - 1 / b) for b in choices)
    return Dial(f"{weight}:bits", "bits", weight, choices, choices, 32, values)


def sites(subject: Subject):
    return group_sites(subject.model, subject.facts, subject.graph)


def posed(subject: Subject, budget: str, dials: tuple[Dial, ...], **options: object):
    chosen = Options(**{"align": 1, **options})
    limits = limits_of(subject.graph, budget)
    scores = score(subject.model, subject.graph, chosen)
    return pose(subject.graph, scores, limits, chosen, dials=dials), scores, limits, chosen


def decided(subject: Subject, budget: str, dials: tuple[Dial, ...], **options: object) -> Plan:
    _, scores, limits, chosen = posed(subject, budget, dials, **options)
    choice = decide(subject.graph, scores, limits, chosen, dials=dials)
    return choice, plan_of(subject.graph, choice, limits, chosen, "digest")


def both_grouped(subject: Subject) -> tuple[Dial, ...]:
    return (group_dial(subject, "b.weight", 0.6), group_dial(subject, "c.weight", 0.2))


@cache
def best_objective() -> float:
    """By trying everything."""
    subject = open_model(net())
    problem, *_ = posed(subject, "params=0.4", both_grouped(subject), align=3)
    return max(
        problem.objective(counts)
        for counts in product(*(level.tolist() for level in problem.levels))
        if problem.feasible(counts)
    )


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_every_solver_chooses_kept_counts_and_dials_together(solver: str) -> None:
    subject = open_model(net())
    dials = both_grouped(subject)
    best = best_objective()
    choice, plan = decided(subject, "params=0.4", dials, align=3, solver=SOLVERS[solver]())
    assert choice.objective <= best * (1 + 1e-9)
    assert choice.objective >= best * (0.98 if solver == "greedy" else 0.999)
    assert choice.bound is None or choice.bound >= best * (1 - 1e-6)
    assert plan.costs["params"][1] <= plan.budget["params"]
    for weight, groups in choice.chosen("groups").items():
        for kept in plan.weights.get(weight, {}).values():
            assert len(kept) % groups == 0


def test_costs_of_a_choice_are_those_of_the_grouped_model() -> None:
    subject = open_model(net())
    dials = (group_dial(subject, "b.weight", 0.5), group_dial(subject, "c.weight", 0.5))
    choice, plan = decided(subject, "params=0.3,flops=0.35", dials)
    numbers = choice.chosen("groups")
    assert numbers, "a budget that tight needs groups"
    sliced = prune(subject.model, subject.facts, subject.graph, choice.mask)
    slim = reopened(sliced, subject)
    blocks = {
        site.weight: Partition.of(*(contiguous(n, numbers[site.weight]) for n in site.shape[:2]))
        for site in sites(slim)
        if site.weight in numbers
    }
    written = reopened(regroup(slim.model, slim.facts, slim.graph, blocks).model, subject)
    counted = {name: cost(written.graph.dense()) for name, cost in written.graph.costs.items()}
    for resource in ("params", "bytes", "flops"):
        assert counted[resource] == plan.costs[resource][1], resource
        assert plan.costs[resource][0] == subject.graph.costs[resource](subject.graph.dense())


def test_thirds_and_sixths_add_up_exactly() -> None:
    subject = open_model(net())
    dials = tuple(group_dial(subject, name, 0.5) for name in ("b.weight", "c.weight"))
    costs = dialled_costs(subject.graph, dials)
    dense, whole = subject.graph.dense(), subject.graph.costs["params"](subject.graph.dense())
    for one, two in product(GROUPS, repeat=2):
        saved = 12 * 12 * 9 * (one - 1) // one + 12 * 12 * (two - 1) // two
        assert costs["params"]((*dense, 12 // one, 12 // two)) == whole - saved


def test_a_convolution_of_frozen_channels_is_scaled_too() -> None:
    b = Builder(0, 17, batch=1)
    b.output(conv(b, b.input(1, 6, 4, 4), "only.weight", 6, 3))
    subject = open_model(b.model())
    assert not subject.graph.edges
    (site,) = sites(subject)
    dial = Dial("g", "groups", "only.weight", (3, 2, 1), (2, 3, 6), 6, (0.2, 0.5, 1.0), site.nodes)
    cost = dialled_costs(subject.graph, [dial])["flops"]
    assert [cost((n,)) for n in (2, 3, 6)] == [5184 // 3, 5184 // 2, 5184]


def test_groups_that_do_not_divide_what_is_kept_are_ruled_out() -> None:
    subject = open_model(net())
    dials = (group_dial(subject, "b.weight", 0.5),)
    problem, *_ = posed(subject, "params=0.5", dials)
    assert problem.limits[-1].resource == FIT
    kept = list(problem.dense())
    kept[-1] = 12 // 4
    a = problem.names.index("a.weight:0")
    for count in range(1, 13):
        kept[a] = count
        assert (problem.costs[FIT](kept) == 0) == (count % 4 == 0), count


def test_bits_scale_bytes_and_nothing_else() -> None:
    subject = open_model(net())
    dials = tuple(bits_dial(name, 1.0) for name in ("b.weight", "c.weight"))
    _, plan = decided(subject, "bytes=0.35", dials, channels=False)
    assert set(plan.bits.values()) <= {4, 8} and plan.bits
    dense = {name: before for name, (before, _) in plan.costs.items()}
    stored = {w.value: int(np.prod(w.shape)) for w in subject.graph.weights}
    saved = sum(stored[name] * (32 - bits) // 8 for name, bits in plan.bits.items())
    assert plan.costs["bytes"] == (dense["bytes"], dense["bytes"] - saved)
    assert plan.costs["params"][0] == plan.costs["params"][1]
    assert plan.costs["flops"][0] == plan.costs["flops"][1]
    assert Plan.from_json(plan.to_json()).bits == plan.bits


def test_groups_and_bits_of_one_weight_multiply() -> None:
    subject = open_model(net())
    dials = (group_dial(subject, "b.weight", 1.0, (3, 1)), bits_dial("b.weight", 1.0))
    costs = dialled_costs(subject.graph, dials)
    dense = subject.graph.dense()
    one = costs["bytes"]((*dense, 4, 8))
    assert one == subject.graph.costs["bytes"](dense) - 12 * 12 * 9 * 4 + 12 * 12 * 9 // 3


def test_without_dials_nothing_changes() -> None:
    subject = open_model(net())
    assert dict(dialled_costs(subject.graph, ())) == dict(subject.graph.costs)
    assert sizes_of(subject.graph) == subject.graph.dense()


def test_kept_channels_stay_when_channels_are_left_alone() -> None:
    subject = open_model(net())
    dials = (group_dial(subject, "b.weight", 0.5),)
    choice, plan = decided(subject, "params=0.7", dials, channels=False)
    assert choice.mask.all() and not plan.weights
    assert plan.options["channels"] is False
    with pytest.raises(InfeasibleBudgetError):
        decided(subject, "params=0.05", dials, channels=False)


def test_pairs_of_channels_know_no_dials() -> None:
    subject = open_model(net())
    options = Options(objective=Pairwise())
    limits = limits_of(subject.graph, "params=0.5")
    scores = score(subject.model, subject.graph, options)
    with pytest.raises(UsageError, match="chooses channels only"):
        decide(subject.graph, scores, limits, options, dials=(bits_dial("b.weight", 1.0),))


def test_what_solvers_say_of_the_fit_is_no_price() -> None:
    subject = open_model(net())
    choice, plan = decided(subject, "params=0.4", (group_dial(subject, "b.weight", 0.5),))
    assert set(choice.prices) <= {"params"} and set(plan.budget) == {"params"}


def test_a_concatenated_axis_stays_divisible() -> None:
    b = Builder(2, 17, batch=1)
    x = b.input(1, 3, 2, 2)
    left, right = conv(b, x, "left.weight", 6), conv(b, x, "right.weight", 10)
    both = b.relu(b.add("Concat", [left, right], (1, 16, 2, 2), axis=1))
    b.output(conv(b, b.relu(conv(b, both, "wide.weight", 16, 3)), "head.weight", 3))
    subject = open_model(b.model())
    site = next(s for s in sites(subject) if s.weight == "wide.weight")
    dial = Dial("g", "groups", site.weight, (4, 1), (1, 4), 4, (0.9, 1.0), site.nodes)
    choice, plan = decided(subject, "params=0.2", (dial,))
    assert choice.dials == {"g": 4}
    sizes = [16, 16]
    for axis, kept in plan.weights[site.weight].items():
        sizes[axis] = len(kept)
    assert sizes != [16, 16]
    assert all(n % 4 == 0 for n in sizes)


def test_what_cannot_be_met_is_said_of_the_budget_and_not_of_the_fit() -> None:
    subject = open_model(net())
    dials = (group_dial(subject, "b.weight", 0.5, (4, 1)),)
    with pytest.raises(InfeasibleBudgetError, match="budget params <= 155"):
        decided(subject, "params=0.085", dials, align=3, min_keep=3)
