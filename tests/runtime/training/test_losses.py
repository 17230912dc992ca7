"""Losses against their formulas."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from training_nets import images, net

from prunec.compiler.errors import DataError
from prunec.runtime.torch_view import TorchView, torch_view
from prunec.runtime.training.batch import Batch, as_batch
from prunec.runtime.training.losses import (
    Feature,
    Objective,
    cross_entropy,
    distance,
    relative_square,
)
from prunec.runtime.training.teacher import Teacher


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    powers = np.exp(logits / temperature)
    return powers / powers.sum(1, keepdims=True)


def logits(seed: int, shape: tuple[int, ...] = (5, 7)) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def frozen(model: onnx.ModelProto) -> TorchView:
    return torch_view(model).eval().requires_grad_(False)


def batch(samples: int = 8) -> Batch:
    x, y = images(samples)
    return as_batch({"x": x}, y, np.arange(samples))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_the_divergence_of_softened_distributions(temperature: float) -> None:
    own, target = logits(0), logits(1)
    p, q = softened(target.numpy(), temperature), softened(own.numpy(), temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    assert float(distance(own, target, temperature)) == pytest.approx(expected, rel=1e-5)


def test_equal_outputs_are_at_distance_zero() -> None:
    for kind in ("softmax", "mse"):
        assert float(distance(logits(0), logits(0), 2.0, kind)) == pytest.approx(0, abs=1e-6)


def test_outputs_that_are_no_classes_are_compared_as_numbers() -> None:
    own, target = logits(0, (2, 3, 4, 4)), logits(1, (2, 3, 4, 4))
    expected = float(((own - target) ** 2).mean() / (target**2).mean())
    assert float(distance(own, target, 2.0)) == pytest.approx(expected, rel=1e-5)
    flat = own.permute(0, 2, 3, 1).reshape(-1, 3), target.permute(0, 2, 3, 1).reshape(-1, 3)
    per_pixel = float(distance(own, target, 2.0, "softmax"))
    assert per_pixel == pytest.approx(float(distance(*flat, 2.0)), rel=1e-5)


def test_relative_square_does_not_depend_on_the_scale() -> None:
    own, target = logits(0), logits(1)
    both = relative_square(own, target), relative_square(own * 100, target * 100)
    assert float(both[0]) == pytest.approx(float(both[1]), rel=1e-5)


def test_terms_are_weighted_by_alpha() -> None:
    view, samples = frozen(net()), batch()
    teacher = Teacher(torch_view(net(seed=1)), ["y"])
    terms = {
        alpha: Objective([("y", "y")], teacher, labels=True, alpha=alpha)(view, samples)
        for alpha in (0.0, 0.25, 1.0)
    }
    assert set(terms[0.0]) == {"labels"}
    assert set(terms[1.0]) == {"distillation"}
    assert float(terms[0.25]["labels"]) == pytest.approx(0.75 * float(terms[0.0]["labels"]))
    expected = 0.25 * float(terms[1.0]["distillation"])
    assert float(terms[0.25]["distillation"]) == pytest.approx(expected)


def test_without_labels_the_teacher_counts_fully() -> None:
    view, samples = frozen(net()), batch()
    teacher = Teacher(torch_view(net(seed=1)), ["y"])
    whole = Objective([("y", "y")], teacher, labels=True, alpha=1.0)(view, samples)
    alone = Objective([("y", "y")], teacher, labels=False, alpha=0.3)(view, samples)
    assert float(alone["distillation"]) == pytest.approx(float(whole["distillation"]))


def test_features_are_sliced_to_the_kept_channels() -> None:
    view, samples = frozen(net(3)), batch()
    dense = torch_view(net(8, seed=1))
    kept = (0, 4, 6)
    made = Objective(
        [("y", "y")],
        Teacher(dense, ["y", "r"]),
        features=[Feature("r", "r", {1: kept})],
        feature_weight=2.0,
    )
    found = float(made(view, samples)["features"])
    own, target = (v.eval()(samples.feeds, ["r"])["r"].detach() for v in (view, dense))
    expected = 2 * float(relative_square(own, target[:, list(kept)]))
    assert found == pytest.approx(expected, rel=1e-5)


def test_labels_of_a_single_class_per_sample_only() -> None:
    with pytest.raises(DataError, match="the data has none"):
        cross_entropy(logits(0), None)
    with pytest.raises(DataError, match="labels need"):
        cross_entropy(logits(0, (5, 3, 4, 4)), torch.zeros(5, dtype=torch.int64))


def test_a_teacher_looks_up_what_it_was_asked_before() -> None:
    view = torch_view(net())
    teacher, samples = Teacher(view, ["y"], samples=8), batch()
    first = teacher(samples)["y"]
    with torch.no_grad():
        view.get_parameter("fb").add_(1.0)  # a second run would give something else
    assert torch.equal(teacher(samples)["y"], first)
    shuffled = Batch({"x": samples.feeds["x"].flip(0)}, None, torch.arange(7, -1, -1))
    assert torch.equal(teacher(shuffled)["y"], first.flip(0))


def test_a_teacher_keeps_nothing_beyond_its_limit() -> None:
    view = torch_view(net())
    teacher, samples = Teacher(view, ["y"], samples=8, limit=8 * 4 * 4 - 1), batch()
    first = teacher(samples)["y"]
    with torch.no_grad():
        view.get_parameter("fb").add_(1.0)
    assert torch.allclose(teacher(samples)["y"], first + 1.0)
