"""Inputs in an order of their own: so many Gathers are left, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from convnets import Net

from prunec.compiler.partition import Partition
from prunec.passes.regroup.folds import Free, blocks_by, parse_fold
from prunec.passes.regroup.joint import Joint
from prunec.passes.regroup.permutations import permutation
from prunec.passes.regroup.rewrite import regroup
from prunec.passes.regroup.scored import Scored, scored_sites
from prunec.passes.regroup.sites import group_sites
from prunec.runtime.subject import Subject


@pytest.fixture(scope="module")
def residual() -> Subject:
    net = Net(3)
    x = net.block("x", 16)
    for _ in range(3):
        branch = net.norm(net.conv(net.block(x, 8), 16))
        x = net.add("Relu", net.add("Add", x, branch))
    return net.subject(net.head(x))


def scores(subject: Subject, groups: int = 2) -> tuple[Scored, ...]:
    draw = np.random.default_rng(3)
    sites = [s for s in group_sites(subject.model, subject.facts, subject.graph) if s.shape[1] > 3]
    own = {s.weight: draw.random(s.shape[:2]) for s in sites}
    return scored_sites(sites, own, dict.fromkeys(own, groups))


def kept(scored: tuple[Scored, ...], blocks: dict[str, Partition]) -> float:
    return sum(float(s.score[blocks[s.weight].mask()].sum() * s.scale) for s in scored)


@pytest.mark.parametrize("groups", [2, 4])
def test_a_model_has_as_many_gathers_as_are_allowed(residual: Subject, groups: int) -> None:
    scored, search = scores(residual, groups), permutation("search")
    best = -1.0
    for allowed in (0, 1, 2, 3):
        blocks = blocks_by(Joint(gathers=allowed), scored, residual.graph, search)
        made = regroup(residual.model, residual.facts, residual.graph, blocks)
        assert len(made.gathers) == allowed
        assert kept(scored, blocks) > best
        best = kept(scored, blocks)
    assert kept(scored, blocks_by(Free(), scored, residual.graph, search)) > best


def test_folds_have_a_text_form() -> None:
    assert parse_fold("joint{gathers=9}") == Joint(gathers=9)
    assert parse_fold("free") == Free()
