"""Relabelling hyperedges: what may move, and where it goes."""

from __future__ import annotations

import numpy as np
import pytest
from convnets import Net

from prunec.compiler.hypergraph import KEPT
from prunec.frontends.onnx import to_proto
from prunec.passes.regroup.permute import movable, natural_order, permute, sources
from prunec.runtime.session import make_session
from prunec.runtime.subject import Subject

pytest.importorskip("onnxruntime")


def difference(subject: Subject, order: np.ndarray) -> float:
    """Largest difference of outputs when the channels stand in this order, of the largest."""
    shape = subject.facts.shapes["x"]
    feeds = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    models = subject.model, permute(subject.model, subject.graph, order)
    (a,), (b,) = (
        make_session(to_proto(m).SerializeToString(), optimise=False).run(feeds) for m in models
    )
    return float(np.abs(a - b).max() / np.abs(a).max())


def reversed_order(subject: Subject) -> np.ndarray:
    return np.concatenate([e.first + np.arange(e.size)[::-1] for e in subject.graph.edges])


def halves_added(picked: tuple[int, ...]) -> Subject:
    """Channels k and k + 2 are tied by an addition, and all are read in another sequence too."""
    net = Net(3)
    x = net.conv("x", 4)
    first, second = (
        net.add("Slice", x, *bounds, channels=2)
        for bounds in (
            (net.whole(0), net.whole(2), net.whole(1)),
            (net.whole(2), net.whole(4), net.whole(1)),
        )
    )
    mixed = net.add("Gather", x, net.whole(*picked), axis=1)
    both = net.add("Concat", net.add("Add", first, second), mixed, channels=6, axis=1)
    return net.subject(net.head(both))


def test_channels_that_are_built_alike_may_move() -> None:
    subject = halves_added((2, 3, 0, 1))
    assert [e.size for e in subject.graph.edges] == [2]
    assert movable(subject.graph).all()
    assert difference(subject, reversed_order(subject)) < 1e-5


def test_crossed_pairs_may_not() -> None:
    """What leaves together is the same, but the second of one pair stands for the first."""
    subject = halves_added((0, 3, 2, 1))
    assert [e.size for e in subject.graph.edges] == [2]
    assert not movable(subject.graph).any()
    assert difference(subject, reversed_order(subject)) > 1e-2


def test_frozen_positions_and_several_of_one_group() -> None:
    groups = np.array([3, KEPT, 5, 3, 5, 4, 4])
    order = np.array([0, 1, 2, 4, 5, 3])
    assert sources(groups, order).tolist() == [5, 1, 0, 6, 3, 2, 4]


def test_only_stored_tensors_change() -> None:
    net = Net(3)
    subject = net.subject(net.head(net.block(net.block("x", 8), 8)))
    moved = permute(subject.model, subject.graph, reversed_order(subject))
    assert [(n.name, n.op_type) for n in moved.graph] == [
        (n.name, n.op_type) for n in subject.model.graph
    ]
    before, after = (m.graph.initializers["w0"].const_value for m in (subject.model, moved))
    assert before is not None
    assert after is not None
    assert np.array_equal(after.numpy(), before.numpy()[::-1])


def test_the_natural_order_changes_nothing() -> None:
    subject = halves_added((0, 1, 2, 3))
    assert difference(subject, natural_order(subject.graph)) == 0.0
