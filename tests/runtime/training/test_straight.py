"""Fake quantisation: the integers of onnxruntime forwards, a true saturation mask backwards."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from prunec.compiler.quantisation import Grid
from prunec.runtime.training.grids import LearnedGrid
from prunec.runtime.training.straight import fake_quantised

SCALE, ZERO = torch.tensor([0.125]), torch.tensor([0])


def through_onnxruntime(x: np.ndarray, grid: Grid) -> np.ndarray:
    """QuantizeLinear and DequantizeLinear of opset 21."""
    kinds = {
        (4, True): TensorProto.INT4, (4, False): TensorProto.UINT4,
        (8, True): TensorProto.INT8, (8, False): TensorProto.UINT8,
    }  # fmt: skip
    kind = kinds[grid.bits, grid.signed]
    axis = {} if grid.axis is None else {"axis": grid.axis}
    shape = [] if grid.axis is None else [len(grid.scale)]
    zero = helper.make_tensor("z", kind, shape, grid.zero.tolist())
    scale = helper.make_tensor("s", TensorProto.FLOAT, shape, grid.scale.tolist())
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **axis),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **axis),
    ]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in "xy"]
    graph = helper.make_graph(nodes, "qdq", infos[:1], infos[1:], [scale, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_forwards_is_what_onnxruntime_computes(bits: int, signed: bool, axis: int | None) -> None:
    rng = np.random.default_rng(bits)
    count = {None: 1, 0: 6, 1: 5}[axis]
    top = 2 ** (bits - signed) - 1
    zero = np.zeros(count) if signed else rng.integers(0, top, count)
    grid = Grid(bits, signed, rng.uniform(0.01, 0.1, count), zero, axis)
    x = (rng.standard_normal((6, 5, 7)) * grid.scale.max() * top).astype(np.float32)
    found = LearnedGrid(grid)(torch.from_numpy(x)).detach().numpy()
    assert np.array_equal(found, through_onnxruntime(x, grid))
    assert np.array_equal(found, grid.fake(x))


def test_ties_go_to_the_even_integer_and_ends_are_clamped() -> None:
    x = torch.tensor([-2, -1, -0.5, 0.0625, 0.1875, 0.99, 1, 2])
    y = fake_quantised(x, SCALE, ZERO, -8, 7)
    assert y.tolist() == [-1, -1, -0.5, 0, 0.25, 0.875, 0.875, 0.875]


def test_gradients_pass_where_nothing_saturates() -> None:
    """0.93 is beyond the last value, 0.875, but rounds to it unclamped; 0.94 does not."""
    x = torch.tensor([-1.07, -1.06, 0.3, 0.93, 0.94, 5], requires_grad=True)
    fake_quantised(x, SCALE, ZERO, -8, 7).backward(torch.tensor([1.0, 2, 300, 4, 5, 6]))
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 300, 4, 0, 0]


def test_the_mask_follows_the_zero_point() -> None:
    """The published code clips the gradient's value instead (SEEDS.md 3.4, 3)."""
    x = torch.tensor([-1.2, -1.0, 0.0, 0.7, 1.1], requires_grad=True)
    fake_quantised(x, SCALE, torch.tensor([9]), 0, 15).backward(torch.ones(5))
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_the_gradient_of_the_scale_is_that_of_learned_step_sizes() -> None:
    scale = torch.tensor([0.5], requires_grad=True)
    x = torch.tensor([0.6, 9.0, -9.0])
    fake_quantised(x, scale, ZERO, -8, 7, gain=0.1).backward(torch.tensor([1.0, 10, 100]))
    assert scale.grad is not None
    expected = 0.1 * (1 * (1 - 1.2) + 10 * 7 + 100 * -8)
    assert scale.grad.item() == pytest.approx(expected)


def test_the_gradient_of_scales_per_channel_is_summed_over_the_others() -> None:
    grid = Grid(4, True, np.array([0.5, 0.25]), np.zeros(2), axis=1)
    learned = LearnedGrid(grid)
    x = torch.full((3, 2, 4), 100.0)
    learned(x).sum().backward()
    assert learned.scale.grad is not None
    assert learned.scale.grad.tolist() == pytest.approx([12 * 7 / (12 * 7) ** 0.5] * 2)


def test_half_precision_is_rounded_once_in_the_end() -> None:
    x = torch.linspace(-2, 2, 999)
    fine = fake_quantised(x.bfloat16(), SCALE, ZERO, -128, 127)
    assert fine.dtype == torch.bfloat16
    assert torch.equal(
        fine, fake_quantised(x.bfloat16().float(), SCALE, ZERO, -128, 127).bfloat16()
    )


def test_a_scale_that_was_turned_around_stays_positive() -> None:
    learned = LearnedGrid(Grid(4, True, np.array([0.5]), np.zeros(1)))
    with torch.no_grad():
        learned.scale.fill_(-1.0)
    assert learned.grid().scale[0] > 0
    assert torch.isfinite(learned(torch.ones(2))).all()
