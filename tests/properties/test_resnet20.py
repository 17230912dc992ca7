"""A trained network from outside, when it lies beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunec.compiler.freedom import Freedom
from prunec.runtime.subject import open_model

MODEL = Path(__file__).parents[2].parent / "shared" / "models" / "resnet20-cifar10.onnx"

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"needs {MODEL.name} in ../shared")


@pytest.fixture(scope="module")
def subject():
    return open_model(MODEL)


def test_every_operator_has_a_rule(subject) -> None:
    assert subject.graph.diagnostics == ()


def test_streams_and_inner_layers_are_the_hyperedges(subject) -> None:
    # A stream is continued by the next stage between zero channels at both ends (Slice + Pad):
    # the channels of those ends are hyperedges of their own.
    inner = {
        f"layer{stage}.{block}.conv1.weight:0": 8 * 2**stage
        for stage in (1, 2, 3)
        for block in range(3)
    }
    streams = {
        "conv1.weight:0": 16,
        "layer2.0.conv2.weight:0": 8,
        "layer2.0.conv2.weight:0@24": 8,
        "layer3.0.conv2.weight:0": 16,
        "layer3.0.conv2.weight:0@48": 16,
    }
    assert {e.name: e.size for e in subject.graph.edges} == inner | streams


def test_costs_are_those_of_the_dense_network(subject) -> None:
    graph = subject.graph
    assert graph.costs["flops"](graph.dense()) == 40_551_040


def test_decoupled_streams_have_the_published_variables() -> None:
    """The published form has 691 written and 336 read channels, the image's 3 among them.

    Where the shortcut is padded (16 and 32 channels) read and written are one variable.
    """
    graph = open_model(MODEL, freedom=Freedom(decouple=True)).graph
    assert graph.number_of_groups == 691 + 336 - 3 - 16 - 32
    assert len(graph.joins) == 9
    assert {join.owned for join in graph.joins} == {(True, False)}
