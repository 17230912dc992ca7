"""Blocks that are there already."""

from __future__ import annotations

import numpy as np
import pytest
from convnets import Net

from prunec.compiler.partition import Partition
from prunec.frontends.onnx import to_proto
from prunec.passes.regroup.detect import blocks_of_zeros, detected
from prunec.passes.regroup.rewrite import regroup
from prunec.runtime.session import make_session


def test_published_example() -> None:
    """G4 of SEEDS.md 2.5: even outputs read even inputs, odd ones odd ones."""
    pattern = np.zeros((8, 4), bool)
    pattern[::2, ::2] = pattern[1::2, 1::2] = True
    found = blocks_of_zeros(pattern)
    order_of_inputs = np.argsort(found.inputs, kind="stable")
    place_of_outputs = np.argsort(np.argsort(found.outputs, kind="stable"))
    assert found.groups == 2
    assert order_of_inputs.tolist() == [0, 2, 1, 3]
    assert place_of_outputs.tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6, 12])
def test_random_blocks_come_back(groups: int) -> None:
    rng = np.random.default_rng(groups)
    planted = Partition.of(
        rng.permutation(np.repeat(np.arange(groups), 24 // groups)),
        rng.permutation(np.repeat(np.arange(groups), 12 // groups)),
    )
    found = blocks_of_zeros(planted.mask())
    assert found.groups == groups
    assert (found.mask() == planted.mask()).all()


def test_components_of_different_sizes_share_blocks() -> None:
    """3 + 1 and 2 + 2 inputs make two blocks of 4; the greedy 3 + 2 would not fit."""
    pattern = np.zeros((8, 8), bool)
    for first, size in ((0, 3), (3, 1), (4, 2), (6, 2)):
        pattern[first : first + size, first : first + size] = True
    found = blocks_of_zeros(pattern)
    assert found.groups == 2
    assert not pattern[~found.mask()].any()


def test_a_dead_end_is_taken_back() -> None:
    """Two blocks of 10: 5 + 3 + 2 and 4 + 4 + 2. After 5 + 4 and 4 + 3 + 2 the last 2 fits not."""
    sizes, at = (5, 4, 4, 3, 2, 2), 0
    pattern = np.zeros((20, 20), bool)
    for size in sizes:
        pattern[at : at + size, at : at + size] = True
        at += size
    found = blocks_of_zeros(pattern)
    assert found.groups == 2
    assert not pattern[~found.mask()].any()


def test_empty_rows_and_columns_fill_blocks() -> None:
    pattern = np.zeros((4, 4), bool)
    pattern[0, 1] = pattern[2, 3] = True
    assert blocks_of_zeros(pattern).groups == 4
    assert not pattern[~blocks_of_zeros(pattern).mask()].any()


def test_a_dense_weight_is_one_block() -> None:
    assert blocks_of_zeros(np.ones((4, 4), bool)).groups == 1
    chained = np.eye(4, dtype=bool) | np.eye(4, k=1, dtype=bool)
    assert blocks_of_zeros(chained).groups == 1


def test_a_masked_residual_network_is_equal_on_integers() -> None:
    """The published pattern (G4) inside of it; sums of small integers are exact in any order."""
    draw, ids = np.random.default_rng(0), np.arange(8)
    net = Net(4)
    pattern = ids[:, None] % 2 == np.arange(4) % 2
    x = net.add("Conv", "x", masked_weight(net, draw, pattern), channels=8)
    for groups in (2, 4):
        own = draw.permutation(ids % groups)
        branch = net.add("Conv", x, masked_weight(net, draw, own[:, None] == own), channels=8)
        x = net.add("Relu", net.add("Add", x, branch))
    subject = net.subject(x)
    found = detected(subject.model, subject.facts, subject.graph)
    assert [p.groups for p in found.values()] == [2, 2, 4]
    made = regroup(subject.model, subject.facts, subject.graph, found).model
    feeds = {"x": draw.integers(-3, 4, (1, 4, 8, 8)).astype(np.float32)}
    before, after = (
        make_session(to_proto(m).SerializeToString()).run(feeds)[0] for m in (subject.model, made)
    )
    assert np.abs(before).max() > 0
    assert (before == after).all()


def masked_weight(net: Net, draw: np.random.Generator, pattern: np.ndarray) -> str:
    """Integers from 1 to 3 where the pattern is set."""
    return net.store((draw.integers(1, 4, pattern.shape) * pattern)[:, :, None, None])
