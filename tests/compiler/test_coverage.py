from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from nets import chain, conv, residual, weight
from properties.builder import Builder
from properties.graphs import random_graph
from properties.oracle import analyse

from prunec.compiler.barriers import REASONS, nearest_barriers
from prunec.compiler.coverage import coverage, to_dict
from prunec.compiler.hypergraph import Hypergraph
from prunec.compiler.interpret import interpret
from prunec.compiler.reasons import BARRIERS, Reason
from prunec.compiler.rules import RULES


def graph(model: onnx.ModelProto) -> Hypergraph:
    return analyse(model).graph


def frozen_at_both_ends(op: str, **attrs: object) -> onnx.ModelProto:
    """conv (3 -> 4) whose channels `op` holds, then head (4 -> 5), the output."""
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "conv.weight", 4)
    b.output(conv(b, b.add(op, [x], **attrs), "head.weight", 5))
    return b.model()


def test_a_plain_chain_is_prunable_but_for_the_vectors_of_its_output() -> None:
    found = coverage(graph(chain())).resources
    assert found["flops"].prunable == 1
    assert found["flops"].barriers == {}
    assert found["params"].dense == 3 * 8 * 9 + 2 * 8 + 8 * 6 + 6 * 5 + 5
    assert found["params"].barriers == {Reason.GRAPH_OUTPUT: 5 / found["params"].dense}


def test_the_smallest_ratio_keeps_one_group_of_each_hyperedge() -> None:
    case = graph(residual())
    flops = case.costs["flops"]
    assert coverage(case).resources["flops"].smallest == flops([1, 1]) / flops(case.dense())


def test_a_product_goes_to_the_axis_that_its_own_weight_makes() -> None:
    found = coverage(graph(frozen_at_both_ends("Softmax", axis=1))).resources["flops"]
    # Per position: conv 3 * 4, held by the softmax; head 4 * 5, by the output, not by the softmax.
    assert found.dense == 4 * (12 + 20)
    assert found.barriers == {
        Reason.GRAPH_OUTPUT: pytest.approx(20 / 32),
        Reason.SOFTMAX_AXIS: pytest.approx(12 / 32),
    }
    assert list(found.barriers) == [Reason.GRAPH_OUTPUT, Reason.SOFTMAX_AXIS]
    assert (found.prunable, found.smallest) == (0, 1)


def test_channels_of_one_axis_count_for_their_own_reasons() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "conv.weight", 8)
    left, right = b.split(x, 1, [2, 6])
    b.output(left)
    y = b.add("Softmax", [right], axis=1)
    b.output(b.axes("ReduceSum", y, [1], (1, 1, 2, 2)))
    found = coverage(graph(b.model()))
    assert found.resources["flops"].barriers == {
        Reason.SOFTMAX_AXIS: pytest.approx(6 / 8),
        Reason.GRAPH_OUTPUT: pytest.approx(2 / 8),
    }
    assert found.examples[Reason.SOFTMAX_AXIS] == ("conv.weight", 0)


def test_a_product_of_activations_goes_to_the_axes_that_weights_make() -> None:
    b = Builder(0, 17, batch=1)
    x = b.input(1, 6, 3)
    q = b.add("MatMul", [x, weight(b, "q", 3, 4)], (1, 6, 4))
    b.output(b.add("MatMul", [q, b.transpose(q, 0, 2, 1)], (1, 6, 6)))
    b.output(q)
    found = coverage(graph(b.model())).resources["flops"]
    assert found.dense == 6 * 3 * 4 + 6 * 6 * 4
    assert found.barriers == {Reason.GRAPH_OUTPUT: pytest.approx(1)}


def test_what_meets_an_input_of_the_model_is_told_from_other_fixed_axes() -> None:
    b = Builder(0, 17, batch=1)
    x = b.input(1, 3, 2, 2)
    b.output(b.axes("ReduceSum", b.add("Add", [x, conv(b, x, "w", 3)]), [1], (1, 1, 2, 2)))
    assert coverage(graph(b.model())).resources["flops"].barriers == {Reason.GRAPH_INPUT: 1}


