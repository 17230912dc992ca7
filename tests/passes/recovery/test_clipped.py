from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from prunec.passes.recovery.clipped import behind_clip
from prunec.passes.recovery.moments import Moments
from prunec.passes.recovery.ridge import Fit, Prior, ridge
from prunec.passes.recovery.rows import Bounds, Rows


def problem(bounds: Bounds, rounds: int) -> tuple[Fit, Fit, list[tuple[Rows, bool]]]:
    """Targets that are no linear function of the inputs, in front of a clip."""
    rng = np.random.default_rng(0)
    parts = []
    for number in range(6):
        x = rng.standard_normal((1, 80, 6))
        goal = np.sin(x @ np.ones((6, 4)) + np.arange(4)) * 2 + x[..., :4]
        rest = 0.3 * rng.standard_normal(goal.shape)
        rows = Rows(x, goal, rest, np.array([[[1.0, 2.0, -0.5, 0.0]]]))
        parts.append((rows, number == 4))
    sums = [Moments.empty(1, 6, 4) for _ in range(2)]
    for rows, held in parts:
        sums[held].add(rows.x, rows.targets())
    prior = Prior(np.zeros((1, 6, 4)), np.zeros((1, 4)), True)
    start = ridge(*sums, prior)

    def stream() -> Iterator[tuple[Rows, bool]]:
        return iter(parts)

    return start, behind_clip(start, prior, bounds, stream, rounds), parts


def clipped_error(fit: Fit, parts: list[tuple[Rows, bool]], bounds: Bounds) -> np.ndarray:
    total = np.zeros((1, 4))
    for rows, held in parts:
        if held:
            value = rows.value(fit.judged.matrix, fit.judged.shift)
            total += np.square(np.clip(value, *bounds) - np.clip(rows.goal, *bounds)).sum(1)
    return total


@pytest.mark.parametrize("bounds", [(0.0, np.inf), (0.0, 2.0), (-1.0, 1.0)])
def test_errors_behind_the_clip_fall(bounds: Bounds) -> None:
    start, found, parts = problem(bounds, 4)
    linear, own = clipped_error(start, parts, bounds), clipped_error(found, parts, bounds)
    np.testing.assert_allclose(own, found.after, rtol=1e-9)
    assert (own <= linear + 1e-9).all()
    assert (found.after <= found.before).all()
    assert own.sum() < 0.95 * linear.sum()
    assert found.behind


def test_an_output_without_effect_keeps_its_weights() -> None:
    _, found, _ = problem((0.0, np.inf), 2)
    assert not found.line.matrix[..., 3].any()
