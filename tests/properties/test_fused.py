"""Gated dense == pruned and polynomial == recount on attention and fused operators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from properties.fused import FILES, FUSED, NO_KERNEL, SAID_TWICE, TOLERANCE
from properties.mutants import Location, line_of, without, written
from properties.oracle import Case, analyse, check, random_masks

from prunec.compiler.freedom import Freedom
from prunec.compiler.interpret import interpret
from prunec.passes.apply import prune

pytest.importorskip("onnxruntime")

FREEDOMS = {
    "columns": Freedom(),
    "heads": Freedom(heads=True),
    "residual": Freedom(residual=True),
}
NORMED = ("stream", "embedded", "root")
HEADED = ("attention", "split", "projected", "multi-head", "group", "rotated", *NORMED[:2])
CASES = [
    *((name, "columns") for name in FUSED),
    *((name, "heads") for name in FUSED if name.startswith(HEADED)),
    *((name, "residual") for name in FUSED if name.startswith(NORMED)),
]
# What callers feed and read stays.
CACHED = [name for name in FUSED if "cache" in name]


def fused(name: str, freedom: str = "columns") -> Case:
    return replace(analyse(FUSED[name](), FREEDOMS[freedom]), tolerance=TOLERANCE)


def reachable(case: Case) -> float:
    """Smallest ratio of multiply-accumulates."""
    cost = case.graph.costs["flops"]
    return float(cost([1] * len(case.graph.edges)) / cost(case.graph.dense()))


@pytest.mark.parametrize(("name", "freedom"), CASES)
def test_gated_equals_pruned(name: str, freedom: str) -> None:
    case = fused(name, freedom)
    for seed, mask in enumerate(random_masks(case.graph, 1, 2)):
        check(case, mask, seed)


@pytest.mark.parametrize(("name", "freedom"), [case for case in CASES if case[0] not in CACHED])
def test_less_than_half_is_reachable(name: str, freedom: str) -> None:
    assert reachable(fused(name, freedom)) < 0.5


@pytest.mark.parametrize("name", CACHED)
def test_a_cache_keeps_heads_and_positions(name: str) -> None:
    case = fused(name)
    cached = {v.name for v in case.proto.graph.input} | {v.name for v in case.proto.graph.output}
    assert not any(value in cached for value, _ in case.graph.axes)


def test_the_residual_stream_leaves_with_its_norms() -> None:
    for name in ("stream", "stream without mean", "embedded", "root mean square"):
        assert reachable(fused(name, "residual")) < 0.05 < reachable(fused(name))


def test_the_scale_stays_what_it_was_when_positions_leave() -> None:
    case = fused("attention")
    (mask,) = random_masks(case.graph, 1, 1)
    pruned = prune(case.model, case.facts, case.graph, mask)
    (node,) = [n for n in pruned.graph if n.op_type == "Attention"]
    assert node.attributes["scale"].as_float() == pytest.approx(8**-0.5)
    whole = prune(case.model, case.facts, case.graph, np.ones_like(mask))
    (node,) = [n for n in whole.graph if n.op_type == "Attention"]
    assert "scale" not in node.attributes


@pytest.fixture(scope="module")
def cases() -> dict[tuple[str, Location], list[Case]]:
    """(kind, location) -> the models that reach it."""
    reached: dict[tuple[str, Location], list[Case]] = {}
    for name, freedom in CASES:
        case = fused(name, freedom)
        with without(None) as seen:
            interpret(case.model, case.facts, freedom=case.graph.freedom)
        for kind, location in sorted(seen):
            if location[0] in FILES:
                reached.setdefault((kind, location), []).append(case)
    return reached


def survives(case: Case, location: Location) -> bool:
    """Whether the oracle notices nothing."""
    try:
        with without(location):
            graph = interpret(case.model, case.facts, freedom=case.graph.freedom)
        for mask in random_masks(graph, 3, 2):
            check(replace(case, graph=graph), mask, full=False)
    except Exception:  # whatever it is: it was noticed
        return False
    return True


def test_leaving_out_any_call_is_noticed(cases) -> None:
    survivors = {
        line_of(location)
        for (_, location), models in sorted(cases.items())
        if all(survives(case, location) for case in models)
    }
    assert survivors == set(SAID_TWICE)


def test_every_call_of_the_rules_is_reached(cases) -> None:
    missed = {line_of(w[1]) for w in written() - cases.keys() if w[1][0] in FILES}
    assert missed == set(NO_KERNEL)
