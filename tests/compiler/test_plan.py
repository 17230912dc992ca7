from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from prunec.compiler.errors import PlanError
from prunec.compiler.plan import Kept, Plan
from prunec.compiler.ranges import positions, ranges

PLAN = Plan(
    graph_sha256="ab" * 32,
    hyperedges={"conv.weight:0": Kept(6, (0, 1, 2, 5)), "b:0": Kept(3, (1,))},
    weights={"conv.weight": {0: (0, 1, 2, 5), 1: (7,)}, "b": {0: (1,)}},
    costs={"flops": (100, 50), "params": (10, 5)},
    budget={"flops": 60},
    objective=0.1 + 0.2,
    bound=None,
    gap=None,
    components={"criterion": "magnitude{p=1}", "solver": "greedy"},
    options={"align": None, "keep": ["stem"]},
    versions={"numpy": "1.0"},
)


def edited(path: str, value: Any) -> str:
    """The plan's text with the field at `path` (keys joined by |) replaced, or dropped."""
    body = json.loads(PLAN.to_json())
    *parents, last = path.split("|")
    node = body
    for key in parents:
        node = node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return json.dumps(body)


def test_a_plan_comes_back_from_its_text() -> None:
    assert Plan.from_json(PLAN.to_json()) == PLAN
    assert Plan.from_json(PLAN.to_json()).to_json() == PLAN.to_json()


def test_prices_come_back_and_are_left_out_where_there_are_none() -> None:
    """Plans of the first version have none: they are read, and written as they were."""
    priced = replace(PLAN, prices={"flops": 0.0051, "params": 0.0})
    assert Plan.from_json(priced.to_json()) == priced
    assert "prices" not in json.loads(PLAN.to_json())


@pytest.mark.parametrize("price", [-1, "x", True, None])
def test_a_price_is_a_number(price: object) -> None:
    with pytest.raises(PlanError, match=r"\$\.prices\['flops'\]: must be a number"):
        Plan.from_json(edited("prices", {"flops": price}))


def test_one_hyperedge_a_line_sorted() -> None:
    lines = PLAN.to_json().splitlines()
    assert '    "b:0": {"count": 1, "kept": "1", "size": 3},' in lines
    assert lines.index('  "hyperedges": {') + 1 == lines.index(
        '    "b:0": {"count": 1, "kept": "1", "size": 3},'
    )


def test_weights_hold_kept_indices_as_ranges() -> None:
    assert json.loads(PLAN.to_json())["weights"]["conv.weight"] == {"0": "0-2,5", "1": "7"}


@pytest.mark.parametrize("values", [(), (0,), (0, 1), (3, 5, 6, 7, 100)])
def test_ranges_are_read_back(values: tuple[int, ...]) -> None:
    assert positions(ranges(values)) == values


@pytest.mark.parametrize("text", ["2,1", "1,1", "3-2", "a", "1-", "-1", "0-1000000000"])
def test_ranges_that_do_not_ascend_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        positions(text)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, "$.schema: is 2"),
        ("schema", "1", "$.schema: has the wrong type (str)"),
        ("schema", True, "$.schema: has the wrong type (bool)"),
        ("graph_sha256", ..., "$.graph_sha256: missing"),
        ("hyperedges", [], "$.hyperedges: has the wrong type (list)"),
        ("extra", 1, "$.extra: unknown field"),
        ("prices", [], "$.prices: has the wrong type (list)"),
        ("objective", None, "$.objective: has the wrong type (NoneType)"),
        ("bound", "x", "$.bound: has the wrong type (str)"),
        ("components|solver", 3, "$.components['solver']: must be text"),
        ("versions|numpy", None, "$.versions['numpy']: must be text"),
        ("budget|flops", -1, "$.budget['flops']: must be a non-negative integer"),
        ("budget|flops", 1.5, "$.budget['flops']: must be a non-negative integer"),
        ("costs|flops", 3, "$.costs['flops'].dense: missing"),
        ("costs|flops|pruned", "x", "$.costs['flops'].pruned: must be a non-negative integer"),
        ("hyperedges|b:0", 3, "$.hyperedges['b:0'].size: missing"),
        ("hyperedges|b:0|size", True, "$.hyperedges['b:0'].size: must be a non-negative integer"),
        ("hyperedges|b:0|kept", 3, "$.hyperedges['b:0'].kept: must be text"),
        ("hyperedges|b:0|kept", "x", "$.hyperedges['b:0'].kept: 'x' is not a position"),
        ("hyperedges|b:0|kept", "2,1", "$.hyperedges['b:0'].kept: '1' is not ascending"),
        ("hyperedges|b:0|kept", "", "$.hyperedges['b:0'].count: is 1, but 0 positions are kept"),
        ("hyperedges|b:0|kept", "3", "$.hyperedges['b:0'].kept: position 3 is outside of size 3"),
        ("hyperedges|b:0|count", 2, "$.hyperedges['b:0'].count: is 2, but 1 positions are kept"),
        ("weights|b", [], "$.weights['b']: must be an object of axes"),
        ("weights|b|x", "0", "$.weights['b']['x']: an axis is a non-negative integer"),
        ("weights|b|0", None, "$.weights['b']['0']: must be text"),
    ],
)
def test_a_bad_field_is_named_by_its_path(path: str, value: Any, message: str) -> None:
    with pytest.raises(PlanError) as error:
        Plan.from_json(edited(path, value))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[1]", "a plan is a JSON object"), ("", "not JSON")],
)
def test_text_that_is_no_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.from_json(text)
