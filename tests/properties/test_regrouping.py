"""Masked dense == grouped in every bit, on random graphs with random blocks."""

from __future__ import annotations

import numpy as np
import pytest
from properties.builder import feeds
from properties.graphs import BLOCKS, one_block, random_graph
from properties.oracle import Case, analyse

from prunec.compiler.freedom import Freedom
from prunec.compiler.partition import Partition
from prunec.frontends.checker import check_fully
from prunec.frontends.onnx import to_proto
from prunec.passes.regroup.mask import masked
from prunec.passes.regroup.rewrite import regroup
from prunec.passes.regroup.sites import group_sites
from prunec.runtime.session import make_session

pytest.importorskip("onnxruntime")

FREE = Freedom(residual=True)
ROUNDING = 1e-5


def random_blocks(subject: Case, seed: int) -> dict[str, Partition]:
    rng = np.random.default_rng(seed)
    out = {}
    for site in group_sites(subject.model, subject.facts, subject.graph):
        sizes, count = site.shape[:2], int(rng.choice((2, 4)))
        if not any(n % count for n in sizes):
            sides = (np.repeat(np.arange(count), n // count) for n in sizes)
            out[site.weight] = Partition.of(*(rng.permutation(ids) for ids in sides))
    return out


def check(subject: Case, seed: int, folded: bool) -> int:
    """Equal outputs and a clean file; how many convolutions were grouped."""
    partitions = random_blocks(subject, seed)
    result = regroup(subject.model, subject.facts, subject.graph, partitions, folded=folded)
    given = feeds(subject.proto, seed)
    want, got = (
        make_session(to_proto(m).SerializeToString(), optimise=False).run(given)
        for m in (masked(subject.model, partitions), result.model)
    )
    for a, b in zip(want, got, strict=True):
        if subject.graph.inexact:
            largest = float(np.abs(a[np.isfinite(a)]).max(initial=1.0))
            assert np.allclose(a, b, atol=ROUNDING * largest, equal_nan=True)
        else:
            assert np.array_equal(a, b, equal_nan=True)
    check_fully(result.model)
    assert len(result.gathers) <= result.sides
    assert folded or len(result.gathers) == result.sides
    return len(partitions)


@pytest.mark.parametrize("folded", [True, False], ids=["folded", "unfolded"])
@pytest.mark.parametrize("first", range(0, 40, 20))
def test_masked_equals_grouped_on_random_graphs(first: int, folded: bool) -> None:
    grouped = [check(analyse(random_graph(s), FREE), s, folded) for s in range(first, first + 20)]
    assert sum(grouped) > 20


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_masked_equals_grouped_around_one_block(name: str) -> None:
    for seed in range(100, 101):
        check(analyse(one_block(name, seed), FREE), seed, folded=True)
