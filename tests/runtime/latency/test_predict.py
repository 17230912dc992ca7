"""Predictions, and the same as tables for the solvers."""

from __future__ import annotations

import numpy as np
import pytest
from timed import computed, true_latency

from prunec.compiler.cost import Linear
from prunec.compiler.errors import ProfileError, UsageError
from prunec.compiler.problem import IntArray
from prunec.passes.options import Options
from prunec.runtime.latency.attach import positive_levels
from prunec.runtime.latency.design import random_counts
from prunec.runtime.latency.predict import predictor, reachable
from prunec.runtime.latency.profile import Measured
from prunec.runtime.subject import Subject, open_model
from prunec.tools.demo import DIGITS

Levels = tuple[IntArray, ...]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return open_model(DIGITS)


@pytest.fixture(scope="module")
def levels(subject: Subject) -> Levels:
    return positive_levels(subject, Options(align=4))


@pytest.fixture(scope="module")
def measured(subject: Subject, levels: Levels) -> Measured:
    return computed(subject, levels)


def test_the_staircase_of_a_machine_without_noise_is_met(
    subject: Subject, levels: Levels, measured: Measured
) -> None:
    predict = predictor(subject, measured, "lut")
    off = [predict(c) / true_latency(subject, c) - 1 for c in random_counts(levels, 50, 7)]
    assert np.abs(off).mean() < 0.02


@pytest.mark.parametrize("model", ["lut", "m5", "m6"])
def test_the_cost_says_what_the_predictor_says(
    subject: Subject, levels: Levels, measured: Measured, model: str
) -> None:
    predict = predictor(subject, measured, model)
    cost = predict.cost(levels)
    for counts in random_counts(levels, 20, 3):
        assert cost(counts) == pytest.approx(predict(counts), abs=1.5)


def test_segments_with_the_same_factors_share_a_table(
    subject: Subject, levels: Levels, measured: Measured
) -> None:
    tables = predictor(subject, measured, "lut").cost(levels).tables
    assert len({table.factors for table in tables}) == len(tables)
    assert all((table.values > 0).all() for table in tables)


def test_what_is_left_out_costs_nothing(
    subject: Subject, levels: Levels, measured: Measured
) -> None:
    cost = predictor(subject, measured, "lut").cost(levels)
    dense = list(subject.graph.dense())
    inside = subject.graph.edge("stage1.conv1.weight:0")
    dense[subject.graph.edges.index(inside)] = 0
    assert cost(dense) < 0.95 * cost(subject.graph.dense())


def test_missing_cells_are_named_with_what_to_run(subject: Subject, measured: Measured) -> None:
    less = Measured({k: rows for k, rows in measured.cells.items() if "Gemm" not in k})
    with pytest.raises(ProfileError, match=r"lacks 1 of the .*Gemm.*prunec profile MODEL"):
        predictor(subject, less, "lut")


def test_an_unknown_model_is_refused(subject: Subject, measured: Measured) -> None:
    with pytest.raises(UsageError, match="did you mean 'lut'"):
        predictor(subject, measured, "lutt")


def test_quality_of_the_lut_is_of_what_was_not_seen(subject: Subject, measured: Measured) -> None:
    rng = np.random.default_rng(0)
    noisy = Measured(
        {
            key: [(*row[:-1], round(row[-1] * rng.uniform(0.8, 1.25))) for row in rows]
            for key, rows in measured.cells.items()
        }
    )
    found = predictor(subject, noisy, "lut").qualities()
    assert np.mean([q.mpe for q in found.values()]) > 0.05
    assert set(found) == set(noisy.cells)


def test_reachable_sizes_are_all_sums_of_levels() -> None:
    levels = [np.array([8, 16]), np.array([3, 5])]
    assert reachable(Linear(2, ((0, 1), (1, 2))), levels).tolist() == [16, 20, 24, 28]
    assert reachable(Linear(0, ((0, 1),)), [np.array([0, 8])]).tolist() == [8]


def test_too_many_sizes_keep_the_ends_of_each_block() -> None:
    sizes = reachable(Linear(0, ((0, 1),)), [np.arange(4, 2049, 4)])
    assert len(sizes) == 2 * 2048 // 16
    assert sizes[:4].tolist() == [4, 16, 20, 32]
    assert sizes[-1] == 2048


def test_quality_of_few_measurements_is_of_what_was_not_seen_either(
    subject: Subject, measured: Measured
) -> None:
    few = Measured({key: rows[:6] for key, rows in measured.cells.items()})
    found = predictor(subject, few, "lut").qualities()
    assert np.mean([q.mpe for q in found.values()]) > 0.05


def test_rows_of_another_width_than_the_cell_are_refused(
    subject: Subject, measured: Measured
) -> None:
    wide = Measured({key: [(9, 9, 9, 9, 9)] for key in measured.cells})
    with pytest.raises(ProfileError, match=r"damaged: cell .* 4 sizes a row"):
        predictor(subject, wide, "lut")


def test_cells_that_do_not_reach_the_dense_sizes_are_refused(
    subject: Subject, measured: Measured
) -> None:
    dense = {key: max(rows) for key, rows in measured.cells.items()}
    small = Measured(
        {
            key: [row for row in rows if row[:-1] != dense[key][:-1]] or rows
            for key, rows in measured.cells.items()
        }
    )
    kept = {key: rows for key, rows in small.cells.items() if len(rows[0]) == 2}
    assert kept
    cut = Measured({**measured.cells, **kept})
    with pytest.raises(ProfileError, match=r"up to \d+, this model has \d+; add that with"):
        predictor(subject, cut, "lut")
