"""What changed outputs have lost."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from prunec.runtime.output_loss import OutputLoss, distance, divergence


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_divergence_is_that_of_the_class_probabilities() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 4)) * 3, rng.normal(size=(5, 4)) * 3
    p, q = softmax(a), softmax(b)
    expected = (p * np.log(p / q)).sum(1).mean()
    assert divergence(a, b) == pytest.approx(expected)
    assert divergence(p, q, "Softmax") == pytest.approx(expected)
    assert divergence(np.log(p), np.log(q), "LogSoftmax") == pytest.approx(expected)
    assert divergence(a, a + 7) == pytest.approx(0, abs=1e-12)  # logits may move together


def test_distance_is_half_the_error_over_the_variance() -> None:
    y = np.array([[[1.0, 2.0], [0.0, 4.0]], [[3.0, 2.0], [0.0, 0.0]]])
    spread = 1 + 1 + 4 + 4  # about the mean over the two samples
    assert distance(y, y + 1) == pytest.approx(8 / (2 * spread))
    assert distance(np.ones((2, 3)), np.zeros((2, 3))) == 0


def test_outputs_are_judged_by_their_shape_and_maker(model: ir.Model) -> None:
    judge = OutputLoss(model)
    assert judge.outputs == ("logits",)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 6)), rng.normal(size=(5, 6))
    assert judge({"logits": a}, {"logits": b}) == pytest.approx(divergence(a, b))
    maps = rng.normal(size=(2, 5, 3, 3)), rng.normal(size=(2, 5, 3, 3))
    assert judge({"logits": maps[0]}, {"logits": maps[1]}) == pytest.approx(distance(*maps))
    assert judge({"logits": a}, {"logits": np.full((5, 6), np.nan)}) == np.inf
    assert judge({"logits": a}, {}) == 0  # an output that cannot change
