"""Decoupled streams from a mask to a proven model, on a small network and on trained ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import residual
from properties.oracle import random_masks, with_joins_kept

from prunec.compiler.errors import PlanError, UsageError
from prunec.compiler.freedom import Freedom
from prunec.compiler.plan import Plan
from prunec.passes.join import slow_joins
from prunec.passes.options import Options
from prunec.passes.pipeline import Choice, make_plan, plan_of
from prunec.runtime.check_plan import check_plan
from prunec.runtime.compile import Settings, apply_plan, compile_model
from prunec.runtime.subject import Subject, open_model
from prunec.runtime.verify import verify

pytest.importorskip("onnxruntime")

MODELS = Path(__file__).parents[2].parent / "shared" / "models"
DECOUPLED = Freedom(decouple=True)


def plan(subject: Subject, mask: np.ndarray) -> Plan:
    choice = Choice(mask, 0.0, 0.0, None, None, "drawn")
    return plan_of(subject.graph, choice, (), Options(), subject.digest)


def drawn(subject: Subject, seed: int = 0) -> np.ndarray:
    (mask,) = random_masks(subject.graph, seed, 1)
    return mask


def test_a_decoupled_plan_is_applied_and_proven() -> None:
    subject = open_model(residual(), freedom=DECOUPLED)
    result = compile_model(subject, plan(subject, drawn(subject)), Settings())
    assert result.report.verification is not None
    assert result.report.verification.passed


def test_the_plan_brings_its_freedom_back() -> None:
    subject = open_model(residual(), freedom=DECOUPLED)
    made = plan(subject, drawn(subject))
    again = Plan.from_json(made.to_json())
    assert again.freedom == DECOUPLED
    check_plan(open_model(residual(), freedom=again.freedom), again)


def test_a_plan_that_carries_what_nobody_writes_is_refused() -> None:
    subject = open_model(residual(), freedom=DECOUPLED)
    mask = np.ones(subject.graph.number_of_groups + 1, bool)
    (join,) = subject.graph.joins
    for part in join.parts:
        mask[part[:1]] = False
    with pytest.raises(PlanError, match=f"{join.node} would carry a channel that nobody writes"):
        check_plan(subject, plan(subject, mask))
    mask = with_joins_kept(subject.graph, mask, np.random.default_rng(0))
    check_plan(subject, plan(subject, mask))


def test_a_plan_in_which_a_branch_writes_for_nobody_is_refused() -> None:
    subject = open_model(residual(), freedom=DECOUPLED)
    mask = np.ones(subject.graph.number_of_groups + 1, bool)
    mask[subject.graph.joins[0].out[0]] = False
    with pytest.raises(PlanError, match="drop one that a branch writes for it alone"):
        check_plan(subject, plan(subject, mask))


def test_plan_and_report_name_the_additions_that_do_not_pay() -> None:
    subject = open_model(residual(), freedom=DECOUPLED)
    mask = np.ones(subject.graph.number_of_groups + 1, bool)
    mask[subject.graph.joins[0].parts[1][0]] = False
    made = plan(subject, mask)
    slow = slow_joins(subject.graph, mask)
    assert made.slow_joins == slow == (subject.graph.joins[0].node,)
    (note,) = compile_model(subject, made, Settings(verify=False)).report.diagnostics
    assert (note.code, note.node) == ("slow-join", slow[0])


def test_scores_of_single_channels_can_not_choose_for_decoupled_streams() -> None:
    subject = open_model(residual(), freedom=DECOUPLED)
    with pytest.raises(UsageError, match="--decouple needs --objective pairwise"):
        make_plan(subject.model, subject.graph, "flops=0.5", Options(), subject.digest)


def test_memory_of_joins_is_no_budget() -> None:
    graph = open_model(residual(), freedom=DECOUPLED).graph
    assert graph.costs.keys().isdisjoint({"memory", "activations"})


@pytest.mark.parametrize("name", ["resnet20-cifar10.onnx"])
def test_trained_networks_are_proven(name: str) -> None:
    path = MODELS / name
    if not path.is_file():
        pytest.skip(f"needs {name} in ../shared")
    subject = open_model(path, freedom=DECOUPLED)
    made = plan(subject, drawn(subject, 1))
    proof = verify(subject, made, apply_plan(subject, made))
    assert proof.passed, [c for c in proof.checks if not c.passed]


def test_a_function_whose_addition_is_mended_is_left_expanded_or_called_right() -> None:
    """A call that starts before the operand of its addition is brought to other channels."""
    text = """
        <ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        net (float[1, 3, 2, 2] x) => (float[1, 2, 2, 2] y) {
            s = Conv (x, w0)
            z = own.block (s, s, w1)
            y = Conv (z, w2)
        }
        <domain: "own", opset_import: ["" : 17]>
        block (a, b, w) => (c) {
            t = Conv (a, w)
            c = Add (t, b)
        }
    """
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in (("w0", (6, 3, 1, 1)), ("w1", (6, 6, 1, 1)), ("w2", (2, 6, 1, 1))):
        array = rng.integers(1, 3, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    subject = open_model(model, freedom=DECOUPLED)
    assert len(subject.graph.joins) == 1
    for seed in range(6):
        compile_model(subject, plan(subject, drawn(subject, seed)), Settings())
