"""Choosing in steps: one plan of the dense model, and what was looked at on the way."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest
from nets import chain, joined, residual

import prunec
from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import KEPT, Hypergraph
from prunec.compiler.stats import Stats
from prunec.passes.apply import prune
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.options import Options
from prunec.passes.schedules import Layerwise, OneShot, Schedule, Stepwise
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime.compile import Settings, compile_model, plan_for
from prunec.runtime.data import DataSpec
from prunec.runtime.schedule import counterparts
from prunec.runtime.subject import Subject, open_model
from prunec.runtime.sweep.grid import parse_grid
from prunec.runtime.sweep.run import sweep
from prunec.tools.demo import DIGITS


@dataclass(frozen=True)
class Looking:
    """Magnitude that remembers which widths it saw."""

    name: ClassVar[str] = "looking"
    needs: ClassVar[str] = ""
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> np.ndarray:
        self.seen.append(graph.dense())
        return Magnitude()(model, graph, stats)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return open_model(chain())


def made(subject: Subject, schedule: Schedule, budget: str = "flops=0.4", **options: object):
    looking = Looking()
    chosen = Options(looking, Greedy(bound=False), schedule=schedule, align=1, **options)
    return plan_for(subject, budget, chosen, Settings()), looking.seen


@pytest.mark.parametrize("net", [chain, residual, joined])
def test_groups_are_found_again_after_slicing(net) -> None:
    dense = open_model(net())
    graph = dense.graph
    rng = np.random.default_rng(0)
    mask = np.ones(graph.number_of_groups + 1, bool)
    for edge in graph.edges:
        mask[edge.first + rng.choice(edge.size, edge.size // 2, replace=False)] = False
    slim = open_model(prune(dense.model, dense.facts, graph, mask))
    found = counterparts(graph, mask, slim.graph)
    assert (found != KEPT).all()
    np.testing.assert_array_equal(np.sort(found), np.flatnonzero(mask[:-1]))
    for (value, axis), groups in slim.graph.axes.items():
        old = graph.axes[value, axis]
        old = old[mask[old]]
        np.testing.assert_array_equal(np.where(groups == KEPT, KEPT, found[groups]), old)


def test_steps_lead_to_the_budget_and_what_left_stays_away(subject: Subject) -> None:
    plan, seen = made(subject, Stepwise(3))
    assert plan.costs["flops"][1] <= plan.budget["flops"]
    assert plan.components["schedule"] == "stepwise{steps=3}"
    assert len(seen) == 3
    counts = [*seen, plan.counts(subject.graph)]
    for wider, slimmer in itertools.pairwise(counts):
        assert all(a >= b for a, b in zip(wider, slimmer, strict=True))
    cost = subject.graph.costs["flops"]
    dense = cost(subject.graph.dense())
    removed = [1 - cost(n) / dense for n in seen]
    assert removed[0] == 0
    assert removed[1] >= 0.6 * (1 - (2 / 3) ** 3)
    assert removed[2] >= 0.6 * (1 - (1 / 3) ** 3) > removed[1]


def test_layers_reach_the_widths_of_the_one_shot_one_by_one(subject: Subject) -> None:
    plan, seen = made(subject, Layerwise())
    target, _ = made(subject, OneShot())
    assert plan.counts(subject.graph) == target.counts(subject.graph)
    assert plan.objective == target.objective
    shrunk = [sum(a != b for a, b in zip(subject.graph.dense(), n, strict=True)) for n in seen]
    assert shrunk == list(range(len(seen)))
    assert "schedule" not in target.components


@pytest.mark.parametrize("schedule", [Stepwise(2), Layerwise("bottom"), Layerwise("shuffle")])
def test_the_plan_is_one_of_the_dense_model_and_is_proven(
    subject: Subject, schedule: Schedule
) -> None:
    pytest.importorskip("onnxruntime")
    plan, _ = made(subject, schedule)
    result = compile_model(subject, plan, Settings())
    assert result.report.verification is not None
    assert result.report.verification.passed


@pytest.mark.parametrize("schedule", [Stepwise(2), Layerwise()])
def test_branches_vanish_whole_in_steps(schedule: Schedule) -> None:
    subject = open_model(residual())
    plan, _ = made(subject, schedule, "flops=0.04", min_keep=0)
    counts = plan.counts(subject.graph)
    assert any(counts[e] == 0 for branch in subject.graph.branches for e in branch)
    compile_model(subject, plan, Settings(verify=False))


def test_kernel_positions_leave_in_steps_too() -> None:
    freedom = prunec.inspect(chain(), kernel_positions="layer").freedom
    subject = open_model(chain(), freedom=freedom)
    assert subject.graph.subsets
    plan, _ = made(subject, Stepwise(3), "flops=0.3")
    compile_model(subject, plan, Settings(verify=False))


def test_steps_are_the_same_every_time(subject: Subject) -> None:
    first, second = (made(subject, Stepwise(2))[0].to_json() for _ in range(2))
    assert first == second


def test_what_is_left_is_recovered_between_steps(subject: Subject, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "data.npy"
    np.save(path, np.random.default_rng(0).standard_normal((40, 3, 4, 4)).astype(np.float32))
    seen: list[float] = []

    @dataclass(frozen=True)
    class Head(Looking):
        def __call__(self, model: ir.Model, graph: Hypergraph, stats: Stats | None) -> np.ndarray:
            weight = model.graph.initializers["fc.weight"].const_value.numpy()
            seen.append(float(np.abs(weight - np.round(weight)).max()))
            return Magnitude()(model, graph, stats)

    options = Options(Head(), Greedy(bound=False), schedule=Stepwise(2), align=1)
    for recover, changed in (("none", False), ("least-squares", True)):
        settings = Settings(data=DataSpec(str(path)), recover=recover)
        plan = plan_for(subject, "flops=0.4", options, settings)
        dense, second = seen[-2:]
        assert dense == 0  # the weights are whole numbers until least squares moves them
        assert (second > 0) == changed
        assert ("recovered_between_steps" in plan.options) == changed


def test_what_contradicts_a_schedule_is_refused(subject: Subject, tmp_path) -> None:
    options = Options(schedule=Stepwise())
    settings = Settings(save_scores=tmp_path / "s.json")
    with pytest.raises(UsageError, match="use --schedule one-shot"):
        plan_for(subject, "flops=0.5", options, settings)
    with pytest.raises(UsageError, match="--schedule is for one model"):
        sweep(subject, parse_grid("flops=0.8|0.6"), options, Settings())
    with pytest.raises(UsageError, match="--schedule has no effect with --objective pairwise"):
        prunec.prune(DIGITS, "flops=0.5", objective="pairwise", schedule="stepwise")


def test_python_takes_a_specification(subject: Subject) -> None:
    result = prunec.prune(DIGITS, "flops=0.5", schedule="stepwise{steps=2}", verify=False)
    assert result.plan.components["schedule"] == "stepwise{steps=2}"
