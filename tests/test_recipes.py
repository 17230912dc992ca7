"""The recipes of CONTRIBUTING.md, followed: their code runs, and what it adds can be used."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from prunec.compiler.costs import COSTS
from prunec.compiler.extensions import load_extensions
from prunec.compiler.facts import Facts
from prunec.compiler.interpret import interpret
from prunec.compiler.rules import RULES
from prunec.compiler.spec import parse
from prunec.passes.criteria import CRITERIA
from prunec.passes.options import Options
from prunec.passes.pipeline import make_plan

RECIPES = Path(__file__).parents[1] / "CONTRIBUTING.md"
F = np.dtype(np.float32)


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the code blocks of the recipes define, imported as one module."""
    if not RECIPES.exists():
        pytest.skip("CONTRIBUTING.md is not part of an installed package")
    blocks = re.findall(r"```python\n(.*?)```", RECIPES.read_text(), re.DOTALL)
    path = tmp_path_factory.mktemp("recipes") / "followed_recipes.py"
    path.write_text("from __future__ import annotations\n\n" + "\n\n".join(blocks))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield vars(module)
    del sys.modules[path.stem]


def rolled_network() -> tuple[ir.Model, Facts]:
    """Two 1x1 convolutions with an unknown operator, example::Roll, between them."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> ir.Value:
        array = rng.standard_normal(shape).astype(np.float32)
        return ir.Value(name=name, const_value=ir.tensor(array, name=name))

    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 3, 4, 4]))
    a, b = weight("a", 8, 3, 1, 1), weight("b", 2, 8, 1, 1)
    first = ir.Node("", "Conv", [x, a], name="first")
    roll = ir.Node("example", "Roll", [first.outputs[0]], name="roll")
    last = ir.Node("", "Conv", [roll.outputs[0], b], name="last")
    for node, name in ((first, "u"), (roll, "v"), (last, "y")):
        node.outputs[0].name = name
    graph = ir.Graph(
        [x], last.outputs, nodes=[first, roll, last], initializers=[a, b], name="g",
        opset_imports={"": 17, "example": 1},
    )  # fmt: skip
    shapes = {
        "x": (1, 3, 4, 4), "a": (8, 3, 1, 1), "b": (2, 8, 1, 1),
        "u": (1, 8, 4, 4), "v": (1, 8, 4, 4), "y": (1, 2, 4, 4),
    }  # fmt: skip
    return ir.Model(graph, ir_version=9), Facts(shapes, dict.fromkeys(shapes, F), {}, {})


def test_an_added_op_lets_channels_through(added: dict[str, Any]) -> None:
    model, facts = rolled_network()
    without = interpret(model, facts)
    graph = interpret(model, facts, {**RULES, **added["RULES"]})
    assert not without.edges
    assert [(e.name, e.size) for e in graph.edges] == [("a:0", 8)]
    assert graph.axes["b", 1].tolist() == np.roll(graph.axes["a", 0], 1).tolist()


def test_a_new_op_takes_at_most_ten_lines() -> None:
    block = re.findall(r"```python\n(.*?)```", RECIPES.read_text(), re.DOTALL)[0]
    assert "RULES = " in block
    assert len([line for line in block.splitlines() if line.strip()]) <= 10


def test_the_recipe_is_a_module_for_rules_as_it_stands(added: dict[str, Any]) -> None:
    found = load_extensions([sys.modules[added["__name__"]]])
    model, facts = rolled_network()
    assert [e.name for e in interpret(model, facts, found.rules).edges] == ["a:0"]


def test_an_added_criterion_takes_options_and_decides(added: dict[str, Any]) -> None:
    model, facts = rolled_network()
    graph = interpret(model, facts, {**RULES, **added["RULES"]})
    first = parse("first{reverse=true}", {**CRITERIA, **added["CRITERIA"]}, "criterion")
    plan = make_plan(model, graph, "flops=0.5", Options(criterion=first, align=1), "digest")
    assert plan.hyperedges["a:0"].positions == (4, 5, 6, 7)
    assert plan.components["criterion"] == "first{reverse=true}"


def test_an_added_cost_can_be_budgeted(
    added: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunec.compiler.assemble.COSTS", {**COSTS, **added["COSTS"]})
    model, facts = rolled_network()
    graph = interpret(model, facts, {**RULES, **added["RULES"]})
    assert graph.costs["outputs"](graph.dense()) == 8 + 2
    plan = make_plan(model, graph, "outputs=0.6", Options(align=1), "digest")
    assert plan.costs["outputs"] == (10, 6)


def test_an_added_solver_is_used_and_recorded(added: dict[str, Any]) -> None:
    model, facts = rolled_network()
    graph = interpret(model, facts, {**RULES, **added["RULES"]})
    solver = parse("thinnest", added["SOLVERS"], "solver")
    plan = make_plan(model, graph, "flops=0.5", Options(solver=solver, align=1), "digest")
    assert len(plan.hyperedges["a:0"].positions) == 1
    assert plan.components["solved_by"] == "thinnest"


def test_an_added_permutation_has_its_blocks(added: dict[str, Any]) -> None:
    own = parse("interleaved", added["PERMUTATIONS"], "permutation")
    assert own(np.ones((4, 2)), 2).outputs == (0, 1, 0, 1)


def test_an_added_quantiser_makes_grids(added: dict[str, Any]) -> None:
    quantiser = parse("step{size=0.5}", added["QUANTISERS"], "quantiser")
    grid = quantiser(np.array([-1.0]), np.array([9.0]), 4)
    assert grid.fake(np.array([0.7, 9.0])).tolist() == [0.5, 3.5]
    assert quantiser.alone() is quantiser
