from __future__ import annotations

import numpy as np
import onnx_ir as ir

from prunec.passes.simplify.unflatten import unflatten

ROWS, BLOCKS = 6, 4


def model(scales: np.ndarray, zeros: np.ndarray | None = None, second: str = "") -> ir.Model:
    """A MatMulNBits; `second` names another operator that reads its scales too."""
    x = ir.Value(name="x", shape=ir.Shape([2, 64]), type=ir.TensorType(ir.DataType.FLOAT))
    arrays = {"w": np.zeros((ROWS, BLOCKS, 8), np.uint8), "s": scales, "z": zeros}
    stored = [
        ir.Value(name=k, const_value=ir.tensor(a)) for k, a in arrays.items() if a is not None
    ]
    sizes = {"K": 64, "N": ROWS, "bits": 4, "block_size": 16}
    attributes = [ir.AttrInt64(k, n) for k, n in sizes.items()]
    node = ir.Node(
        "com.microsoft", "MatMulNBits", [x, *stored], attributes, num_outputs=1, name="m"
    )
    nodes = [node]
    if second:
        nodes.append(ir.Node("", second, [stored[1]], num_outputs=1, name="other"))
    graph = ir.Graph([x], [node.outputs[0]], nodes=nodes, initializers=stored)
    return ir.Model(graph, ir_version=10)


def contents(of: ir.Model, name: str) -> np.ndarray:
    tensor = of.graph.initializers[name].const_value
    assert tensor is not None
    assert list(tensor.shape.numpy()) == list(of.graph.initializers[name].shape or ())
    return tensor.numpy()


def test_flat_scales_and_zero_points_get_two_axes() -> None:
    scales = np.arange(ROWS * BLOCKS, dtype=np.float32)
    zeros = np.arange(ROWS * BLOCKS // 2, dtype=np.uint8)
    changed = unflatten(model(scales, zeros))
    assert np.array_equal(contents(changed, "s"), scales.reshape(ROWS, BLOCKS))
    assert np.array_equal(contents(changed, "z"), zeros.reshape(ROWS, BLOCKS // 2))


def test_the_model_itself_stays() -> None:
    flat = model(np.zeros(ROWS * BLOCKS, np.float32))
    unflatten(flat)
    assert flat.graph.initializers["s"].const_value.shape == [ROWS * BLOCKS]


def test_what_has_two_axes_already_is_returned_as_it_is() -> None:
    done = model(np.zeros((ROWS, BLOCKS), np.float32))
    assert unflatten(done) is done


def test_a_scale_for_each_row_alone_stays_flat() -> None:
    done = model(np.zeros(ROWS, np.float32))
    assert unflatten(done) is done


def test_a_table_that_others_read_stays_flat() -> None:
    shared = model(np.zeros(ROWS * BLOCKS, np.float32), second="Abs")
    assert unflatten(shared) is shared
