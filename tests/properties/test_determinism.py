"""Same inputs twice, and on two processes: byte-identical plan and model; golden plans replayed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nets import chain, joined, residual
from properties.graphs import one_block, random_graph

from prunec.compiler.errors import PrunecError
from prunec.compiler.freedom import Freedom
from prunec.compiler.plan import Plan
from prunec.frontends.onnx import graph_digest, load, to_proto
from prunec.passes.options import Options
from prunec.passes.pairwise import PAIRWISE_SOLVERS, Pairwise
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.subject import open_model

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden"
SEEDS = range(12)
MODELS = {
    "chain": chain,
    "joined": joined,
    "residual": residual,
    **{
        name: lambda name=name: one_block(name, 0)
        for name in ("gather", "shuffle", "split_and_add")
    },
    "closed": residual,
    "decoupled": residual,
    "kernels": residual,
}
FREEDOMS = {"decoupled": Freedom(decouple=True), "kernels": Freedom(kernels=True)}
OPTIONS = {
    "closed": Options(
        solver=Greedy(), align=1, min_keep=0, multipliers={"block.a.weight:0": 100.0}
    ),
    "decoupled": Options(solver=PAIRWISE_SOLVERS["greedy"](), objective=Pairwise(), align=1),
}


def compiled(seed: int) -> tuple[str, str]:
    """Plan and sha256 of the pruned model of a random graph, or the error's text."""
    subject = open_model(random_graph(seed))
    try:
        plan = plan_for(subject, "params=0.7", Options(solver=Greedy()), Settings())
    except PrunecError as error:
        return str(error), ""
    data = to_proto(apply_plan(subject, plan)).SerializeToString(deterministic=True)
    return plan.to_json(), hashlib.sha256(data).hexdigest()


def test_two_runs_give_the_same_bytes() -> None:
    for seed in SEEDS:
        assert compiled(seed) == compiled(seed)


def test_two_processes_with_different_hash_seeds_give_the_same_bytes() -> None:
    code = (
        "import json, sys; sys.path[:0] = json.loads(sys.argv[1]);"
        "from properties.test_determinism import SEEDS, compiled;"
        "print(json.dumps([compiled(seed) for seed in SEEDS]))"
    )
    path = json.dumps([str(TESTS), str(TESTS / "compiler")])
    ran = subprocess.run(
        [sys.executable, "-c", code, path],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert [tuple(x) for x in json.loads(ran.stdout)] == [compiled(seed) for seed in SEEDS]


def test_a_plan_comes_back_from_its_text() -> None:
    plans = [text for text, model in map(compiled, SEEDS) if model]
    assert len(plans) >= 8
    for text in plans:
        assert Plan.from_json(text).to_json() == text


def test_the_digest_ignores_float_weights_only() -> None:
    model = chain()
    before = graph_digest(load(model))
    for tensor in model.graph.initializer:
        tensor.raw_data = bytes(len(tensor.raw_data))
    assert graph_digest(load(model)) == before
    model.graph.node[0].attribute[0].name = "strides"
    assert graph_digest(load(residual())) != before


@pytest.mark.parametrize("name", sorted(MODELS))
def test_golden_plans_are_replayed(name: str) -> None:
    freedom = FREEDOMS.get(name, Freedom())
    subject = open_model(MODELS[name](), freedom=freedom)
    options = OPTIONS.get(name, Options(solver=Greedy(), align=1))
    budget = "flops=0.25" if name == "closed" else "flops=0.6"
    plan = plan_for(subject, budget, options, Settings(freedom=freedom))
    body = json.loads(plan.to_json())
    body["versions"] = {}
    text = Plan.from_json(json.dumps(body)).to_json()
    path = GOLDEN / f"{name}.json"
    if not path.exists():  # removed on purpose: write the new one, and look at the difference
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"wrote {path}; review and commit it")
    assert text == path.read_text(encoding="utf-8")
    golden = Plan.from_json(text)
    data = to_proto(apply_plan(subject, golden)).SerializeToString(deterministic=True)
    again = to_proto(apply_plan(subject, plan)).SerializeToString(deterministic=True)
    assert data == again
