"""Gated dense == pruned and polynomial == recount where whole branches vanish."""

from __future__ import annotations

import numpy as np
import pytest
from properties.oracle import Case, analyse, check, counts
from properties.vanishing import branch_graph, closing_masks

from prunec.compiler.freedom import Freedom
from prunec.passes.apply import prune

pytest.importorskip("onnxruntime")


def check_vanished(subject: Case, mask: np.ndarray) -> None:
    """The oracle, and: no tensor without elements is left, nor a node of a closed branch."""
    check(subject, mask, seed=1)
    pruned = prune(subject.model, subject.facts, subject.graph, mask)
    tensors = [v.const_value for v in pruned.graph.initializers.values()]
    assert not [t.name for t in tensors if t is not None and 0 in t.shape.numpy()]
    kept = counts(subject.graph, mask)
    for branch in subject.graph.branches:
        names = {subject.graph.edges[e].name.rpartition(":")[0] for e in branch if not kept[e]}
        assert not names & set(pruned.graph.initializers)


@pytest.mark.parametrize("first", range(0, 30, 10))
def test_gated_equals_pruned_where_branches_vanish(first: int) -> None:
    for seed in range(first, first + 10):
        subject = analyse(branch_graph(seed))
        for mask in closing_masks(subject.graph, seed, 2):
            check_vanished(subject, mask)


@pytest.mark.parametrize("freedom", [Freedom(residual=True), Freedom(kernels=True)], ids=str)
def test_branches_vanish_with_more_freedom(freedom: Freedom) -> None:
    for seed in range(100, 110):
        subject = analyse(branch_graph(seed), freedom)
        for mask in closing_masks(subject.graph, seed, 2):
            check_vanished(subject, mask)


def test_most_graphs_have_a_branch_that_may_vanish() -> None:
    found = [len(analyse(branch_graph(seed)).graph.branches) for seed in range(30)]
    assert sum(n > 0 for n in found) >= 25
    assert sum(found) >= 60
