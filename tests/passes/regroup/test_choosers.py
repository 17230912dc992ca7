"""Numbers of groups under a budget."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from nets import conv
from properties.builder import Builder

from prunec.compiler.errors import InfeasibleBudgetError, UsageError
from prunec.compiler.problem import Limit
from prunec.passes.dials import dialled_costs
from prunec.passes.grouping import Grouping
from prunec.passes.options import Options
from prunec.passes.pipeline import decide, limits_of, pose, score
from prunec.passes.regroup.blocks import FloatArray
from prunec.passes.regroup.candidates import Bounds
from prunec.passes.regroup.choosers import CHOOSERS, chooser, searched_dials
from prunec.passes.regroup.grps import Grps
from prunec.passes.regroup.offers import cost_shares, fixed_dials, offers_of
from prunec.passes.regroup.shares import Shares, shares_of
from prunec.passes.regroup.sites import Site, group_sites
from prunec.passes.worth.equal import Equal
from prunec.runtime.subject import Subject, open_model


def network(seed: int = 5) -> Subject:
    """Three convolutions that may be grouped, of different sizes, behind a stem."""
    b = Builder(seed, 17, batch=1)
    x = b.relu(conv(b, b.input(1, 3, 6, 6), "stem.weight", 8, 3))
    x = b.relu(conv(b, x, "a.weight", 8, 3))
    x = b.relu(conv(b, x, "b.weight", 16, 3))
    b.output(conv(b, b.relu(conv(b, x, "c.weight", 16, 3)), "head.weight", 5))
    return open_model(b.model())


def known(subject: Subject) -> tuple[tuple[Site, ...], dict[str, FloatArray], Shares]:
    sites = group_sites(subject.model, subject.facts, subject.graph)
    rng = np.random.default_rng(1)
    scores = {site.weight: rng.random(site.shape[:2]) for site in sites}
    return sites, scores, shares_of(sites, scores, Bounds(max_groups=8), Grps())


def found(subject: Subject, conv: str, budget: str, **options: object):
    sites, scores, shares = known(subject)
    chosen = Options(grouping=Grouping(conv=conv), **{"channels": False, **options})
    limits = limits_of(subject.graph, budget)
    dials = searched_dials(subject.graph, sites, limits, chosen, shares, scores)
    values = score(subject.model, subject.graph, chosen)
    choice = decide(subject.graph, values, limits, chosen, dials=dials)
    counts = [int(choice.mask[e.first : e.first + e.size].sum()) for e in subject.graph.edges]
    counts += [d.counts[d.choices.index(choice.dials[d.name])] for d in dials]
    costs = dialled_costs(subject.graph, dials)
    return choice, {x.resource: (costs[x.resource](counts), x.at_most) for x in limits}, shares


def kept(numbers: dict[str, int], shares: Shares) -> float:
    return float(np.mean([own[numbers.get(weight, 1)] for weight, own in shares.items()]))


@pytest.mark.parametrize("spec", CHOOSERS)
@pytest.mark.parametrize("budget", ["params=0.7", "flops=0.45", "params=0.3,flops=0.6"])
def test_no_chooser_is_ever_above_a_budget(spec: str, budget: str) -> None:
    choice, costs, _ = found(network(), spec, budget)
    assert choice.chosen("groups")
    assert all(cost <= limit for cost, limit in costs.values())


@pytest.mark.parametrize("budget", ["params=0.7", "params=0.45", "params=0.25"])
def test_auto_keeps_as_much_as_trying_everything(budget: str) -> None:
    subject = network()
    choice, _, shares = found(subject, "auto{equal=true}", budget)
    sites, _, _ = known(subject)
    limits = limits_of(subject.graph, budget)
    best = 0.0
    for numbers in product(*(own for own in shares.values())):
        told = dict(zip(shares, numbers, strict=True))
        dials = fixed_dials(sites, told)
        counts = (*subject.graph.dense(), *(d.counts[0] for d in dials))
        cost = dialled_costs(subject.graph, dials)["params"](counts)
        best = max(best, kept(told, shares) if cost <= limits[0].at_most else 0.0)
    assert kept(choice.chosen("groups"), shares) == pytest.approx(best, rel=2e-3)


@pytest.mark.parametrize("budget", ["params=0.7", "params=0.45", "params=0.25"])
def test_the_published_search_keeps_no_more_than_auto(budget: str) -> None:
    ours, _, shares = found(network(), "auto{equal=true}", budget)
    theirs, _, _ = found(network(), "max-cost", budget)
    assert kept(ours.chosen("groups"), shares) >= kept(theirs.chosen("groups"), shares) - 2e-3


def test_the_published_search_cannot_do_with_less_than_most_groups() -> None:
    with pytest.raises(InfeasibleBudgetError, match="params"):
        found(network(), "max-cost", "params=0.05")


def test_shares_of_sums_differ_from_relative_ones_in_the_published_search() -> None:
    sums, _, _ = found(network(), "max-cost{relative=false}", "params=0.45")
    relative, _, _ = found(network(), "max-cost", "params=0.45")
    assert sums.chosen("groups") != relative.chosen("groups")


def test_channels_and_groups_share_one_budget() -> None:
    subject = network()
    choice, costs, _ = found(subject, "auto{worth=1}", "params=0.2", channels=True, align=1)
    assert not choice.mask.all() and choice.chosen("groups")
    assert costs["params"][0] <= costs["params"][1]


def test_dials_are_worth_their_share_of_the_cost_in_the_currency_of_channels() -> None:
    subject = network()
    sites, scores, shares = known(subject)
    limits = (Limit("params", 1000),)
    options = Options(grouping=Grouping(conv="auto"))
    dials = searched_dials(subject.graph, sites, limits, options, shares, scores)
    parts, of_edges = cost_shares(subject.graph, limits, dials)
    whole = subject.graph.costs["params"](subject.graph.dense())
    sizes = {"a.weight": 8 * 8 * 9, "b.weight": 16 * 8 * 9, "c.weight": 16 * 16 * 9}
    for dial, part in zip(dials, parts, strict=True):
        assert part == pytest.approx(sizes[dial.weight] / whole)
        assert dial.values[-1] == pytest.approx(2 * part / of_edges)
    problem = pose(subject.graph, np.ones(subject.graph.number_of_groups), limits, options)
    assert sum(float(v[-1]) for v in problem.values) == pytest.approx(1.0)


def test_equal_worths_hold_for_convolutions_too() -> None:
    subject = network()
    sites, scores, shares = known(subject)
    options = Options(grouping=Grouping(conv="auto"), worth=Equal())
    dials = searched_dials(subject.graph, sites, (Limit("params", 1000),), options, shares, scores)
    assert len({dial.values[-1] for dial in dials}) == 1


def test_what_saves_nothing_that_is_limited_gets_no_dial() -> None:
    subject = network()
    sites, scores, shares = known(subject)
    options = Options(grouping=Grouping(conv="auto"))
    limits = (Limit("memory", 1000),)
    assert searched_dials(subject.graph, sites, limits, options, shares, scores) == ()


def test_a_number_that_keeps_no_more_than_a_larger_one_is_no_choice() -> None:
    sites, scores, _ = known(network())
    site = next(s for s in sites if s.weight == "a.weight")
    shares = {site.weight: {1: 1.0, 2: 0.4, 4: 0.4, 8: 0.1}}
    (offer,) = offers_of([site], shares, scores)
    assert list(offer.kept) == [1, 4, 8]


def test_choosing_needs_a_budget_and_a_known_way() -> None:
    subject = network()
    sites, scores, shares = known(subject)
    options = Options(grouping=Grouping(conv="auto"))
    with pytest.raises(UsageError, match="give --budget"):
        searched_dials(subject.graph, sites, (), options, shares, scores)
    with pytest.raises(UsageError, match="did you mean 'max-cost'"):
        chooser("max-cst")
    with pytest.raises(UsageError, match="must be above 0"):
        chooser("auto{worth=0}")
