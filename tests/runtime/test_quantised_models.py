"""Models that onnxruntime's quantisers write, pruned to half and proven by the oracle."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from nets import chain, residual
from onnx import TensorProto, helper, numpy_helper
from properties.builder import Builder
from properties.oracle import analyse, random_masks

from prunec.compiler.plan import Plan
from prunec.frontends.onnx import load
from prunec.passes.criteria.magnitude import Magnitude
from prunec.passes.options import Options
from prunec.passes.solvers.greedy import Greedy
from prunec.runtime.calibrate import collect
from prunec.runtime.compile import Settings, apply_plan, plan_for
from prunec.runtime.selectors import selectors
from prunec.runtime.subject import open_model
from prunec.runtime.verify import STEP_TOLERANCE, Verification, verify

pytest.importorskip("onnxruntime")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quantization = pytest.importorskip("onnxruntime.quantization")


def without_blanks(model: onnx.ModelProto) -> onnx.ModelProto:
    """The quantisers do not understand an absent input that is written out."""
    for node in model.graph.node:
        while node.input and not node.input[-1]:
            del node.input[-1]
    return model


NETS = {
    "chain": lambda: without_blanks(chain()),
    "residual": lambda: without_blanks(residual()),
}


class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # it has no types
    """Four random batches."""

    def __init__(self, model: onnx.ModelProto) -> None:
        rng = np.random.default_rng(0)
        value = model.graph.input[0]
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        self.batches: Iterator[Mapping[str, Any]] = iter(
            [{value.name: rng.standard_normal(shape).astype(np.float32)} for _ in range(4)]
        )

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self.batches, None)


def prune(source: Path | onnx.ModelProto) -> tuple[Plan, Verification]:
    """Half of the multiply-accumulates, at an alignment of 1."""
    subject = open_model(source)
    plan = plan_for(subject, "flops=0.5", Options(solver=Greedy(), align=1), Settings())
    return plan, verify(subject, plan, apply_plan(subject, plan))


def proven(source: Path | onnx.ModelProto) -> Verification:
    plan, verification = prune(source)
    verification.require()
    dense, pruned = plan.costs["flops"]
    assert 0 < pruned <= dense / 2
    return verification


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("style", ["QDQ", "QOperator"])
@pytest.mark.parametrize("net", NETS)
def test_statically_quantised(net: str, style: str, per_channel: bool, tmp_path: Path) -> None:
    source, target = tmp_path / "m.onnx", tmp_path / "q.onnx"
    onnx.save(NETS[net](), source)
    quantization.quantize_static(
        source,
        target,
        Reader(NETS[net]()),
        quant_format=quantization.QuantFormat[style],
        per_channel=per_channel,
    )
    verification = proven(target)
    assert verification.max_error == 0.0
    assert verification.tolerance < STEP_TOLERANCE


@pytest.mark.parametrize("net", NETS)
def test_dynamically_quantised(net: str, tmp_path: Path) -> None:
    source, target = tmp_path / "m.onnx", tmp_path / "q.onnx"
    onnx.save(NETS[net](), source)
    quantization.quantize_dynamic(source, target, weight_type=quantization.QuantType.QUInt8)
    proven(target)


def counts(model: onnx.ModelProto) -> dict[str, int]:
    graph = analyse(model).graph
    return {name: cost(graph.dense()) for name, cost in graph.costs.items()}


@pytest.mark.parametrize("style", ["QDQ", "QOperator"])
def test_a_quantised_model_has_the_parameters_of_its_float_form(style: str, tmp_path: Path) -> None:
    source, target = tmp_path / "m.onnx", tmp_path / "q.onnx"
    onnx.save(NETS["residual"](), source)
    quantization.quantize_static(
        source, target, Reader(residual()), quant_format=quantization.QuantFormat[style]
    )
    floats, integers = counts(residual()), counts(onnx.load(target))
    assert integers["params"] == floats["params"] == integers["bytes"]
    assert floats["bytes"] == 4 * floats["params"]
    assert integers["flops"] == floats["flops"]


def packed(flat: bool, zeros: bool, level: int = 0) -> onnx.ModelProto:
    """Three MatMulNBits in a row, 4 bits in blocks of 16."""
    b = Builder(0, 17, batch=1)
    x = b.input(3, 32)
    for k, n in ((32, 64), (64, 96), (96, 5)):
        blocks = k // 16
        table, bytes_ = [n, blocks], [n, blocks // 2]
        scales = b.rng.uniform(0.01, 0.02, table).astype(np.float32)
        inputs = [x, b.store(b.rng.integers(0, 256, (n, blocks, 8), np.uint8))]
        inputs.append(b.store(scales.reshape(-1) if flat else scales))
        if zeros:
            array = b.rng.integers(0, 256, bytes_, np.uint8)
            inputs.append(b.store(array.reshape(-1) if flat else array))
        sizes = {"K": k, "N": n, "bits": 4, "block_size": 16, "accuracy_level": level}
        x = b.contrib("MatMulNBits", inputs, (3, n), TensorProto.FLOAT, **sizes)
    b.output(x)
    return b.model()


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_weights_of_four_bits_lose_whole_blocks(flat: bool, zeros: bool) -> None:
    plan, verification = prune(packed(flat, zeros))
    verification.require()
    rows = [len(cut[0]) for cut in plan.weights.values() if 0 in cut]
    assert rows and all(n % (32 if zeros else 16) == 0 for n in rows)
    assert plan.costs["flops"][1] <= plan.costs["flops"][0] / 2
    assert plan.costs["params"][0] == 2 * plan.costs["bytes"][0]


def test_what_rounds_activations_is_held_to_a_step() -> None:
    assert prune(packed(False, False, level=4))[1].tolerance == STEP_TOLERANCE
    assert prune(packed(False, False))[1].tolerance < STEP_TOLERANCE


def test_half_bytes_add_up_exactly_and_are_rounded_up() -> None:
    """5 x 3 numbers of 4 bits are seven and a half bytes."""
    b = Builder(0, 21, batch=1)
    numbers = b.store(b.rng.integers(1, 7, (5, 3)).astype(ml_dtypes.int4))
    w = b.add("DequantizeLinear", [numbers, b.store(np.float32(0.5))])
    b.output(b.add("MatMul", [b.input(2, 5), w], (2, 3)))
    assert counts(b.model()).items() >= {"flops": 30, "params": 15, "bytes": 8}.items()


def scored(model: onnx.ModelProto) -> np.ndarray:
    case = analyse(model)
    return Magnitude()(case.model, case.graph, None)


def test_a_quantised_weight_is_scored_by_the_numbers_that_it_stands_for() -> None:
    def net(integers: bool) -> onnx.ModelProto:
        b = Builder(3, 17, batch=1)
        x, w = b.input(1, 3, 2, 2), b.rng.integers(-9, 9, (8, 3, 1, 1)).astype(np.int8)
        scale, zero = b.rng.choice([0.5, 4.0], 8).astype(np.float32), np.full(8, 2, np.int8)
        if integers:
            stored = [b.store(w), b.store(scale), b.store(zero)]
            weight = b.add("DequantizeLinear", stored, axis=0)
        else:
            weight = b.store((w - 2.0).astype(np.float32) * scale.reshape(-1, 1, 1, 1))
        y = b.conv_with(x, weight, bias=False)
        b.output(b.conv_with(y, b.store(np.ones((3, 8, 1, 1), np.float32)), bias=False))
        return b.model()

    np.testing.assert_allclose(scored(net(True)), scored(net(False)))


def test_one_term_weights_of_integers_are_the_zero_point_but_for_one() -> None:
    model = chain()
    case = analyse(quantised_by_hand(model))
    (mask,) = random_masks(case.graph, 0, 1)
    contents = selectors(case.model, case.graph, mask, 0)["conv1.int8"].numpy()
    rows = contents.reshape(8, -1).astype(int)
    assert contents.dtype == np.int8
    assert ((rows != 3).sum(1) == 1).all()
    assert set(rows[rows != 3].tolist()) <= {127, -128}


def quantised_by_hand(model: onnx.ModelProto) -> onnx.ModelProto:
    """conv1.weight as int8 with a zero point of 3."""
    graph = model.graph
    (stored,) = [t for t in graph.initializer if t.name == "conv1.weight"]
    array = numpy_helper.to_array(stored)
    graph.initializer.remove(stored)
    for name, contents in (
        ("conv1.int8", (array + 3).astype(np.int8)),
        ("conv1.scale", np.float32(1)),
        ("conv1.zero", np.int8(3)),
    ):
        graph.initializer.append(numpy_helper.from_array(np.asarray(contents), name))
    inputs = ["conv1.int8", "conv1.scale", "conv1.zero"]
    graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, ["conv1.weight"], "dq"))
    return model


def test_merged_zero_points_do_not_tie_layers() -> None:
    """torch stores the zero points (all 0) of all layers of one width once."""
    b = Builder(0, 17, batch=1)
    x, zeros = b.input(1, 3, 2, 2), b.store(np.zeros(6, np.int8))
    for _ in range(2):
        shape = (6, b.shapes[x][1], 1, 1)
        inputs = [b.store(b.rng.integers(1, 9, shape).astype(np.int8))]
        inputs += [b.store(np.arange(1, 7).astype(np.float32)), zeros]
        x = b.conv_with(x, b.add("DequantizeLinear", inputs, axis=0), bias=False)
    b.output(b.conv(x, 3))
    assert len(analyse(b.model()).graph.edges) == 2


def test_activations_of_integers_count_from_their_zero_point() -> None:
    b = Builder(0, 17, batch=1)
    x, scale = b.input(1, 3, 2, 2), b.store(np.float32(0.5))
    zero = b.store(np.array(7, np.uint8))
    q = b.add("QuantizeLinear", [x, scale, zero])
    w = [b.store(np.ones((2, 3, 1, 1), np.int8)), scale, b.store(np.int8(0))]
    y = b.add("QLinearConv", [q, scale, zero, *w, scale, zero], (1, 2, 2, 2))
    b.output(b.add("DequantizeLinear", [y, scale, zero]))
    model = load(b.model())
    data = np.array([0, 1, -2], np.float32).reshape(1, 3, 1, 1) * np.ones((1, 3, 2, 2), np.float32)
    stats = collect(model, [(q, 1)], [{x: data}], zeros={q: zero})
    assert stats.mean_abs[q, 1].tolist() == [0, 2, 4]
    assert stats.nonzero[q, 1].tolist() == [0, 1, 1]


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_quantised_branch_vanishes(tmp_path: Path, per_channel: bool) -> None:
    """Its bias is quantised, and so is what is left of the branch."""
    model = without_blanks(residual())
    bias = np.linspace(-1, 1, 8, dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    next(n for n in model.graph.node if "block.b.weight" in n.input).input.append("bias")
    onnx.save(model, tmp_path / "net.onnx")
    quantization.quantize_static(
        tmp_path / "net.onnx",
        tmp_path / "qdq.onnx",
        Reader(model),
        per_channel=per_channel,
        quant_format=quantization.QuantFormat.QDQ,
    )
    subject = open_model(tmp_path / "qdq.onnx")
    ((inner,),) = subject.graph.branches
    names = tuple(e.name for k, e in enumerate(subject.graph.edges) if k != inner)
    options = Options(solver=Greedy(), min_keep=0, keep=names)
    plan = plan_for(subject, "flops=0.3", options, Settings())
    assert plan.counts(subject.graph)[inner] == 0
    verify(subject, plan, apply_plan(subject, plan)).require()
