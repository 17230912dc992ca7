from __future__ import annotations

from texts import written

from prunec.compiler.walk import nodes, values
from prunec.frontends.onnx import load

TWINS = """
g (float[4] x, bool c) => (float[4] y) {
  z = If (c) <then_branch = t () => (float[4] o) <float[4] w = {1, 2, 3, 4}> {
                a = Relu(x) o = Add(a, w) },
              else_branch = e () => (float[4] o) <float[4] w = {4, 3, 2, 1}> {
                a = Neg(x) o = Add(a, w) }>
  y = Exp(z)
}
"""


def test_values_of_two_branches_get_names_of_their_own() -> None:
    graph = load(written(TWINS)).graph
    found = [value.name for value in values(graph)]
    assert len(set(found)) == len(found)
    assert {"x", "c", "z", "y", "a", "o", "w"} <= set(found)


def test_the_same_names_every_time() -> None:
    first, second = (load(written(TWINS)).graph for _ in range(2))
    assert [v.name for v in values(first)] == [v.name for v in values(second)]


def test_nodes_of_two_branches_get_names_of_their_own() -> None:
    model = written(TWINS)
    for attribute in model.graph.node[0].attribute:
        for node in attribute.g.node:
            node.name = "same"
    found = [node.name for node in nodes(load(model).graph)]
    assert len(set(found)) == len(found)
