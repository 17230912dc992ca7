"""--residual and --heads, from the command line to the plan and back."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import helper, numpy_helper
from tiny import array, prunec

Capture = pytest.CaptureFixture[str]
WIDTH, HEADS, TOKENS = 16, 4, 5


@pytest.fixture
def transformer(tmp_path: Path) -> Path:
    """One block: LayerNormalization, attention with 4 heads of 4, residual, head."""
    stored: dict[str, object] = {}

    def weight(name: str, *shape: int) -> str:
        stored[name] = numpy_helper.from_array(array(*shape, seed=len(stored)), name)
        return name

    nodes = []

    def add(op: str, inputs: list[str], out: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [out], name=out, **attributes))
        return out

    x = add("MatMul", ["x", weight("embed", 3, WIDTH)], "stream")
    norm = [x, weight("scale", WIDTH), weight("shift", WIDTH)]
    z = add("LayerNormalization", norm, "norm")
    target = helper.make_tensor("split", onnx.TensorProto.INT64, [4], [0, 0, HEADS, -1])
    back = helper.make_tensor("merge", onnx.TensorProto.INT64, [3], [0, 0, -1])
    stored |= {"split": target, "merge": back}
    parts = {}
    for part, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        y = add("MatMul", [z, weight(f"{part}.weight", WIDTH, WIDTH)], part)
        y = add("Reshape", [y, "split"], f"{part}.split")
        parts[part] = add("Transpose", [y], f"{part}.heads", perm=perm)
    y = add("Softmax", [add("MatMul", [parts["q"], parts["k"]], "scores")], "attention")
    y = add("MatMul", [y, parts["v"]], "read")
    y = add("Reshape", [add("Transpose", [y], "back", perm=[0, 2, 1, 3]), "merge"], "joined")
    y = add("MatMul", [y, weight("out.weight", WIDTH, WIDTH)], "out")
    y = add("Add", [x, y], "sum")
    y = add("MatMul", [y, weight("head", WIDTH, 2)], "y")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [info("x", 1, [1, TOKENS, 3])], [info(y, 1, None)], list(stored.values())
    )
    graph.output[0].CopyFrom(info(y, 1, [1, TOKENS, 2]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def sizes(path: Path) -> dict[str, list[int]]:
    return {t.name: list(t.dims) for t in onnx.load(path).graph.initializer}


def test_the_stream_stays_unless_asked(transformer: Path, capsys: Capture) -> None:
    budget = ("--budget", "flops=0.2", "--align", "1")
    refused = prunec(capsys, transformer, *budget)
    assert refused.code == 3
    assert "what would free norm-statistics: `--residual`" in refused.err
    done = prunec(capsys, transformer, *budget, "--residual")
    assert done.code == 0, done.err
    assert sizes(transformer.with_suffix(".pruned.onnx"))["scale"][0] < WIDTH


def test_the_plan_remembers_what_was_allowed(transformer: Path, capsys: Capture) -> None:
    plan, again = transformer.with_suffix(".plan.json"), transformer.parent / "again.onnx"
    first = transformer.with_suffix(".pruned.onnx")
    options = ("--budget", "flops=0.4", "--align", "1", "--residual", "--heads")
    assert prunec(capsys, transformer, *options).code == 0
    assert json.loads(plan.read_text())["options"]["residual"] is True
    done = prunec(capsys, "apply", transformer, plan, "-o", again)
    assert done.code == 0, done.err
    assert again.read_bytes() == first.read_bytes()
    assert prunec(capsys, "verify", transformer, again, plan).code == 0


def test_heads_leave_whole(transformer: Path, capsys: Capture) -> None:
    options = ("--budget", "flops=0.6", "--align", "1")
    for flag in ("--heads", "--no-heads"):
        assert prunec(capsys, transformer, *options, flag).code == 0
        stored = onnx.load(transformer.with_suffix(".pruned.onnx")).graph.initializer
        splits = [numpy_helper.to_array(t) for t in stored if t.name.startswith("split")]
        assert [split[2] < HEADS for split in splits] == [flag == "--heads"] * len(splits)
