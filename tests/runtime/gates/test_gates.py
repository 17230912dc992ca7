from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prunec.compiler.errors import DataError, UsageError
from prunec.compiler.plan import Plan
from prunec.passes.criteria.gate import Gate
from prunec.passes.gates.goal import goal_of
from prunec.passes.options import Options
from prunec.passes.pipeline import limits_of
from prunec.runtime.compile import Settings, plan_for
from prunec.runtime.data import DataSpec
from prunec.runtime.gates.published import PREFIX, Published
from prunec.runtime.gates.session import open_session
from prunec.runtime.gates.start import first_theta
from prunec.runtime.subject import open_model
from prunec.runtime.training.fit import StepInfo, fit
from prunec.runtime.training.settings import Recipe, Sgd, TrainSettings

GATE = Gate(steps=24, batch=16)
SGD = TrainSettings(steps=3, batch=16, optimizer=Sgd(), learning_rate=0.05, device="cpu", threads=1)


def planned(model: Path, data: Path, gate: Gate = GATE, budget: str = "flops=0.5") -> Plan:
    subject = open_model(model)
    options = Options(criterion=gate, align=1)
    return plan_for(subject, budget, options, Settings(data=DataSpec(str(data))))


def test_the_budget_is_met_before_the_solver_is_asked(dense: Path, labelled: Path) -> None:
    plan = planned(dense, labelled)
    (reached,) = plan.options["gates"]["reached"].values()
    assert 0.9 < reached <= 1  # one channel of so small a network is several percent
    kept = sum(len(edge.positions) for edge in plan.hyperedges.values())
    assert plan.options["gates"]["open"] == kept
    assert plan.components["criterion"] == "gate{steps=24,batch=16}"


def test_gates_close_what_nobody_reads(dense: Path, plain: Path) -> None:
    # Without labels: classes are drawn from what the dense model says.
    plan = planned(dense, plain, GATE, "flops=0.7")
    first = plan.hyperedges["w1:0"].positions
    assert len(first) < 8
    assert {1, 3, 5, 7} <= set(first)


@pytest.mark.parametrize("evidence", ["second-order", "straight-through"])
def test_other_evidence_meets_the_budget_too(dense: Path, labelled: Path, evidence: str) -> None:
    plan = planned(dense, labelled, replace(GATE, evidence=evidence))
    assert 0.85 < max(plan.options["gates"]["reached"].values()) <= 1


def test_the_same_seed_gives_the_same_gates(dense: Path, labelled: Path) -> None:
    first, again = (planned(dense, labelled).to_json() for _ in range(2))
    assert first == again


def test_a_fixed_batch_and_soft_gates_train_too(fixed: Path, labelled: Path) -> None:
    gate = replace(GATE, hard=False, evidence="straight-through", random_init=True)
    plan = planned(fixed, labelled, gate)
    assert max(plan.options["gates"]["reached"].values()) <= 1


def test_weights_may_learn_along(dense: Path, labelled: Path) -> None:
    plan = planned(dense, labelled, replace(GATE, train_weights=True))
    assert plan.options["gates"]["steps"] == 24
    assert max(plan.options["gates"]["reached"].values()) <= 1


@pytest.mark.parametrize(("weight", "rate"), [(0.001, 0.01), (20.0, 0.5)])
def test_the_published_loss_closes_as_much_as_its_weight_asks(
    dense: Path, labelled: Path, weight: float, rate: float
) -> None:
    gate = replace(GATE, weight=weight, learning_rate=rate, init=0.9)
    plan = planned(dense, labelled, gate)
    ratio = plan.options["gates"]["ratio"]["flops"]
    assert ratio == 1 if weight < 1 else ratio < 0.7
    assert plan.costs["flops"][1] <= plan.budget["flops"]


def test_published_gates_learn_at_the_rate_over_the_cost(dense: Path, labelled: Path) -> None:
    subject = open_model(dense)
    goal = goal_of(subject.graph, limits_of(subject.graph, "flops=0.5"), Options(align=1))
    how = replace(GATE, weight=1.0)
    session = open_session(subject, DataSpec(str(labelled)), Recipe(), SGD, weights=True)
    loss = Published(session, goal, first_theta(subject.graph, how), how)
    rows: dict[str, tuple[float, float]] = {}

    def look(info: StepInfo) -> None:
        loss.on_step(info)
        for row in info.optimizer.param_groups:
            rows[row["name"]] = row["peak"], row["weight_decay"]

    fit(session.view, session.data, loss, session.settings,
        extra_parameters=loss.groups(), on_step=look)  # fmt: skip
    for edge, w in zip(subject.graph.edges, loss.weights(), strict=True):
        rate, decay = rows[PREFIX + edge.name]
        assert rate == pytest.approx(0.05 * 0.2 / w)
        assert decay == pytest.approx(5e-4 * w / 0.2)
    assert (loss.weights() * subject.graph.dense()).sum() == pytest.approx(1.2, abs=0.8)


def test_initial_probabilities_by_hyperedge(tmp_path: Path, dense: Path, labelled: Path) -> None:
    graph = open_model(dense).graph
    path = tmp_path / "init.json"
    path.write_text(json.dumps({"w1:0": 0.995, "default": 0.5}))
    theta = first_theta(graph, Gate(init=str(path)))
    np.testing.assert_allclose(theta, np.repeat([5.29330, 0.0], 8), atol=1e-5)
    np.testing.assert_allclose(first_theta(graph, Gate(init=0.99)), 4.59512, atol=1e-5)
    varied = first_theta(graph, Gate(random_init=True))
    assert (np.abs(varied / 4.59512 - 1) <= 0.1 + 1e-6).all()
    assert len(set(varied.tolist())) == 16
    for text, message in (
        ("[]", "must be an object"),
        ("{", "is not JSON"),
        ('{"w1:0": 1}', "must be a number between 0 and 1"),
        ('{"w3:0": 0.5}', "no hyperedge"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            first_theta(graph, Gate(init=str(path)))


def test_without_a_budget_only_the_published_loss_can_be_trained(
    dense: Path, labelled: Path
) -> None:
    from prunec.runtime.compile import calibrate

    subject, settings = open_model(dense), Settings(data=DataSpec(str(labelled)))
    with pytest.raises(UsageError, match="trains for one budget"):
        calibrate(subject, Options(criterion=GATE), settings)
    found = calibrate(subject, Options(criterion=replace(GATE, steps=2, weight=1.0)), settings)
    assert found is not None
    assert found.openness is not None
    assert (found.openness > 0.9).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gate(init=1.0), "init=1.0 must lie"),
        (lambda: Gate(ramp=0), "ramp=0 must be"),
        (lambda: Gate(steps=0), "steps=0 must be above 0"),
        (lambda: Gate(weight=-1), "weight=-1 must not be negative"),
        (lambda: Gate(evidence="second"), "did you mean 'second-order'"),
        (lambda: Gate(hard=False), "hard=false needs"),
    ],
)
def test_options_that_mean_nothing_are_refused(make: Callable[[], Gate], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_data_is_needed(dense: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data"):
        plan_for(open_model(dense), "flops=0.5", Options(criterion=GATE), Settings())
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 3, 4, 4), np.float32))
    with pytest.raises(DataError, match="no sample"):
        planned(dense, tmp_path / "none.npz")
