"""Every row of every table is a real operator, and every row is tried by some test."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from properties.graphs import BLOCKS, one_block

from prunec.compiler.constants import EVALUATORS
from prunec.compiler.rules import RULES
from prunec.compiler.tables import merge
from prunec.frontends.contrib import SHAPERS
from prunec.passes.criteria import CRITERIA
from prunec.passes.solvers import SOLVERS
from prunec.runtime.recount import COUNTERS

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sources() -> str:
    """All tests but those that only list operators, and the operators of the random graphs."""
    lists = {Path(__file__), Path(__file__).with_name("test_ops_list.py")}
    texts = [p.read_text() for p in sorted(TESTS.rglob("*.py")) if p not in lists]
    drawn = {n.op_type for name in BLOCKS for s in range(4) for n in one_block(name, s).graph.node}
    return "\n".join([*texts, *(f'"{op}"' for op in sorted(drawn))])


@pytest.mark.parametrize(
    "table",
    [RULES, EVALUATORS, COUNTERS, SHAPERS],
    ids=["rules", "constants", "cost", "shapes"],
)
def test_every_key_is_an_onnx_operator(table: dict) -> None:
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    schemas = [*onnx.defs.get_all_schemas_with_history(), *state.get_all_operator_schema()]
    known = {f"{s.domain}::{s.name}" if s.domain else s.name for s in schemas}
    assert set(table) <= known


def test_every_counter_has_a_rule() -> None:
    assert set(COUNTERS) <= set(RULES)


def test_an_operator_with_two_rules_is_refused() -> None:
    with pytest.raises(AssertionError, match="two rows: \\['Conv'\\]"):
        merge(RULES, {"Conv": RULES["Conv"]})


@pytest.mark.parametrize(
    "table",
    [RULES, CRITERIA, SOLVERS, COUNTERS, SHAPERS],
    ids=["rules", "criteria", "solvers", "counters", "shapes"],
)
def test_every_row_is_tried(table: dict, sources: str) -> None:
    # Families are tried over their whole table: test_elementwise, test_reduce.
    families = set()
    for module in ("elementwise", "reduce"):
        text = (TESTS / "compiler" / "rules" / f"test_{module}.py").read_text()
        if "parametrize" in text:
            families |= set(__import__(f"prunec.compiler.rules.{module}", fromlist=["x"]).RULES)
    missed = {
        row
        for row in table
        if row not in families
        and not re.search(rf"""["'{{}}:]{re.escape(row.rpartition("::")[2])}\b""", sources)
    }
    assert missed == set()


def test_a_component_is_named_like_its_row() -> None:
    for table in (CRITERIA, SOLVERS):
        assert {name: component.name for name, component in table.items()} == {n: n for n in table}
