"""The rows of KERNEL_SCORES by their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from prunec.compiler.errors import UsageError
from prunec.passes.regroup.scores import KERNEL_SCORES, KernelEvidence, kernel_score

WEIGHT = np.random.default_rng(0).standard_normal((4, 3, 2, 2))


def test_magnitude_is_the_norm_of_each_kernel() -> None:
    found = kernel_score("magnitude")(WEIGHT, KernelEvidence())
    assert found.shape == (4, 3)
    assert found[2, 1] == pytest.approx(np.linalg.norm(WEIGHT[2, 1]))


def test_published_scores_have_norm_one() -> None:
    found = kernel_score("magnitude{normalise=true}")(WEIGHT, KernelEvidence())
    assert np.linalg.norm(found) == pytest.approx(1)
    plain = kernel_score("magnitude")(WEIGHT, KernelEvidence())
    np.testing.assert_allclose(found * np.linalg.norm(WEIGHT), plain)
    zeros = np.zeros((2, 2, 1, 1))
    assert not kernel_score("magnitude{normalise=true}")(zeros, KernelEvidence()).any()


def test_activation_is_the_mean_energy_that_a_kernel_adds() -> None:
    x = np.random.default_rng(1).standard_normal((50, 3, 4))  # places, channels, a kernel's inputs
    moments = np.einsum("rck,rcl->ckl", x, x) / len(x)
    found = kernel_score("activation")(WEIGHT, KernelEvidence(moments=moments))
    added = np.einsum("fck,rck->fcr", WEIGHT.reshape(4, 3, 4), x)
    np.testing.assert_allclose(found, np.square(added).mean(2))


def test_taylor_and_fisher_sum_over_the_kernel() -> None:
    gradient = np.random.default_rng(2).standard_normal(WEIGHT.shape)
    taylor = kernel_score("taylor")(WEIGHT, KernelEvidence(mean_abs=np.abs(gradient)))
    fisher = kernel_score("fisher")(WEIGHT, KernelEvidence(mean_square=gradient**2))
    products = WEIGHT * gradient
    np.testing.assert_allclose(taylor, np.abs(products).sum((2, 3)))
    np.testing.assert_allclose(fisher, np.square(products).sum((2, 3)) / 2)


@pytest.mark.parametrize("name", KERNEL_SCORES)
def test_weights_of_any_rank_have_scores(name: str) -> None:
    weight = np.ones((5, 2, 3))
    evidence = KernelEvidence(np.tile(np.eye(3), (2, 1, 1)), weight, weight)
    found = kernel_score(name)(weight, evidence)
    assert found.shape == (5, 2)
    assert (found > 0).all()
    assert np.ptp(found) == 0


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("magnitud", "did you mean 'magnitude'"),
        ("activation{samples=0}", "samples"),
        ("taylor{batch=0}", "batch"),
        ("fisher{targets=all}", "targets"),
    ],
)
def test_bad_specifications_are_refused(spec: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        kernel_score(spec)
