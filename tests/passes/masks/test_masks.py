from __future__ import annotations

import numpy as np
import pytest

from prunec.passes.masks.rule import mask_of, published_mask
from prunec.passes.masks.schedule import Timetable, layerwise, one_shot, stepwise
from prunec.passes.masks.tracker import Tracker, importance_of

EIGHT = np.array([0.1, 0.9, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4])


@pytest.mark.parametrize(
    ("sparsity", "kept"),
    [
        (0.25, [0, 1, 1, 1, 1, 0, 1, 1]),
        (0.5, [0, 1, 1, 0, 1, 0, 1, 0]),
        (0.75, [0, 1, 0, 0, 0, 0, 1, 0]),
    ],
)
@pytest.mark.parametrize("rule", [mask_of, published_mask])
def test_both_rules_agree_where_the_published_one_is_right(
    rule: object, sparsity: float, kept: list[int]
) -> None:
    assert callable(rule)
    assert rule(EIGHT, sparsity).astype(int).tolist() == kept


@pytest.mark.parametrize(
    ("sparsity", "published", "mended"),
    [(0, 7, 8), (0.1, 7, 8), (0.25, 6, 6), (0.5, 4, 4), (0.9, 1, 1), (0.95, 1, 1), (1, 1, 1)],
)
def test_the_published_rule_is_off_by_one_at_small_sparsities(
    sparsity: float, published: int, mended: int
) -> None:
    assert published_mask(EIGHT, sparsity).sum() == published
    assert mask_of(EIGHT, sparsity).sum() == mended


def test_of_equals_the_published_rule_keeps_all_and_the_mended_one_the_first() -> None:
    same = np.ones(4)
    assert published_mask(same, 0.5).all()
    assert mask_of(same, 0.5).tolist() == [True, True, False, False]
    assert published_mask(np.ones(1), 0.5).all()
    assert mask_of(np.ones(1), 1.0).all()
    assert not mask_of(np.ones(1), 1.0, least=0).any()


def test_a_share_that_means_a_whole_number_is_not_rounded_down() -> None:
    assert mask_of(np.arange(10.0), 0.7).sum() == 3
    assert mask_of(np.arange(100.0), 0.29).sum() == 71


def test_the_running_statistic_and_its_masks() -> None:
    steps = [[1, 2, 3, 4], [4, 3, 2, 1], [0, 8, 0, 1], [0, 8, 0, 1], [9, 0, 9, 0], [7, 7, 7, 7]]
    when = Timetable(start=2, interval=3, refresh=1, stop=3)
    tracker = Tracker(4, when, 0.5, published=True)
    masks = [
        tracker.advance(n, np.array(x, float)).astype(int).tolist() for n, x in enumerate(steps)
    ]
    assert masks[:3] == [[1, 1, 1, 1]] * 3
    assert masks[3] == [0, 1, 0, 1]
    assert masks[4:] == [[1, 1, 1, 0]] * 2  # equals all stay
    np.testing.assert_allclose(tracker.statistic, [3, 16 / 3, 3, 2 / 3])


def test_the_mended_rule_breaks_the_tie_of_the_same_run() -> None:
    tracker = Tracker(4, Timetable(0, 3, refresh=1, stop=3), 0.5)
    for n, x in enumerate([[0, 8, 0, 1], [0, 8, 0, 1], [9, 0, 9, 0]]):
        tracker.advance(n, np.array(x, float))
    assert tracker.mask.tolist() == [True, True, False, False]


@pytest.mark.parametrize(("rampup", "first"), [(False, 5), (True, 7)])
def test_the_cubic_ramp(rampup: bool, first: int) -> None:
    when = Timetable(5, 2, 4, rampup, stop=8)
    assert when.rises == tuple(range(first, first + 8, 2))
    values = [when.sparsity(n, 0.5) for n in when.rises]
    np.testing.assert_allclose(np.array(values, float), [0.2891, 0.4375, 0.4922, 0.5], atol=5e-5)
    assert when.sparsity(first - 1, 0.5) is None
    assert when.sparsity(first + 1, 0.5) == values[0]
    assert when.sparsity(100, 0.5) == values[-1]


def test_layers_take_turns() -> None:
    made = layerwise(3, start=10, interval=5)
    assert [x.start for x in made] == [10, 16, 22]
    assert max(x.end for x in made) + 1 == 28
    assert [x.sparsity(x.start, 0.5) for x in made] == [0.5] * 3
    assert [x.start for x in layerwise(3, 10, 5, order="bottom")] == [22, 16, 10]
    mixed = [x.start for x in layerwise(3, 10, 5, order="shuffle", seed=1)]
    assert sorted(mixed) == [10, 16, 22]
    assert mixed == [x.start for x in layerwise(3, 10, 5, order="shuffle", seed=1)]


def test_one_shot_masks_once_when_layerwise_is_done() -> None:
    (when, *others) = one_shot(3, start=10, interval=5)
    assert others == [when] * 2
    assert when.start == 23
    assert [n for n in range(40) if when.masks(n)] == [28]
    assert [n for n in range(40) if when.measures(n)] == [23, 24, 25, 26, 27]


def test_stepwise_masks_at_every_rise_by_that_step_alone() -> None:
    (when,) = stepwise(1, start=6, interval=2, repetition=4)
    assert [n for n in range(40) if when.masks(n)] == list(when.rises) == [6, 8, 10, 12]
    (late,) = stepwise(1, start=6, interval=2, repetition=4, rampup=True)
    assert late.rises == (8, 10, 12, 14)
    assert late.masks(14)
    tracker = Tracker(4, when, 0.5)
    tracker.advance(6, np.array([4.0, 3, 2, 1]))
    assert tracker.mask.tolist() == [True, True, True, False]
    for n in (8, 10, 12, 14):
        tracker.advance(n, np.array([1.0, 2, 3, 4]))
    assert tracker.mask.tolist() == [False, False, True, True]  # channels came back


def test_frequency_counts_behind_a_relu_only() -> None:
    size, fires = np.array([1.0, 2.0]), np.array([0.5, 0.25])
    assert importance_of(size, fires, 0.0, l0=True) is fires
    assert importance_of(size, fires, -0.1, l0=True) is size
    assert importance_of(size, fires, 0.0, l0=False) is size
