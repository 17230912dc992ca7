"""Gates of 0 and 1 equal the gated model; gates of single samples act on them alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from properties.builder import feeds  # noqa: E402 - after the check for torch
from properties.graphs import BLOCKS, one_block, random_graph  # noqa: E402
from properties.oracle import random_masks  # noqa: E402

from prunec.compiler.errors import ModelError  # noqa: E402
from prunec.compiler.freedom import Freedom  # noqa: E402
from prunec.frontends.onnx import to_proto  # noqa: E402
from prunec.passes.gate import gate  # noqa: E402
from prunec.runtime.session import make_session  # noqa: E402
from prunec.runtime.subject import Subject, open_model  # noqa: E402
from prunec.runtime.torch_view import TorchView, torch_view  # noqa: E402
from prunec.runtime.torch_view.gated import GatedView  # noqa: E402
from prunec.runtime.torch_view.points import points_of  # noqa: E402

FREEDOMS = (Freedom(heads=True), Freedom(decouple=True), Freedom(kernels=True))
# Whether float32 sums are taken in another order; outputs are of the order of 1.
TOLERANCE = 1e-4


def view_of(subject: Subject) -> TorchView | None:
    """The view, or None for operators that it doesn't have."""
    try:
        return torch_view(subject.model).eval()
    except ModelError:
        return None


def holds(proto: onnx.ModelProto, seed: int, freedom: Freedom) -> bool:
    """Whether there is a view; its gated outputs are then checked."""
    subject = open_model(proto, freedom=freedom)
    view = view_of(subject)
    if view is None:
        return False
    gated, given = GatedView(subject, view), feeds(proto, seed)
    tensors = {name: torch.as_tensor(x) for name, x in given.items()}
    for mask in random_masks(subject.graph, seed, 1):
        model = gate(subject.model, subject.facts, subject.graph, mask)
        want = make_session(to_proto(model).SerializeToString(), optimise=False).run(given)
        with torch.no_grad():
            got = gated(tensors, torch.as_tensor(mask[None, :-1].astype(np.float32)))
        for value, array in zip(subject.model.graph.outputs, want, strict=True):
            error = np.abs(array - got[value.name].numpy()).max(initial=0)
            assert error <= TOLERANCE * max(1, np.abs(array).max(initial=0)), (value.name, error)
    return True


def test_zero_gates_equal_the_gated_model_around_every_block() -> None:
    held = [name for name in sorted(BLOCKS) if holds(one_block(name, 100), 100, Freedom())]
    assert len(held) > 70, sorted(BLOCKS.keys() - set(held))


def test_zero_gates_equal_the_gated_model_with_more_freedom() -> None:
    """Each freedom on a sixth of the blocks."""
    for k, freedom in enumerate(FREEDOMS):
        blocks = [one_block(name, 101) for name in sorted(BLOCKS)[k::6]]
        assert sum(holds(proto, 101, freedom) for proto in blocks) > 10, freedom


def test_zero_gates_equal_the_gated_model_on_random_graphs() -> None:
    assert sum(holds(random_graph(seed), seed, Freedom()) for seed in range(10)) > 2


def net(
    nodes: list[onnx.NodeProto],
    weights: dict[str, tuple[int, ...]],
    shape: list[int | str],
    output: list[int | str],
) -> onnx.ModelProto:
    """A model from x to y with random weights."""
    rng = np.random.default_rng(0)
    stored = [
        numpy_helper.from_array(rng.standard_normal(size).astype(np.float32), name)
        for name, size in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tokens_first() -> onnx.ModelProto:
    """x (batch, 5, 3): two layers over (5, batch, channels), as PyTorch's transformers store it."""
    make = helper.make_node
    return net(
        [
            make("Transpose", ["x"], ["t"], "t", perm=[1, 0, 2]),
            make("MatMul", ["t", "a"], ["h"], "h"),
            make("Relu", ["h"], ["r"], "r"),
            make("MatMul", ["r", "b"], ["z"], "z"),
            make("ReduceSum", ["z", "axes"], ["y"], "s", keepdims=0),
        ],
        {"a": (3, 6), "b": (6, 4)},
        ["batch", 5, 3],
        ["batch", 4],
    )


def folded_batch() -> onnx.ModelProto:
    """x (batch, 4, 3): rows of all samples under each other, (4 * batch, channels)."""
    make = helper.make_node
    return net(
        [
            make("Reshape", ["x", "rows"], ["t"], "t"),
            make("MatMul", ["t", "a"], ["h"], "h"),
            make("Sigmoid", ["h"], ["r"], "r"),
            make("MatMul", ["r", "b"], ["z"], "z"),
            make("Reshape", ["z", "back"], ["y"], "s"),
        ],
        {"a": (3, 6), "b": (6, 2)},
        ["batch", 4, 3],
        ["batch", 8],
    )


def with_integers(proto: onnx.ModelProto, **arrays: list[int]) -> onnx.ModelProto:
    for name, numbers in arrays.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        with_integers(tokens_first(), axes=[0]),
        with_integers(folded_batch(), rows=[-1, 3], back=[-1, 8]),
    ],
    ids=["tokens_first", "folded_batch"],
)
def test_gates_of_a_sample_act_on_it_alone(proto: onnx.ModelProto) -> None:
    subject = open_model(proto)
    gated = GatedView(subject, torch_view(subject.model).eval())
    rng = np.random.default_rng(1)
    x = torch.as_tensor(rng.standard_normal((3, *subject.facts.shapes["x"][1:]), np.float32))
    gates = torch.as_tensor(rng.random((3, gated.number_of_groups)).astype(np.float32))
    together = gated({"x": x}, gates)["y"]
    for b in range(3):
        alone = gated({"x": x[b : b + 1]}, gates[b : b + 1])["y"]
        torch.testing.assert_close(together[b : b + 1], alone, rtol=1e-5, atol=1e-5)


