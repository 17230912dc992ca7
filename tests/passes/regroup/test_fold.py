"""Orders of channels that make blocks contiguous, and the Gathers that are left."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from convnets import Net

from prunec.compiler.constants import attribute
from prunec.compiler.errors import PlanError
from prunec.compiler.partition import Partition
from prunec.frontends.onnx import to_proto
from prunec.passes.regroup.mask import masked
from prunec.passes.regroup.permute import sources
from prunec.passes.regroup.rewrite import Regrouped, regroup
from prunec.passes.regroup.sites import group_sites
from prunec.runtime.session import make_session
from prunec.runtime.subject import Subject

pytest.importorskip("onnxruntime")
ROUNDING = 1e-5  # of the largest output: G3 of SEEDS.md 2.5


Groups = int | Mapping[str, int]


def contiguous(subject: Subject, groups: Groups, seed: int = 0) -> dict[str, Partition]:
    """Blocks that lie side by side in a random order of the channels; numbered at random."""
    rng = np.random.default_rng(seed)
    graph = subject.graph
    order = np.concatenate(
        [e.first + rng.permutation(e.size) for e in graph.edges] or [np.zeros(0, np.int64)]
    )
    out = {}
    for site in group_sites(subject.model, subject.facts, graph):
        g = groups if isinstance(groups, int) else groups.get(site.weight, 1)
        if g == 1 or any(n % g for n in site.shape[:2]):
            continue
        sides = []
        for own in (site.outputs, site.inputs):
            ids = np.empty(len(own), np.int64)
            ids[sources(own, order)] = np.arange(len(own)) // (len(own) // g)
            sides.append(ids)
        number = rng.permutation(g)
        out[site.weight] = Partition.of(number[sides[0]], number[sides[1]])
    return out


def scattered(subject: Subject, groups: int, seed: int = 0) -> dict[str, Partition]:
    """Blocks of every convolution at random."""
    rng = np.random.default_rng(seed)
    return {
        site.weight: Partition.of(*(rng.permutation(np.arange(n) % groups) for n in site.shape[:2]))
        for site in group_sites(subject.model, subject.facts, subject.graph)
        if not any(n % groups for n in site.shape[:2])
    }


def regrouped(subject: Subject, blocks: Mapping[str, Partition], folded: bool = True) -> Regrouped:
    """The grouped model, which computes what the masked one does."""
    assert blocks
    found = regroup(subject.model, subject.facts, subject.graph, blocks, folded=folded)
    dense = masked(subject.model, blocks)
    shape = subject.facts.shapes["x"]
    feeds = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    first, second = (
        make_session(to_proto(m).SerializeToString(), optimise=False).run(feeds)
        for m in (dense, found.model)
    )
    for a, b in zip(first, second, strict=True):
        assert np.abs(a - b).max() < ROUNDING * np.abs(a).max()
    grouped = sorted(attribute(n, "group", 1) for n in found.model.graph if n.op_type == "Conv")
    assert [g for g in grouped if g > 1] == sorted(p.groups for p in blocks.values())
    assert [n.name for n in found.model.graph if n.op_type == "Gather"] == list(found.gathers)
    return found


def test_masked_equals_gather_conv_gather() -> None:
    """G3 of SEEDS.md 2.5: the published form, two Gathers around every convolution."""
    net = Net(8)
    subject = net.subject(net.head(net.block(net.block("x", 16), 8)))
    assert len(regrouped(subject, scattered(subject, 4), folded=False).gathers) == 4


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_a_chain_needs_no_gather(groups: int) -> None:
    net = Net(3)
    x = net.block("x", 16)
    for filters in (16, 32, 16):
        x = net.add("MaxPool", net.block(x, filters), kernel_shape=[2, 2])
    subject = net.subject(net.head(x))
    assert regrouped(subject, contiguous(subject, groups)).gathers == ()


def test_equal_blocks_of_two_weights_are_enough() -> None:
    """Blocks at random, but the second convolution reads what the first writes."""
    net = Net(3)
    subject = net.subject(net.head(net.block(net.block(net.block("x", 16), 16), 16)))
    first, second = scattered(subject, 4).values()
    names = list(scattered(subject, 4))
    number = np.array([2, 0, 3, 1])
    fitting = Partition.of(second.outputs, number[np.array(first.outputs)])
    assert regrouped(subject, {names[0]: first, names[1]: fitting}).gathers == ()


def test_contradicting_blocks_need_one_gather() -> None:
    net = Net(3)
    subject = net.subject(net.head(net.block(net.block(net.block("x", 16), 16), 16)))
    assert len(regrouped(subject, scattered(subject, 4)).gathers) == 1


def test_nested_blocks_agree() -> None:
    """Two blocks that are each two of the four of the next convolution."""
    net = Net(3)
    x = net.block("x", 16)
    for _ in range(4):
        x = net.block(x, 16)
    subject = net.subject(net.head(x))
    weights = [s.weight for s in group_sites(subject.model, subject.facts, subject.graph)]
    numbers = dict(zip(weights[1:], (2, 4, 8, 2), strict=True))
    for seed in range(4):
        assert regrouped(subject, contiguous(subject, numbers, seed)).gathers == ()


def test_residual_streams_have_one_order() -> None:
    net = Net(3)
    x = net.block("x", 16)
    for _ in range(3):
        inner = net.block(net.block(x, 8, kernel=1), 8)
        x = net.add("Relu", net.add("Add", x, net.norm(net.conv(inner, 16, kernel=1))))
    subject = net.subject(net.head(x))
    assert regrouped(subject, contiguous(subject, 4)).gathers == ()
    # The stream serves one of six ends, every inner hyperedge one of two.
    assert len(regrouped(subject, scattered(subject, 4)).gathers) == 5 + 6


def test_concatenation_passes_orders_through() -> None:
    net = Net(3)
    x = net.block("x", 8)
    for _ in range(3):
        x = net.add("Concat", x, net.block(x, 8), channels=net.channels[x] + 8, axis=1)
    subject = net.subject(net.head(x))
    for seed in range(4):
        assert regrouped(subject, contiguous(subject, 4, seed)).gathers == ()


def test_an_input_cannot_move() -> None:
    """Two convolutions that read the same scattered blocks of it share a Gather."""
    net = Net(8)
    x = net.add("Add", net.conv("x", 8), net.conv("x", 8))
    subject = net.subject(net.head(x))
    ids = np.arange(8) % 2
    blocks = {w: Partition.of(ids, ids) for w in scattered(subject, 2)}
    assert len(regrouped(subject, blocks).gathers) == 1
    still = {w: Partition.of(ids, np.sort(ids)) for w in blocks}
    assert regrouped(subject, still).gathers == ()


def test_gathers_that_meet_are_one() -> None:
    """An output has to be in order; the next convolution reads the blocks as they were written."""
    net = Net(3)
    middle = net.conv(net.block("x", 8), 8)
    subject = net.subject(middle, net.head(net.conv(middle, 8)))
    ids = np.arange(8) % 4
    names = list(scattered(subject, 4))
    blocks = {w: Partition.of(ids, ids) for w in names}
    found = regrouped(subject, blocks)
    assert found.gathers == (found.model.graph.outputs[0].producer().name,)
    other = {**blocks, names[1]: Partition.of(ids, np.arange(8) // 2)}
    assert len(regrouped(subject, other).gathers) == 1


def test_depthwise_is_the_finest() -> None:
    net = Net(3)
    subject = net.subject(net.head(net.block(net.block("x", 8), 8)))
    found = regrouped(subject, scattered(subject, 8))
    assert found.gathers == ()


def test_a_bias_that_two_read_is_copied() -> None:
    net = Net(8)
    first = net.conv("x", 8)
    w = net.store(net.rng.standard_normal((8, 8, 1, 1)))
    second = net.add("Conv", "x", w, net.nodes[0].input[2])
    subject = net.subject(net.add("Concat", first, second, channels=16, axis=1))
    regrouped(subject, scattered(subject, 2))


def test_blocks_that_fit_no_convolution_are_refused() -> None:
    net = Net(8)
    subject = net.subject(net.head(net.conv("x", 8)))
    ids = np.arange(8) % 2
    for name, wrong in (
        ("w9", Partition.of(ids, ids)),
        ("w0", Partition.of(ids[:4], ids)),
        ("w0", Partition.of(np.where(np.arange(8) < 2, -1, ids), ids)),
    ):
        with pytest.raises(PlanError, match=name):
            regroup(subject.model, subject.facts, subject.graph, {name: wrong})


def test_constant_nodes_hold_weights_too() -> None:
    net = Net(3)
    x = net.block("x", 8)
    shift = net.add("Constant", value_floats=net.rng.standard_normal(8).tolist(), channels=8)
    w = net.add("Constant", value=net.tensor(net.rng.standard_normal((8, 8, 1, 1))), channels=8)
    subject = net.subject(net.head(net.add("Conv", x, w, shift, channels=8)))
    blocks = scattered(subject, 2)
    assert list(blocks) == [w]
    regrouped(subject, blocks)
