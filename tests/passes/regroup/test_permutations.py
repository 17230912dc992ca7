"""The rows of PERMUTATIONS against published sums, brute force and each other."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from known_matrices import C6, R8, partitions

from prunec.compiler.errors import UsageError
from prunec.passes.regroup.blocks import kept
from prunec.passes.regroup.permutations import PERMUTATIONS, permutation

REFERENCE = Path(__file__).parents[4] / "shared" / "reference" / "gumi_resnet20_kept.json"


@pytest.mark.parametrize(
    ("spec", "halves", "quarters"),
    [
        ("same", 163, 93),
        ("sort", 165, 97),
        ("grps{iters=1}", 182, 108),
        ("grps{iters=2}", 174, 108),
        ("grps", 185, 108),
        ("search", 202, 122),
    ],
)
def test_kept_sums_of_the_published_matrix(spec: str, halves: int, quarters: int) -> None:
    sums = [kept(R8, permutation(spec)(R8, groups)) for groups in (2, 4)]
    assert sums == [halves, quarters]


@pytest.mark.parametrize("spec", ["grps{iters=1}", "grps{iters=2}", "grps{iters=10}"])
def test_grps_misses_the_planted_blocks_and_search_finds_them(spec: str) -> None:
    assert kept(C6, permutation(spec)(C6, 3)) == 72
    found = permutation("search")(C6, 3)
    assert kept(C6, found) == 97
    assert found.inputs == (0, 1, 0, 1, 2, 2)


@pytest.mark.parametrize("name", PERMUTATIONS)
@pytest.mark.parametrize(("shape", "groups"), [((6, 4), 2), ((9, 6), 3), ((16, 8), 8), ((4, 4), 1)])
def test_every_row_gives_blocks_of_equal_size_numbered_by_their_first_input(
    name: str, shape: tuple[int, int], groups: int
) -> None:
    score = np.random.default_rng(0).random(shape)
    found = permutation(name)(score, groups)
    assert found.groups == groups
    assert found.mask().sum() == shape[0] * shape[1] // groups
    firsts = [found.inputs.index(g) for g in range(groups)]
    assert firsts == sorted(firsts)
    assert permutation(name)(score, groups) == found


@pytest.mark.parametrize(("shape", "groups"), [((6, 4), 2), ((4, 6), 2), ((6, 6), 3), ((3, 6), 3)])
@pytest.mark.parametrize("seed", range(3))
def test_search_finds_the_optimum_of_small_matrices(
    shape: tuple[int, int], groups: int, seed: int
) -> None:
    score = np.random.default_rng(seed).standard_normal(shape)
    rows, columns = (list(partitions(tuple(range(n)), n // groups)) for n in shape)
    best = max(
        sum(float(score[np.ix_(r, c)].sum()) for r, c in zip(own, order, strict=True))
        for own in rows
        for theirs in columns
        for order in permutations(theirs)
    )
    assert kept(score, permutation("search")(score, groups)) == pytest.approx(best)


@pytest.mark.parametrize(("shape", "groups"), [((24, 24), 4), ((32, 48), 8), ((160, 40), 5)])
def test_search_is_above_grps_and_reaches_planted_blocks(
    shape: tuple[int, int], groups: int
) -> None:
    draw = np.random.default_rng(1)
    noise = draw.random(shape)
    search, grps = permutation("search"), permutation("grps")
    assert kept(noise, search(noise, groups)) > kept(noise, grps(noise, groups))
    rows, columns = (draw.permutation(np.arange(n) % groups) for n in shape)
    planted = noise + 2.0 * (rows[:, None] == columns)
    inside = float(planted[rows[:, None] == columns].sum())
    assert kept(planted, search(planted, groups)) == pytest.approx(inside)


def test_more_rounds_keep_no_less() -> None:
    score = np.random.default_rng(3).random((32, 32))
    few, many = (kept(score, permutation(f"search{{rounds={n}}}")(score, 4)) for n in (0, 40))
    assert many > few


def test_search_scales_and_shifts_with_the_scores() -> None:
    score = np.random.default_rng(4).random((20, 20))
    search = permutation("search")
    assert search(1e-9 * score, 5) == search(score, 5)
    assert search(np.zeros((20, 20)), 5).groups == 5


@pytest.mark.parametrize(
    ("spec", "text"),
    [("grps{iters=0}", "iters"), ("search{rounds=-1}", "rounds"), ("greps", "did you mean 'grps'")],
)
def test_bad_specifications_are_refused(spec: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        permutation(spec)


@pytest.mark.parametrize("name", PERMUTATIONS)
def test_matrices_that_do_not_fall_into_groups_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"6 x 4 .* no 3 equal groups"):
        permutation(name)(np.ones((6, 4)), 3)
    with pytest.raises(UsageError, match="NaN"):
        permutation(name)(np.full((4, 4), np.nan), 2)


def test_the_published_rule_keeps_what_was_published_of_resnet20() -> None:
    """The reference is of the same network before its last epochs: equal to a few per cent."""
    model = REFERENCE.parents[1] / "models" / "resnet20-cifar10.onnx"
    if not (REFERENCE.is_file() and model.is_file()):
        pytest.skip(f"{REFERENCE} or {model} is not there")
    from resnet20_scores import resnet20_scores

    scores = resnet20_scores(model)
    names = {"None1": "same", "SORT1": "sort", "GRPS1": "grps{iters=1}", "GRPS10": "grps"}
    gaps = []
    for weight, _, groups, total, _, shares in json.loads(REFERENCE.read_text()):
        own = scores[weight]
        assert own.sum() == pytest.approx(total, rel=0.02)
        for name, spec in names.items():
            gaps.append(kept(own, permutation(spec)(own, groups)) / own.sum() - shares[name])
    assert np.abs(gaps).mean() < 0.006
