"""Kernel positions per filter: what is zeroed, what is counted, what is written."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from nets import chain, conv, residual
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.errors import PlanError, UsageError
from prunec.compiler.problem import Limit
from prunec.compiler.ranges import positions
from prunec.compiler.walk import initializers
from prunec.passes.positions import _knapsack, effective, layers, thin, with_zeros


def kernels():
    """Two convolutions with 3 x 3 kernels; the second reads the first."""
    b = Builder(1, 17, batch=1)
    x = b.relu(conv(b, b.input(1, 3, 4, 4), "first.weight", 6, 3))
    b.output(conv(b, x, "second.weight", 4, 3))
    case = analyse(b.model())
    mask = np.ones(case.graph.number_of_groups + 1, bool)
    mask[1] = False
    return case, mask


def stored(model: ir.Model, name: str) -> np.ndarray:
    tensor = initializers(model.graph)[name].const_value
    assert tensor is not None
    return tensor.numpy()


def test_layers_are_convolutions_of_more_than_one_position() -> None:
    case = analyse(chain())
    mask = np.ones(case.graph.number_of_groups + 1, bool)
    (layer,) = layers(case.model, case.facts, case.graph, mask)
    assert layer.weight == "conv1.weight"
    assert layer.kernel == (3, 3)
    case = analyse(residual())
    mask = np.ones(case.graph.number_of_groups + 1, bool)
    names = {x.weight for x in layers(case.model, case.facts, case.graph, mask)}
    assert names == {"block.a.weight", "depth.weight"}


def test_layers_of_a_branch_that_vanishes_are_none() -> None:
    case = analyse(residual())
    mask = np.ones(case.graph.number_of_groups + 1, bool)
    ((closed,),) = case.graph.branches
    edge = case.graph.edges[closed]
    mask[edge.first : edge.first + edge.size] = False
    names = [x.weight for x in layers(case.model, case.facts, case.graph, mask)]
    assert names == ["depth.weight"]


def test_what_a_position_saves_counts_kept_inputs_and_outputs() -> None:
    case, mask = kernels()
    first, second = layers(case.model, case.facts, case.graph, mask)
    outputs = first.outputs
    assert first.saves == {"flops": 3 * outputs, "params": 3}
    assert second.saves == {"flops": 5 * second.outputs, "params": 5}
    assert first.filters.sum() == 5


@pytest.mark.parametrize("resources", [("flops",), ("params",), ("flops", "params")])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_the_limits_hold_and_every_filter_keeps_its_best_position(
    resources: tuple[str, ...], share: float
) -> None:
    case, mask = kernels()
    counts = [int(mask[e.first : e.first + e.size].sum()) for e in case.graph.edges]
    limits = tuple(Limit(r, int(share * case.graph.costs[r](counts))) for r in resources)
    zeroed = thin(case.model, case.facts, case.graph, mask, limits)
    costs = effective(case.model, case.facts, case.graph, mask, zeroed)
    for limit in limits:
        assert costs[limit.resource] <= limit.at_most
        assert costs[limit.resource] > 0.9 * limit.at_most
    thinned = with_zeros(case.model, zeroed)
    for layer in layers(case.model, case.facts, case.graph, mask):
        dense, after = (stored(m, layer.weight) for m in (case.model, thinned))
        worth = np.abs(dense[:, layer.inputs]).sum(1).reshape(len(dense), -1)
        gone = ~after.any(axis=1).reshape(len(dense), -1)
        assert not gone[~layer.filters].any()
        best = worth.argmax(axis=1)
        assert not gone[np.arange(len(dense)), best].any()
        np.testing.assert_array_equal(after[after != 0], dense[after != 0])


def test_the_recorded_positions_are_those_that_are_zero() -> None:
    case, mask = kernels()
    dense = stored(case.model, "second.weight").copy()
    zeroed = {"second.weight": {"0,4-5": "1,3"}}
    after = stored(with_zeros(case.model, zeroed), "second.weight").reshape(4, 6, 9)
    gone = np.zeros((4, 9), bool)
    gone[np.ix_([1, 3], [0, 4, 5])] = True
    assert (after.transpose(0, 2, 1)[gone] == 0).all()
    np.testing.assert_array_equal(
        after.transpose(0, 2, 1)[~gone], dense.reshape(4, 6, 9).transpose(0, 2, 1)[~gone]
    )
    np.testing.assert_array_equal(stored(case.model, "second.weight"), dense)
    counts = [int(mask[e.first : e.first + e.size].sum()) for e in case.graph.edges]
    whole = case.graph.costs["params"](counts)
    assert effective(case.model, case.facts, case.graph, mask, zeroed)["params"] == whole - 6 * 5


def test_nothing_is_zeroed_within_the_limits() -> None:
    case, mask = kernels()
    everything = case.graph.costs["flops"](case.graph.dense())
    assert thin(case.model, case.facts, case.graph, mask, (Limit("flops", everything),)) == {}
    assert with_zeros(case.model, {}) is case.model


def test_what_one_position_per_filter_can_not_meet_is_refused() -> None:
    case, mask = kernels()
    with pytest.raises(UsageError, match="larger --gamma"):
        thin(case.model, case.facts, case.graph, mask, (Limit("flops", 10),))


def test_the_knapsack_is_near_the_optimum() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        worth, saved = rng.uniform(1, 9, 10), rng.integers(1, 6, 10).astype(float)
        need = {"flops": int(saved.sum() // 2)}
        gone = _knapsack(worth, np.zeros(10, bool), {"flops": saved}, need)
        assert saved[gone].sum() >= need["flops"]
        least = min(
            worth[list(c)].sum()
            for k in range(11)
            for c in itertools.combinations(range(10), k)
            if saved[list(c)].sum() >= need["flops"]
        )
        assert worth[gone].sum() <= least + 1.5 * worth.max()


@pytest.mark.parametrize(
    ("zeroed", "said"),
    [
        ({"nobody": {"0": "0"}}, "no stored weight of a convolution"),
        ({"second.weight": {"9": "0"}}, "outside"),
        ({"second.weight": {"0": "4"}}, "outside"),
        ({"second.weight": {"": "0"}}, "outside"),
        ({"second.weight": {"x": "0"}}, "not a position"),
        ({"first.weight": {"0": "1"}}, "removed"),
    ],
)
def test_positions_that_can_not_be_zeroed_are_refused(zeroed, said: str) -> None:
    case, mask = kernels()
    with pytest.raises(PlanError, match=said):
        effective(case.model, case.facts, case.graph, mask, zeroed)


def test_texts_are_ranges() -> None:
    assert positions("0,4-5") == (0, 4, 5)
