"""What groups save of a network's time."""

from __future__ import annotations

import numpy as np
import pytest
from nets import conv
from properties.builder import Builder

from prunec.passes.dials import LATENCY, dialled_costs
from prunec.passes.options import Options
from prunec.passes.pipeline import decide, limits_of, plan_of, score
from prunec.passes.regroup.offers import fixed_dials
from prunec.passes.regroup.sites import group_sites
from prunec.runtime.latency import group_times as timing
from prunec.runtime.latency.attach import Wanted, with_latency
from prunec.runtime.latency.group_times import time_groups, timed_dials
from prunec.runtime.latency.kernels import Where
from prunec.runtime.latency.measure import Effort
from prunec.runtime.subject import Subject, open_model


@pytest.fixture(scope="module")
def subject() -> Subject:
    b = Builder(3, 17, batch=1)
    x = b.relu(conv(b, b.input(1, 3, 16, 16), "stem.weight", 16, 3))
    x = b.relu(conv(b, x, "body.weight", 16, 3))
    b.output(conv(b, x, "head.weight", 4))
    return open_model(b.model())


def quiet(_: str) -> None:
    pass


def test_every_number_is_timed_and_no_convolution_takes_less_than_no_time(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    found = time_groups(subject, {"body.weight": [2, 4]}, Where(), quiet, gathered=True)
    assert set(found.change["body.weight"]) == {2, 4}
    assert found.gathers["body.weight"] >= 0


def made_up(subject, models, where, rounds, probe):
    """A dense node takes 100 us, a grouped one 40; a Gather, that is an unfolded model, 10 each."""
    out = []
    for model in models:
        gathers = sum(node.op_type == "Gather" for node in model.graph)
        grouped = any(n.attributes.get_int("group", 1) > 1 for n in model.graph)
        last = 40e3 if grouped else 100e3
        out.append(dict.fromkeys(range(len(subject.model.graph)), last + 10000.0 * gathers))
    return out


def test_dials_carry_what_groups_and_gathers_change(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "model_times", made_up)
    sites = group_sites(subject.model, subject.facts, subject.graph)
    dials = fixed_dials(sites, {"body.weight": 4})
    (plain,) = timed_dials(subject, dials, Where(), quiet, gathered=False)
    (moved,) = timed_dials(subject, dials, Where(), quiet, gathered=True)
    assert plain.times[0] < 0
    assert moved.times[0] > plain.times[0]


def test_latency_of_a_choice_counts_groups_at_the_channels_that_are_left(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunec.runtime.latency.attach.Effort", lambda: Effort(8, 2, 1))
    monkeypatch.setattr(timing, "model_times", made_up)
    timed, _ = with_latency(subject, Options(), Wanted())
    sites = group_sites(subject.model, subject.facts, subject.graph)
    (dial,) = timed_dials(timed, fixed_dials(sites, {"body.weight": 4}), Where(), quiet, False)
    now, before = dialled_costs(timed.graph, [dial])[LATENCY], timed.graph.costs[LATENCY]
    dense = timed.graph.dense()
    half = tuple(n // 2 for n in dense)
    change = dial.times[0]
    assert now((*dense, 1)) - before(dense) == pytest.approx(change, abs=2)
    assert now((*half, 1)) - before(half) == pytest.approx(change / 4, rel=0.2)
    options = Options(channels=False)
    limits = limits_of(timed.graph, "latency=1.0")
    values = score(timed.model, timed.graph, options)
    choice = decide(timed.graph, values, limits, options, dials=(dial,))
    plan = plan_of(timed.graph, choice, limits, options, "digest")
    assert plan.costs[LATENCY][1] == now((*dense, 1))
    assert np.isclose(plan.costs[LATENCY][0], before(dense), atol=1)
