"""What is detected in random graphs with zeros leaves, or falls into groups, without loss."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from properties.builder import feeds
from properties.graphs import BLOCKS, one_block, random_graph
from properties.oracle import Case, analyse

from prunec.compiler.freedom import Freedom
from prunec.frontends.onnx import to_proto
from prunec.passes.apply import prune
from prunec.passes.regroup.dead import live_groups
from prunec.passes.regroup.detect import detected
from prunec.passes.regroup.rewrite import regroup
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")
ROUNDING = 1e-5


def with_zeros(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Random rows, columns and blocks of stored floats are zeroed."""
    rng = np.random.default_rng(seed)
    scales = {name for node in proto.graph.node if node.op_type == "Resize" for name in node.input}
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if array.dtype != np.float32 or not array.ndim or tensor.name in scales:
            continue
        if array.ndim > 2 and min(array.shape[:2]) % 2 == 0 and rng.random() < 0.5:
            rows, columns = (rng.permutation(n) % 2 for n in array.shape[:2])
            array[rows[:, None] != columns[None, :]] = 0
        for axis, size in enumerate(array.shape[:2]):
            if size > 2:
                gone = [slice(None)] * axis + [rng.random(size) < 0.4]
                array[tuple(gone)] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return proto


def outputs(subject: Case, model: object, seed: int) -> list[np.ndarray]:
    session = make_session(to_proto(model).SerializeToString(), optimise=False)
    return session.run(feeds(subject.proto, seed))


def require_equal(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    for x, y in zip(a, b, strict=True):
        largest = float(np.abs(x[np.isfinite(x)]).max(initial=1.0))
        assert np.allclose(x, y, atol=ROUNDING * largest, equal_nan=True)


def check(proto: onnx.ModelProto, seed: int) -> tuple[int, int]:
    """How many groups left, and how many convolutions were grouped."""
    subject = analyse(with_zeros(proto, seed))
    mask = live_groups(subject.model, subject.facts, subject.graph)
    whole = outputs(subject, subject.model, seed)
    slim = prune(subject.model, subject.facts, subject.graph, mask)
    require_equal(whole, outputs(subject, slim, seed))
    free = analyse(proto, Freedom(residual=True))
    blocks = detected(free.model, free.facts, free.graph)
    grouped = regroup(free.model, free.facts, free.graph, blocks)
    require_equal(whole, outputs(subject, grouped.model, seed))
    return int((~mask).sum()), len(blocks)


@pytest.mark.parametrize("first", range(0, 30, 15))
def test_detection_loses_nothing_on_random_graphs(first: int) -> None:
    left, grouped = zip(*(check(random_graph(s), s) for s in range(first, first + 15)), strict=True)
    assert sum(left) > 10
    assert sum(grouped) > 3


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_detection_loses_nothing_around_one_block(name: str) -> None:
    for seed in range(100, 101):
        check(one_block(name, seed), seed)
