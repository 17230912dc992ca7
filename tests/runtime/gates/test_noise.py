from __future__ import annotations

import numpy as np
import pytest
import torch

from prunec.runtime.gates.noise import Draw, draw, gain


def test_gates_are_open_with_the_probability_of_their_logit() -> None:
    torch.manual_seed(0)
    theta = torch.tensor([5.2933, 0.0, -1.0])
    drawn = draw(theta, 20000)
    shares = drawn.value.mean(0)
    torch.testing.assert_close(shares, torch.sigmoid(theta), atol=0.012, rtol=0)
    assert set(drawn.value.unique().tolist()) == {0.0, 1.0}
    # Temperature softens what is drawn, not how likely it is open.
    torch.manual_seed(0)
    warm = draw(theta, 20000, temperature=3.0, hard=False)
    assert torch.equal(warm.open, drawn.open)
    assert ((warm.value > 0) & (warm.value < 1)).any()


def test_hard_gates_hand_on_the_gradient_of_soft_ones() -> None:
    found = []
    for hard in (True, False):
        torch.manual_seed(3)
        theta = torch.zeros(4, requires_grad=True)
        draw(theta, 5, temperature=0.7, hard=hard).value.sum().backward()
        found.append(theta.grad)
    assert found[0] is not None
    assert found[1] is not None
    torch.testing.assert_close(found[0], found[1])


def fixed(opened: list[list[bool]]) -> Draw:
    mask = torch.tensor(opened)
    return Draw(mask.float(), torch.where(mask, 0.75, 0.25), mask)


def test_the_second_order_gain_is_exact_for_a_parabola() -> None:
    # loss(g) = a (1 - g)^2 / 2 per sample: half of it is gained between 0 and 1.
    a = torch.tensor([[0.5, 2.0]])
    closed = gain(-a, fixed([[False, False]]), "second-order")
    torch.testing.assert_close(closed, a[0])
    # At an open gate of the dense model the mean gradient is 0 and the squares are what is left.
    around = torch.tensor([[1.0, 3.0], [-1.0, -3.0]])
    opened = gain(around, fixed([[True, True]] * 2), "second-order")
    torch.testing.assert_close(opened, torch.tensor([0.5, 4.5]))


def test_the_fisher_gain_counts_open_gates_only() -> None:
    gradient = torch.tensor([[2.0, 1.0], [4.0, 5.0]])
    found = gain(gradient, fixed([[True, False], [True, True]]), "fisher")
    torch.testing.assert_close(found, torch.tensor([5.0, 12.5]))
    assert not gain(gradient, fixed([[False] * 2] * 2), "fisher").any()


def test_one_row_for_a_batch_gives_the_same_mean_square() -> None:
    generator = torch.Generator().manual_seed(0)
    each = torch.randn(4000, 16, 3, generator=generator)  # batches of 16 samples
    alone = gain(each.reshape(-1, 3), fixed([[True] * 3] * 64000), "second-order")
    rows = [gain(b.mean(0, keepdim=True), fixed([[True] * 3]), "second-order", 16) for b in each]
    torch.testing.assert_close(torch.stack(rows).mean(0), alone, atol=0.03, rtol=0)


def test_the_straight_through_gain_weighs_by_the_slope() -> None:
    drawn = Draw(torch.ones(2, 1), torch.tensor([[0.5], [0.9]]), torch.ones(2, 1, dtype=torch.bool))
    found = gain(torch.tensor([[1.0], [-1.0]]), drawn, "straight-through")
    slopes = np.array([0.25, 0.09])
    assert float(found) == pytest.approx(-(slopes[0] - slopes[1]) / slopes.sum())
