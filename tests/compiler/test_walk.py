from __future__ import annotations

import pytest
from texts import written

from prunec.compiler import walk
from prunec.compiler.walk import needs_first
from prunec.frontends.onnx import load

NESTED = """
g (float[4] x, bool c, bool d) => (float[4] y) {
  h = Relu(x)
  z = If (c) <
    then_branch = then () => (float[4] o) <float[4] own = {1, 2, 3, 4}> {
      a = Add(h, own)
      o = If (d) <then_branch = t () => (float[4] p) { p = Neg(a) },
                  else_branch = e () => (float[4] p) { p = Abs(a) }>
    },
    else_branch = other () => (float[4] o) { o = Tanh(h) }
  >
  y = Exp(z)
}
"""


@pytest.fixture(scope="module")
def graph():
    return load(written(NESTED)).graph


def test_nodes_come_in_the_order_of_computing(graph) -> None:
    kinds = [node.op_type for node in walk.nodes(graph)]
    assert kinds[:1] == ["Relu"]
    assert kinds[-2:] == ["If", "Exp"]
    branches = " ".join(kinds[1:-2])
    assert "Add" in branches
    assert branches.index("Add") < branches.index("Neg") < branches.index("If")
    assert len(kinds) == len(list(graph.all_nodes())) == 8


def test_graphs_start_with_the_outermost(graph) -> None:
    found = [g.name for g in walk.graphs(graph)]
    assert found[0] == "g"
    assert sorted(found[1:]) == ["e", "other", "t", "then"]


def test_stored_tensors_of_bodies_are_found(graph) -> None:
    assert list(walk.initializers(graph)) == ["own"]


def test_a_node_that_goes_meanwhile_does_no_harm() -> None:
    own = load(written(NESTED)).graph
    for node in walk.nodes(own):
        if node.op_type == "Tanh":
            node.outputs[0].name = "changed"
            assert node.graph is not None
            assert node.graph[0] is node


def test_every_value_comes_once(graph) -> None:
    names = [value.name for value in walk.values(graph)]
    assert len(set(names)) == len(names)
    assert {"x", "c", "d", "h", "own", "a", "z", "y"} <= set(names)


def test_what_is_needed_comes_right_before_and_nothing_twice() -> None:
    needs = {"d": ["b", "c"], "b": ["a"], "c": ["a"], "a": []}
    assert needs_first("db", needs.__getitem__) == ["a", "b", "c", "d"]
    assert needs_first("cab", needs.__getitem__) == ["a", "c", "b"]
