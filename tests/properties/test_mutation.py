"""Every tie matters: a rule with one of them left out fails the oracle on some graph."""

from __future__ import annotations

import pytest
from properties.graphs import BLOCKS, one_block
from properties.mutants import Location, line_of, without, written
from properties.oracle import Case, analyse, check, random_masks

from prunec.compiler.interpret import interpret

pytest.importorskip("onnxruntime")

SEEDS = range(4)
# Blocks with many forms, or whose operator needs opset 21 (every fourth seed).
MORE_SEEDS = {
    "computed_weight": range(16),
    "extremes": range(8),
    "group_norm": range(3, 40, 4),
    "positions": range(12),
    "response_norm": range(8),
    "rotated": range(16),
    "rotated_norm": range(1, 40, 2),
    "softmax": range(12),
}

# Calls that no legal graph can reach through the checker and onnxruntime: see the rule tests.
UNREACHED = {
    'c.tie(p[0], blocks[:, 0], "parameters of the norm")': "GroupNormalization-18 is deprecated",
    'c.freeze(n, "an Expand whose shape depends on the data")': "such a shape is never inferred",
    'c.freeze(own, "an Expand whose shape depends on the data")': "such a shape is never inferred",
    'c.freeze(labels, "inexact: batch statistics run over it")': (
        "training_mode: tests/runtime/test_exporter_forms.py"
    ),
}
# Freezes that say why, of labels which nothing frees anyway.
REDUNDANT = {
    'c.freeze(labels, f"sizes, scales or positions of {site.node.op_type}")': (
        "sizes and scales are made by no contraction; a grid that is one has two channels"
    ),
    'c.freeze(w[1], "outputs per channel of a depthwise ConvTranspose")': "nothing frees w[1]",
    'c.freeze(labels, f"inexact: statistics of {site.node.op_type} run over it")': (
        "parameters of a LayerNormalization are made by no contraction"
    ),
}


@pytest.fixture(scope="module")
def cases() -> dict[tuple[str, Location], list[tuple[Case, int]]]:
    """(kind, location) -> the small graphs that reach it, with their seeds."""
    reached: dict[tuple[str, Location], list[tuple[Case, int]]] = {}
    for name in BLOCKS:
        for seed in MORE_SEEDS.get(name, SEEDS):
            subject = analyse(one_block(name, seed))
            with without(None) as seen:
                interpret(subject.model, subject.facts)
            for call in sorted(seen):
                reached.setdefault(call, []).append((subject, seed))
    return reached


def survives(subject: Case, location: Location, seed: int) -> bool:
    """Whether the oracle notices nothing."""
    try:
        with without(location):
            graph = interpret(subject.model, subject.facts)
        mutant = Case(subject.proto, subject.model, subject.facts, graph)
        for mask in random_masks(graph, seed, 2):
            check(mutant, mask, seed, full=False)
    except Exception:  # whatever it is: it was noticed
        return False
    return True


@pytest.mark.parametrize("kind", ["tie", "factor", "freeze"])
def test_leaving_out_any_call_is_noticed(kind: str, cases) -> None:
    survivors = [
        (location, line_of(location))
        for (own, location), graphs in sorted(cases.items())
        if own == kind and all(survives(subject, location, seed) for subject, seed in graphs[:40])
    ]
    assert [s for s in survivors if s[1] not in REDUNDANT] == []


def test_every_call_of_the_rules_is_reached_by_some_graph(cases) -> None:
    missed = {line_of(location) for _, location in written() - cases.keys()}
    assert missed == set(UNREACHED)
