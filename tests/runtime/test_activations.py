"""Budgets of activations and peak memory, from the budget to the written file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from nets import conv, residual
from properties.builder import Builder
from properties.graphs import random_graph
from properties.oracle import analyse, check, counts, random_masks

from prunec.compiler.costs.memory import memory
from prunec.compiler.plan import Plan
from prunec.frontends.onnx import load
from prunec.passes.apply import prune, reorder
from prunec.passes.options import Options
from prunec.runtime.compile import Settings, compile_model, plan_for
from prunec.runtime.subject import Subject, open_model

MODELS = Path(__file__).parents[2].parent / "shared" / "models"


def unet(width: int = 16) -> bytes:
    """Two scales with a skip that is read late."""
    b = Builder(3, 17, batch=1)
    x = b.relu(conv(b, b.input(1, 3, 16, 16), "in.weight", width, 3))
    y = b.add("MaxPool", [x], (1, width, 8, 8), kernel_shape=[2, 2], strides=[2, 2])
    y = b.relu(conv(b, y, "low.weight", 2 * width, 3))
    scales = b.store(np.array([1, 1, 2, 2], np.float32))
    y = b.add("Resize", [y, "", scales], (1, 2 * width, 16, 16))
    both = b.add("Concat", [x, y], (1, 3 * width, 16, 16), axis=1)
    b.output(conv(b, b.relu(conv(b, both, "out.weight", width, 3)), "head.weight", 2))
    return b.model().SerializeToString()


def late_branch() -> bytes:
    """The wide branch stands first in the file: later is better."""
    b = Builder(3, 17, batch=1)
    x = conv(b, b.input(1, 3, 4, 4), "stem.weight", 8)
    wide = b.add("Abs", [b.add("Neg", [conv(b, x, "wide.weight", 32)])])
    deep = b.relu(conv(b, b.relu(conv(b, x, "deep.weight", 48)), "narrow.weight", 4))
    wide = b.pooled(wide)
    both = b.add("Concat", [wide, b.pooled(deep)], (1, 36, 1, 1), axis=1)
    b.output(conv(b, both, "head.weight", 3))
    return b.model().SerializeToString()


def kept(subject: Subject, plan: Plan) -> dict[str, tuple[int, int]]:
    return {e.name: (len(plan.hyperedges[e.name].positions), e.size) for e in subject.graph.edges}


@pytest.mark.parametrize("budget", ["memory=0.6", "activations=0.5", "memory=0.7,flops=0.5"])
def test_a_budget_holds_in_the_file_and_the_oracle_counts_the_same(
    budget: str, tmp_path: Path
) -> None:
    subject = open_model(unet())
    plan = plan_for(subject, budget, Options(align=1), Settings())
    result = compile_model(subject, plan, Settings(), tmp_path / "m.onnx")
    report = result.report.to_dict()
    for resource, used in report["budget"].items():
        assert plan.costs[resource][1] <= used["limit"]
    assert report["verification"]["passed"]
    assert "activations, memory" in report["verification"]["checks"]["cost"]["detail"]


@pytest.mark.parametrize("budget", ["memory=0.5", "memory=80kB,flops=0.6,params=0.7,bytes=0.7"])
def test_resnet20_meets_its_memory_budget(budget: str, tmp_path: Path) -> None:
    path = MODELS / "resnet20-cifar10.onnx"
    if not path.is_file():
        pytest.skip(f"needs {path.name} in ../shared")
    subject = open_model(path)
    plan = plan_for(subject, budget, Options(), Settings())
    compile_model(subject, plan, Settings(), tmp_path / "m.onnx")
    assert plan.costs["memory"][1] <= 0.62 * plan.costs["memory"][0]


def test_what_has_no_part_in_the_peak_stays_dense() -> None:
    subject = open_model(unet())
    plan = plan_for(subject, "memory=0.9", Options(align=1), Settings())
    shares = kept(subject, plan)
    assert any(count < size for count, size in shares.values())
    for e, edge in enumerate(subject.graph.edges):
        over = [
            m
            for m in subject.graph.costs["memory"].rows
            if m(subject.graph.dense()) > plan.budget["memory"]
        ]
        if not any(e in m.edges() for m in over):
            assert shares[edge.name][0] == edge.size


@pytest.mark.parametrize("seed", range(8))
def test_dropping_small_moments_changes_no_peak(seed: int) -> None:
    case = analyse(random_graph(seed))
    ledger = case.graph.trace.ledger
    whole = [memory(replace(ledger, moments=(m,))) for m in ledger.moments]
    rng = np.random.default_rng(seed)
    for _ in range(20):
        n = [int(rng.integers(edge.size + 1)) for edge in case.graph.edges]
        assert case.graph.costs["memory"](n) == max(m(n) for m in whole)


def test_the_pruned_file_stands_in_the_order_that_was_counted() -> None:
    case = analyse(residual())
    assert case.graph.order == ()
    model = open_model(late_branch())
    graph = model.graph
    assert graph.order
    dense = [node.name for node in model.model.graph]
    assert sorted(graph.order) == sorted(dense)
    pruned = prune(model.model, model.facts, graph, np.ones(graph.number_of_groups + 1, bool))
    assert [node.name for node in pruned.graph] == list(graph.order)
    # And from then on it is the order of the file.
    again = analyse(ir.to_proto(pruned)).graph
    assert again.order == ()
    assert again.costs["memory"](again.dense()) == graph.costs["memory"](graph.dense())


@pytest.mark.parametrize("seed", range(3))
def test_a_reordered_model_computes_the_same(seed: int) -> None:
    from onnx import load_model_from_string

    case = analyse(load_model_from_string(late_branch()))
    assert case.graph.order
    for mask in random_masks(case.graph, seed, 2):
        check(case, mask)
        n = counts(case.graph, mask)
        assert case.graph.costs["memory"](n) <= case.graph.costs["memory"](case.graph.dense())


def test_nodes_that_no_order_names_come_right_before_their_readers() -> None:
    model = load(residual())
    names = [node.name for node in model.graph]
    reorder(model.graph, names[1:])
    assert [node.name for node in model.graph] == names
    reorder(model.graph, ())
    assert [node.name for node in model.graph] == names


def test_plans_from_before_these_costs_still_apply() -> None:
    subject = open_model(unet())
    plan = plan_for(subject, "flops=0.5", Options(), Settings())
    first = ("flops", "params", "bytes")
    older = replace(plan, costs={k: v for k, v in plan.costs.items() if k in first})
    result = compile_model(subject, Plan.from_json(older.to_json()), Settings())
    assert result.report.verification is not None
    assert result.report.verification.passed


@pytest.mark.parametrize("seed", range(4))
def test_a_peak_without_each_hyperedge_is_what_it_is_with_its_count_0(seed: int) -> None:
    graph = analyse(random_graph(seed)).graph
    cost, dense = graph.costs["memory"], list(graph.dense())
    for e, without in enumerate(cost.without_each(dense)):
        assert without == cost([0 if k == e else n for k, n in enumerate(dense)])
