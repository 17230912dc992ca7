"""Learning rates over a run."""

from __future__ import annotations

import numpy as np
import pytest

from prunec.runtime.training.schedules import SHAPES, factor
from prunec.runtime.training.settings import SCHEDULES


def test_every_schedule_has_a_row() -> None:
    assert tuple(SHAPES) == SCHEDULES


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_rise_to_the_highest_and_never_reach_zero(schedule: str) -> None:
    rates = np.array([factor(k, 100, 0.1, schedule) for k in range(100)])
    assert rates.max() == 1.0
    assert (np.diff(rates[:10]) > 0).all()
    assert (np.diff(rates[10:]) <= 0).all()
    assert rates.min() > 0


def test_the_cosine_is_half_in_the_middle() -> None:
    assert factor(50, 100, 0.0, "cosine") == pytest.approx(0.5)


def test_a_run_of_one_step_has_the_highest_rate() -> None:
    assert factor(0, 1, 0.05, "cosine") == 1.0