def test_a_weight_that_is_read_through_gates_has_no_gates_per_sample() -> None:
    make = helper.make_node
    proto = net(
        [make("Conv", ["x", "a"], ["h"], "h"), make("Conv", ["h", "b"], ["y"], "c")],
        {"a": (4, 3, 3, 3), "b": (2, 4, 1, 1)},
        ["batch", 3, 6, 6],
        ["batch", 2, 4, 4],
    )
    subject = open_model(proto, freedom=Freedom(kernels=True))
    assert any(point.shared for point in points_of(subject))
    gated = GatedView(subject, torch_view(subject.model).eval())
    with pytest.raises(ModelError, match="one for all samples"):
        gated({"x": torch.zeros(2, 3, 6, 6)}, torch.ones(2, gated.number_of_groups))


def test_a_channel_counts_once_along_a_chain() -> None:
    """Conv, BatchNormalization, Relu, Conv: the output is linear in each gate."""
    make = helper.make_node
    proto = net(
        [
            make("Conv", ["x", "a"], ["h"], "h"),
            make("BatchNormalization", ["h", "s", "o", "m", "v"], ["n"], "n"),
            make("Relu", ["n"], ["r"], "r"),
            make("Conv", ["r", "b"], ["y"], "c"),
        ],
        {"a": (4, 3, 1, 1), "s": (4,), "o": (4,), "m": (4,), "b": (2, 4, 1, 1)},
        ["batch", 3, 2, 2],
        ["batch", 2, 2, 2],
    )
    variance = np.ones(4, np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(variance, "v"))
    subject = open_model(proto)
    gated = GatedView(subject, torch_view(subject.model).eval())
    x = {"x": torch.as_tensor(np.random.default_rng(2).standard_normal((1, 3, 2, 2), np.float32))}
    zero, half, one = (gated(x, torch.full((1, 4), g))["y"] for g in (0.0, 0.5, 1.0))
    torch.testing.assert_close(half, (zero + one) / 2)


def test_of_two_activations_that_are_multiplied_one_is_gated() -> None:
    """Queries and keys: positions of a head leave both, but count once."""
    make = helper.make_node
    proto = net(
        [
            make("MatMul", ["x", "q"], ["queries"], "q"),
            make("MatMul", ["x", "k"], ["keys"], "k"),
            make("Transpose", ["keys"], ["turned"], "t", perm=[0, 2, 1]),
            make("MatMul", ["queries", "turned"], ["y"], "scores"),
        ],
        {"q": (3, 6), "k": (3, 6)},
        ["batch", 5, 3],
        ["batch", 5, 5],
    )
    points = points_of(open_model(proto))
    assert [(point.node, point.position) for point in points] == [("scores", 0)]
    assert sorted(points[0].groups.tolist()) == list(range(6))


def test_gates_move_running_statistics_once_a_call() -> None:
    """As the view itself does, though shapes are looked at with the first call."""
    make = helper.make_node
    proto = net(
        [
            make("Conv", ["x", "a"], ["c"], "c"),
            make("BatchNormalization", ["c", "g", "s", "m", "v"], ["n"], "n"),
            make("Relu", ["n"], ["r"], "r"),
            make("Conv", ["r", "b"], ["y"], "z"),
        ],
        {"a": (6, 3, 1, 1), "g": (6,), "s": (6,), "m": (6,), "v": (6,), "b": (2, 6, 1, 1)},
        ["batch", 3, 4, 4],
        ["batch", 2, 4, 4],
    )
    subject = open_model(proto)
    x = torch.as_tensor(np.random.default_rng(1).standard_normal((3, 3, 4, 4)).astype(np.float32))
    alone, gated = (torch_view(subject.model).train() for _ in range(2))
    alone({"x": x})
    GatedView(subject, gated)({"x": x}, torch.ones(len(x), subject.graph.number_of_groups))
    assert gated.training
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(gated.state_dict()[name], value, msg=name)
