from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import chain, conv, joined, residual, weight
from onnx import numpy_helper
from properties.builder import Builder
from properties.oracle import analyse

from prunec.compiler.errors import ModelError, UsageError
from prunec.compiler.freedom import Freedom
from prunec.passes.pairwise.importance import NORMS, importance
from prunec.passes.pairwise.objectives import Pairwise


def stored(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}


def changed(model: onnx.ModelProto, name: str, array: np.ndarray) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    return model


def found(model: onnx.ModelProto, normalise: str = "none", **freedom: bool):
    subject = analyse(model, freedom=Freedom(**freedom)) if freedom else analyse(model)
    return subject.graph, importance(subject.model, subject.graph, normalise)


def value(got, graph, mask: np.ndarray) -> float:
    total = got.constant + got.linear[mask].sum()
    for block in got.blocks:
        rows, columns = (
            mask[graph.edges[e].first :][: graph.edges[e].size] for e in (block.rows, block.columns)
        )
        total += block.values[rows][:, columns].sum()
    return float(total)


def test_a_chain_has_pairs_between_its_layers_and_single_groups_at_its_ends() -> None:
    w = stored(chain())
    graph, got = found(chain())
    sums = {name: np.abs(a).sum(tuple(range(2, a.ndim))) for name, a in w.items() if a.ndim > 1}
    (block,) = got.blocks
    assert [e.name for e in graph.edges] == ["conv1.weight:0", "conv2.weight:0"]
    np.testing.assert_allclose(block.values, sums["conv2.weight"].T)
    np.testing.assert_allclose(got.linear[:8], sums["conv1.weight"].sum(1))
    np.testing.assert_allclose(got.linear[8:], sums["fc.weight"].sum(0))


@pytest.mark.parametrize("net", [chain, residual, joined])
def test_everything_kept_is_worth_the_sum_of_the_matrices(net) -> None:
    made = {n: a for n, a in stored(net()).items() if a.ndim > 1}
    graph, got = found(net())
    whole = np.ones(graph.number_of_groups, bool)
    assert value(got, graph, whole) == pytest.approx(sum(np.abs(a).sum() for a in made.values()))


def test_a_weight_between_a_stream_and_itself_has_its_diagonal_alone() -> None:
    b = Builder(1, 17, batch=1)
    x = conv(b, b.input(1, 3, 4, 4), "stem.weight", 4)
    x = b.add("Add", [x, conv(b, x, "own.weight", 4)])
    b.output(conv(b, b.relu(x), "head.weight", 2))
    model = b.model()
    own = np.abs(stored(model)["own.weight"])[:, :, 0, 0]
    graph, got = found(model)
    (block,) = got.blocks
    assert block.rows == block.columns == 0
    np.testing.assert_allclose(block.values + np.diag(own.diagonal()), own)
    mask = np.array([True, False, True, True])
    kept = stored(model)
    expected = np.abs(kept["stem.weight"])[mask].sum() + np.abs(kept["head.weight"])[:, mask].sum()
    assert value(got, graph, mask) == pytest.approx(expected + own[np.ix_(mask, mask)].sum())


def test_depthwise_weights_count_once_per_channel() -> None:
    w = stored(residual())
    graph, got = found(residual())
    rest, _ = found(changed(residual(), "depth.weight", np.zeros(w["depth.weight"].shape)))[::-1]
    stream = graph.edge("stem.weight:0")
    share = (got.linear - rest.linear)[stream.first : stream.first + stream.size]
    np.testing.assert_allclose(share, np.abs(w["depth.weight"]).sum((1, 2, 3)), rtol=1e-6)


def test_channels_of_a_flattened_map_are_summed_per_group() -> None:
    b = Builder(3, 17, batch=1)
    x = conv(b, b.input(1, 3, 2, 2), "conv.weight", 5)
    x = b.add("Flatten", [b.relu(x)], (1, 20))
    b.output(b.add("Gemm", [x, weight(b, "fc.weight", 3, 20)], (1, 3), transB=1))
    w = stored(b.model())
    _, got = found(b.model())
    per_channel = np.abs(w["fc.weight"]).reshape(3, 5, 4).sum((0, 2))
    np.testing.assert_allclose(
        got.linear, np.abs(w["conv.weight"]).sum((1, 2, 3)) + per_channel, rtol=1e-6
    )


def test_frobenius_divides_every_weight_by_the_norm_of_its_sums() -> None:
    w = stored(chain())
    sums = np.abs(w["conv2.weight"]).sum((2, 3))
    _, got = found(chain(), "frobenius")
    np.testing.assert_allclose(got.blocks[0].values, (sums / np.linalg.norm(sums)).T, rtol=1e-6)


def test_a_factor_on_a_weight_changes_nothing_where_it_is_normalised() -> None:
    w = stored(chain())["conv2.weight"]
    for norm in ("frobenius", "sum"):
        _, one = found(chain(), norm)
        _, other = found(changed(chain(), "conv2.weight", w * 7), norm)
        np.testing.assert_allclose(one.blocks[0].values, other.blocks[0].values, rtol=1e-6)
        np.testing.assert_allclose(one.linear, other.linear, rtol=1e-6)


def test_hyperedges_with_several_weights_between_them_share_one_norm() -> None:
    graph, got = found(residual(), "hyperedge")
    for block in got.blocks:
        assert np.linalg.norm(block.values) == pytest.approx(1, rel=1e-6)
    assert len(graph.edges) == 2


def test_nan_is_worth_nothing_and_infinity_is_refused() -> None:
    w = stored(chain())["conv2.weight"].copy()
    w[0, 0] = np.nan
    _, got = found(changed(chain(), "conv2.weight", w))
    assert got.blocks[0].values[0, 0] == 0.0
    assert np.isfinite(got.blocks[0].values).all()
    w[0, 0] = np.inf
    with pytest.raises(ModelError, match=r"conv2\.weight holds infinite"):
        found(changed(chain(), "conv2.weight", w))


def test_rows_of_kernels_are_refused() -> None:
    with pytest.raises(UsageError, match="rows and columns of kernels"):
        found(chain(), "frobenius", kernels=True)


def test_norms_are_named() -> None:
    assert {Pairwise(n).normalise for n in NORMS} == set(NORMS)
    with pytest.raises(UsageError, match="did you mean 'frobenius'"):
        Pairwise("frobenus")
