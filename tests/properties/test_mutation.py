"""Every tie matters: a rule with one of them left out fails the oracle on some graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
from properties.fused import FILES
from properties.graphs import BLOCKS, one_block
from properties.mutants import KINDS, Location, line_of, without, written
from properties.oracle import Case, analyse, check, random_masks

from prunec.compiler.freedom import Freedom
from prunec.compiler.interpret import interpret

pytest.importorskip("onnxruntime")

SEEDS = range(4)
# Blocks with many forms, or whose operator needs opset 21 (every fourth seed).
MORE_SEEDS = {
    "blocks_to_image": range(2, 24, 2),
    "by_data": range(40),
    "compress": range(8),
    "crop_or_pad": range(2, 16, 2),
    "cropped_channels": range(8),
    "deformed": range(3, 60, 4),
    "einsum_forms": range(24),
    "elements": range(12),
    "gather_nd": range(12),
    "place": range(12),
    "place_rows": range(12),
    "regions": range(2, 16, 2),
    "reversed_sequences": range(12),
    "sampled": range(2, 24, 2),
    "triangle": range(2, 16, 2),
    "unpooled": range(72),
    "contrib_elementwise": range(12),
    "contrib_softmax": range(12),
    "contrib_packed_matmul": range(24),
    "fake_quantised_conv": range(8),
    "float8": range(3, 20, 4),
    "integer_convs": range(24),
    "integer_matmul": range(16),
    "matrix_in_blocks": range(3, 80, 4),
    "computed_weight": range(16),
    "crossed": range(8),
    "extremes": range(8),
    "group_norm": range(3, 40, 4),
    "lstm": range(8),
    "positions": range(12),
    "response_norm": range(8),
    "rotated": range(16),
    "rotated_norm": range(1, 40, 2),
    "scanned": range(12),
    "softmax": range(12),
}

# Calls that no legal graph can reach through the checker and onnxruntime: see the rule tests.
UNREACHED = {
    'c.freeze(x[axis], Reason.DYNAMIC_SHAPE, "an axis that a Split cuts by data")': (
        "shapes of the pieces are known only where the model declares them"
    ),
    'c.freeze(labels, Reason.NORM_STATISTICS, "batch statistics run over it")': (
        "training_mode: tests/runtime/test_exporter_forms.py"
    ),
}
# Freezes that say why, of labels which nothing frees anyway.
REDUNDANT = {
    'c.freeze(p[0], Reason.DYNAMIC_SHAPE, "rows that are picked by data")': (
        "nothing frees the rows of a packed table"
    ),
    (
        "c.freeze(w[1], Reason.UNSUPPORTED_FORM, "
        '"outputs per channel of a depthwise ConvTranspose")'
    ): "nothing frees w[1]",
}


@pytest.fixture(scope="module")
def cases() -> dict[tuple[str, Location], list[tuple[Case, int]]]:
    """(kind, location) -> the small graphs that reach it, with their seeds."""
    reached: dict[tuple[str, Location], list[tuple[Case, int]]] = {}
    for name in BLOCKS:
        for seed in MORE_SEEDS.get(name, SEEDS):
            with without(None) as seen:
                subject = analyse(one_block(name, seed))
            for call in sorted(seen):
                reached.setdefault(call, []).append((subject, seed))
            if not any(kind == "inexact" for kind, _ in seen):
                continue  # nothing that `residual` could free
            with without(None) as seen:
                graph = interpret(subject.model, subject.facts, freedom=Freedom(residual=True))
            for call in sorted(seen):
                reached.setdefault(call, []).append((replace(subject, graph=graph), seed))
    return reached


def survives(subject: Case, location: Location, seed: int) -> bool:
    """Whether the oracle notices nothing."""
    try:
        with without(location):
            graph = interpret(subject.model, subject.facts, freedom=subject.graph.freedom)
        mutant = Case(subject.proto, subject.model, subject.facts, graph)
        for mask in random_masks(graph, seed, 2):
            check(mutant, mask, seed, full=False)
    except Exception:  # whatever it is: it was noticed
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_out_any_call_is_noticed(kind: str, cases) -> None:
    survivors = [
        (location, line_of(location))
        for (own, location), graphs in sorted(cases.items())
        if own == kind and all(survives(subject, location, seed) for subject, seed in graphs[:80])
    ]
    assert [s for s in survivors if s[1] not in REDUNDANT] == []


def test_every_call_of_the_rules_is_reached_by_some_graph(cases) -> None:
    missed = {line_of(at) for _, at in written() - cases.keys() if at[0] not in FILES}
    assert missed == set(UNREACHED)
