"""Criteria that read weights alone: magnitude, bn_scale, random."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from nets import chain, residual
from onnx import numpy_helper
from properties.oracle import analyse

from prunec.compiler.errors import ModelError, UsageError
from prunec.compiler.spec import parse, render
from prunec.passes.criteria import CRITERIA
from prunec.passes.criteria.bn_scale import BnScale
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.criteria.random import Random


def scores(criterion, model: onnx.ModelProto) -> np.ndarray:
    subject = analyse(model)
    return criterion(subject.model, subject.graph, None)


def with_weight(model: onnx.ModelProto, name: str, array: np.ndarray) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    return model


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}


@pytest.mark.parametrize("p", [1, 2])
def test_magnitude_sums_over_all_members_of_a_group(p: int) -> None:
    w = weights(chain())
    total = (np.abs(w["conv1.weight"]) ** p).sum((1, 2, 3))
    total += np.abs(w["bn.weight"]) ** p + np.abs(w["bn.bias"]) ** p
    total += (np.abs(w["conv2.weight"]) ** p).sum((0, 2, 3))
    got = scores(Magnitude(p=p), chain())[:8]
    np.testing.assert_allclose(got, total ** (1 / p), rtol=1e-6)


def test_magnitude_takes_shares_of_every_weight() -> None:
    w = weights(chain())
    first, second = w["conv1.weight"] ** 2, w["conv2.weight"] ** 2
    want = first.sum((1, 2, 3)) / first.sum() + second.sum((0, 2, 3)) / second.sum()
    np.testing.assert_allclose(scores(Magnitude(normalise="tensor"), chain())[:8], want, rtol=1e-6)


def test_an_unknown_scale_gets_the_nearest_match() -> None:
    with pytest.raises(UsageError, match="did you mean 'tensor'"):
        Magnitude(normalise="tensors")


def test_running_statistics_have_no_magnitude() -> None:
    huge = with_weight(chain(), "bn.mean", np.arange(8) * 1e3)
    np.testing.assert_array_equal(scores(Magnitude(), huge), scores(Magnitude(), chain()))


def test_magnitude_of_another_order_is_refused() -> None:
    with pytest.raises(UsageError, match="p must be 1 or 2"):
        scores(Magnitude(p=3), chain())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    model = with_weight(chain(), "conv2.weight", np.full((6, 8, 1, 1), bad))
    with pytest.raises(ModelError, match=r"conv2\.weight"):
        scores(Magnitude(), model)


def test_bn_scale_is_the_absolute_gamma() -> None:
    model = with_weight(chain(), "bn.weight", np.array([1, -2, 3, -4, 5, -6, 7, -8]))
    got = scores(BnScale(), model)
    np.testing.assert_array_equal(got[:8], [1, 2, 3, 4, 5, 6, 7, 8])


def test_hyperedges_without_a_norm_score_one() -> None:
    np.testing.assert_array_equal(scores(BnScale(), chain())[8:], np.ones(6))


def test_bn_scale_needs_a_norm() -> None:
    with pytest.raises(UsageError, match="no normalisation over a removable axis"):
        scores(BnScale(), residual())


def test_random_scores_follow_their_seed() -> None:
    a, b = scores(Random(seed=3), chain()), scores(Random(seed=3), chain())
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, scores(Random(seed=4), chain()))


@pytest.mark.parametrize(
    "text", ["magnitude{p=1}", "magnitude{normalise=tensor}", "random{seed=7}"]
)
def test_their_text_form_is_read_back(text: str) -> None:
    assert render(parse(text, CRITERIA, "criterion")) == text


@pytest.mark.parametrize("name", ["magnitude", "bn_scale", "random"])
def test_scores_are_finite_and_not_negative(name: str) -> None:
    got = scores(CRITERIA[name](), chain())
    assert got.dtype == np.float64
    assert np.isfinite(got).all()
    assert (got >= 0).all()
