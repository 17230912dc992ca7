"""Measuring: what it covers, and that an interrupted run goes on."""

from __future__ import annotations

import numpy as np
import pytest
from timed import computed

from prunec.passes.options import Options
from prunec.runtime.latency import measure as measuring
from prunec.runtime.latency.attach import positive_levels
from prunec.runtime.latency.design import design, random_counts
from prunec.runtime.latency.kernels import Where
from prunec.runtime.latency.measure import Effort, measure
from prunec.runtime.latency.profile import Measured
from prunec.runtime.latency.segments import segments
from prunec.runtime.subject import Subject, open_model
from prunec.tools.demo import DIGITS

EFFORT = Effort(models=6, rounds=1, passes=1)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return open_model(DIGITS)


def test_a_design_has_the_ends_and_each_part_of_the_levels() -> None:
    levels = [np.arange(8, 65, 8), np.arange(1, 33)]
    drawn = np.array(design(levels, 34))
    assert drawn[0].tolist() == [64, 32]
    assert drawn[1].tolist() == [8, 1]
    assert np.unique(drawn[2:, 0], return_counts=True)[1].tolist() == [4] * 8
    assert sorted(drawn[2:, 1].tolist()) == list(range(1, 33))


def test_random_counts_are_levels_and_follow_the_seed() -> None:
    levels = [np.array([8, 16, 24]), np.array([5])]
    first = random_counts(levels, 20, seed=1)
    assert first == random_counts(levels, 20, seed=1) != random_counts(levels, 20, seed=2)
    assert {counts[0] for counts in first} == {8, 16, 24}


def test_every_cell_of_a_model_is_measured(subject: Subject) -> None:
    measured = Measured()
    levels = positive_levels(subject, Options())
    assert measure(subject, levels, measured, Where(), EFFORT) == 6
    assert set(measured.cells) == {part.key for part in segments(subject)}
    assert all(row[-1] > 0 for rows in measured.cells.values() for row in rows)
    assert measure(subject, levels, measured, Where(), EFFORT) == 0


def test_an_interrupted_run_goes_on_where_it_was(subject: Subject) -> None:
    class Stop(Exception):
        pass

    def interrupt(done: int, of: int) -> None:
        assert (done, of) == (4, 6)
        raise Stop

    measured, whole = Measured(), Measured()
    levels = positive_levels(subject, Options())
    with pytest.raises(Stop):
        measure(subject, levels, measured, Where(), EFFORT, interrupt)
    assert measure(subject, levels, measured, Where(), EFFORT) == 2
    measure(subject, levels, whole, Where(), EFFORT)
    sizes = {key: sorted(row[:-1] for row in rows) for key, rows in whole.cells.items()}
    assert sizes == {key: sorted(row[:-1] for row in rows) for key, rows in measured.cells.items()}


def test_cells_that_another_model_filled_are_not_measured_again(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = positive_levels(subject, Options(align=1))
    measured = computed(subject, levels, models=50)
    assert not measured.models
    monkeypatch.setattr(measuring, "kernel_times", None)
    assert measure(subject, levels, measured, Where(), EFFORT) == 0
