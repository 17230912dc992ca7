from __future__ import annotations

import networkx as nx
import numpy as np
import onnx
import pytest
from nets import chain, conv, joined, residual, weight
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.errors import UsageError
from prunec.compiler.hypergraph import Hypergraph, Member


def graph(model: onnx.ModelProto) -> Hypergraph:
    return analyse(model).graph


def sizes(model: onnx.ModelProto) -> dict[str, int]:
    return {e.name: e.size for e in graph(model).edges}


def test_hyperedges_are_named_after_their_first_weight_axis_in_graph_order() -> None:
    assert list(sizes(chain()).items()) == [("conv1.weight:0", 8), ("conv2.weight:0", 6)]


def test_a_residual_add_makes_one_hyperedge() -> None:
    assert sizes(residual()) == {"stem.weight:0": 8, "block.a.weight:0": 6}


def test_branches_of_a_concat_are_two_hyperedges() -> None:
    hypergraph = graph(joined())
    assert sizes(joined()) == {"left.weight:0": 4, "right.weight:0": 6}
    assert hypergraph.axes["head.weight", 1].tolist() == list(range(10))


def test_members_hold_activations_and_weights_with_multiplicities() -> None:
    (edge, _) = graph(residual()).edges
    assert Member("depth.weight", 0, 1, True) in edge.members
    assert Member("v0", 1, 1, False) in edge.members


def test_a_flattened_map_has_its_area_as_multiplicity() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "conv.weight", 4)
    x = b.add("Flatten", [x], (1, 16))
    b.output(b.add("Gemm", [x, weight(b, "fc.weight", 16, 5)], (1, 5)))
    (edge,) = graph(b.model()).edges
    assert Member("fc.weight", 0, 4, True) in edge.members


def test_groups_of_another_kind_on_one_axis_get_a_suffix() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "conv.weight", 6)
    first, second = b.split(x, 1, (2, 4))
    total = b.add("Concat", [first, conv(b, second, "next.weight", 3)], (1, 5, 2, 2), axis=1)
    b.output(conv(b, total, "head.weight", 3))
    assert list(sizes(b.model()).items()) == [
        ("conv.weight:0", 2),
        ("conv.weight:0@2", 4),
        ("next.weight:0", 3),
    ]


def test_the_only_channel_of_its_kind_stays() -> None:
    b = Builder(0, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "conv.weight", 5)
    first, second = b.split(x, 1, (1, 4))
    b.output(conv(b, first, "a.weight", 3))
    b.output(conv(b, second, "b.weight", 3))
    hypergraph = graph(b.model())
    assert [e.size for e in hypergraph.edges] == [4]
    assert hypergraph.axes["conv.weight", 0].tolist() == [-1, 0, 1, 2, 3]


def test_channels_that_leave_the_graph_stay() -> None:
    b = Builder(0, 17, batch=1)
    b.output(conv(b, b.input(1, 3, 2, 2), "conv.weight", 5))
    hypergraph = graph(b.model())
    assert hypergraph.edges == ()
    assert hypergraph.axes == {}


def test_costs_are_counts_of_the_dense_model() -> None:
    hypergraph = graph(chain())
    macs = 16 * 8 * 3 * 9 + 16 * 6 * 8 + 5 * 6
    # BatchNormalization scale and bias count, running statistics do not.
    params = 8 * 3 * 9 + 2 * 8 + 6 * 8 + 5 * 6 + 5
    dense = hypergraph.dense()
    assert {name: cost(dense) for name, cost in hypergraph.costs.items()} == {
        "flops": macs,
        "params": params,
        "bytes": 4 * params,
        # Convolution, norm and Relu twice, pool and Gemm; Flatten shows what is there.
        "activations": 3 * 16 * 8 + 2 * 16 * 6 + 6 + 5,
        # What the second convolution reads and writes; the norm and the Relus work in place.
        "memory": 4 * (16 * 8 + 16 * 6),
    }


def test_group_indices_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        graph(chain()).axes["conv1.weight", 0][0] = 1


def test_reads_are_the_summed_activation_axes() -> None:
    hypergraph = graph(chain())
    assert ("conv1.weight", 0) not in hypergraph.reads
    assert len(hypergraph.reads) == 2


def test_made_are_the_output_axes_of_contraction_weights() -> None:
    assert graph(chain()).made == (("conv1.weight", 0), ("conv2.weight", 0), ("fc.weight", 0))


def test_an_unknown_hyperedge_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'conv1\.weight:0'"):
        graph(chain()).edge("conv1.weigth:0")


def test_the_networkx_view_is_bipartite_without_a_node_per_channel() -> None:
    view = graph(residual()).to_networkx()
    assert nx.is_bipartite(view)
    assert view.nodes["stem.weight:0"] == {"kind": "edge", "bipartite": 0, "size": 8}
    assert view.edges["stem.weight:0", "axis depth.weight:0"] == {"multiplicity": 1}
    kinds = [data["kind"] for _, data in view.nodes(data=True)]
    assert kinds.count("edge") == 2


def test_edge_of_group_repeats_edges_by_size() -> None:
    assert np.array_equal(graph(chain()).edge_of_group(), np.repeat([0, 1], [8, 6]))