def test_what_an_unknown_operator_makes_holds_what_meets_it() -> None:
    b = Builder(0, 17, batch=1)
    x = b.input(1, 3, 2, 2)
    made = conv(b, x, "w", 4)
    met = b.add("Add", [b.add("Celu", [made]), conv(b, x, "v", 4)])
    b.output(b.axes("ReduceSum", met, [1], (1, 1, 2, 2)))
    case = analyse(b.model())
    fewer = {op: rule for op, rule in RULES.items() if op != "Celu"}
    found = coverage(interpret(case.model, case.facts, fewer))
    assert found.resources["flops"].barriers == {Reason.UNKNOWN_OP: 1}


def test_channels_that_only_leave_together_are_the_last_group() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "w", 4)
    rolled = b.add("Gather", [x, b.ints([1, 2, 3, 0])], axis=1)
    b.output(b.axes("ReduceSum", b.add("Add", [x, rolled]), [1], (1, 1, 2, 2)))
    assert coverage(graph(b.model())).resources["flops"].barriers == {Reason.LAST_GROUP: 1}


@pytest.mark.parametrize("seed", range(12))
def test_barriers_sum_to_the_frozen_share(seed: int) -> None:
    case = graph(random_graph(seed))
    for name, found in coverage(case).resources.items():
        frozen = case.costs[name]([0] * len(case.edges)) / max(found.dense, 1)
        assert sum(found.barriers.values()) == pytest.approx(frozen, abs=1e-12)
        assert found.prunable == pytest.approx(1 - frozen)


@pytest.mark.parametrize("seed", range(6))
def test_every_label_that_stays_has_a_barrier(seed: int) -> None:
    trace = graph(random_graph(seed)).trace
    found = nearest_barriers(trace)
    assert ((found.codes >= 0) == (trace.groups < 0)).all()
    for first in np.flatnonzero(found.before >= 0)[:50].tolist():
        label, steps = first, 0
        while label:
            tie = trace.ties[found.ties[label]]
            ends = {*tie.left.tolist(), *tie.right.tolist()}
            assert {label, int(found.before[label])} <= ends
            label, steps = int(found.before[label]), steps + 1
            assert steps < 1000


def test_the_nearest_of_two_freezes_gives_the_reason() -> None:
    b = Builder(0, 17, batch=1)
    near = conv(b, b.input(1, 3, 2, 2), "near", 4)
    soft = b.add("Softmax", [near], axis=1)
    far = conv(b, b.relu(near), "depth", 4, group=4)
    b.output(far)
    b.output(b.axes("ReduceSum", soft, [1], (1, 1, 2, 2)))
    case = graph(b.model())
    codes = nearest_barriers(case.trace).codes
    labels = case.trace.labels
    assert {REASONS[c] for c in codes[labels["near"][0]]} == {Reason.SOFTMAX_AXIS}
    assert {REASONS[c] for c in codes[labels["depth"][0]]} == {Reason.GRAPH_OUTPUT}


def test_a_model_that_costs_nothing_has_no_barriers() -> None:
    b = Builder(0, 17, batch=1)
    b.output(b.relu(b.input(1, 3, 2, 2)))
    found = coverage(graph(b.model())).resources["flops"]
    assert (found.dense, found.prunable, found.smallest, found.barriers) == (0, 0, 1, {})


def test_coverage_as_json_names_the_reasons() -> None:
    found = to_dict(coverage(graph(frozen_at_both_ends("Softmax", axis=1))))
    assert found["flops"]["barriers"]["graph-output"] == pytest.approx(20 / 32)


def test_coverage_of_a_hundred_thousand_labels_takes_a_third_of_a_second() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "first", 1000)
    for k in range(100):
        x = b.relu(conv(b, x, f"w{k}", 1000, group=1000))
    b.output(x)
    case = graph(b.model())
    assert len(case.trace.groups) > 100_000
    start = time.perf_counter()
    coverage(case)
    assert time.perf_counter() - start < 0.3


def test_every_reason_says_what_it_means_and_what_would_free_it() -> None:
    assert set(BARRIERS) == set(Reason)
    for reason in Reason:
        assert reason.meaning, reason
        assert reason.remedy, reason
        assert reason.value == reason.name.lower().replace("_", "-")
