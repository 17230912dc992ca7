"""Gradients at the gates against other ways to compute them, and the losses by their formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")

from prunec.compiler.errors import DataError, UsageError  # noqa: E402 - after the check for torch
from prunec.compiler.stats import Gradients  # noqa: E402
from prunec.passes.criteria.fisher import Fisher  # noqa: E402
from prunec.passes.criteria.taylor import Taylor  # noqa: E402
from prunec.runtime.compile import Settings  # noqa: E402
from prunec.runtime.data import DataSpec  # noqa: E402
from prunec.runtime.gradients import PerSample, collect  # noqa: E402
from prunec.runtime.subject import Subject, open_model  # noqa: E402
from prunec.runtime.torch_view import torch_view  # noqa: E402
from prunec.runtime.torch_view.gated import GatedView  # noqa: E402

DEVICE = torch.device("cpu")
CLASSES = 5


def net(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], rank: int = 2) -> ir.Model:
    """A model from x (batch, 3[, 6, 6]) to y."""
    space: list[int | str] = [6, 6] if rank == 4 else []
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, *space])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=8))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def residual() -> ir.Model:
    """Two convolutions on a residual stream of 6 channels, then classes."""
    make = helper.make_node
    vectors = {"s": normal(6, seed=4), "o": normal(6, seed=5), "m": normal(6, seed=6)}
    return net(
        [
            make("Conv", ["x", "a"], ["stem"], "stem", pads=[1, 1, 1, 1]),
            make("Conv", ["stem", "b"], ["inner"], "inner", pads=[1, 1, 1, 1]),
            make("BatchNormalization", ["inner", "s", "o", "m", "v"], ["bn"], "bn"),
            make("Relu", ["bn"], ["relu"], "relu"),
            make("Conv", ["relu", "c"], ["branch"], "branch"),
            make("Add", ["stem", "branch"], ["sum"], "sum"),
            make("Tanh", ["sum"], ["out"], "out"),
            make("GlobalAveragePool", ["out"], ["pooled"], "pool"),
            make("Flatten", ["pooled"], ["flat"], "flat"),
            make("Gemm", ["flat", "d", "e"], ["y"], "fc", transB=1),
        ],
        {
            "a": normal(4, 3, 3, 3, seed=1),
            "b": normal(6, 4, 3, 3, seed=2) / 3,
            "c": normal(4, 6, 1, 1, seed=3),
            **vectors,
            "v": np.ones(6, np.float32),
            "d": normal(CLASSES, 4, seed=7),
            "e": normal(CLASSES, seed=8),
        },
        rank=4,
    )


def linear(ends: str = "") -> ir.Model:
    """y = D (C x), 7 hidden channels, maybe followed by Softmax or LogSoftmax."""
    make = helper.make_node
    nodes = [
        make("Gemm", ["x", "c"], ["h"], "h", transB=1),
        make("Gemm", ["h", "d"], ["z" if ends else "y"], "z", transB=1),
    ]
    nodes += [make(ends, ["z"], ["y"], "p")] if ends else []
    return net(nodes, {"c": normal(7, 3, seed=1), "d": normal(CLASSES, 7, seed=2)})


def data(folder: Path, rank: int = 2, count: int = 9, labelled: bool = True) -> DataSpec:
    x = normal(count, 3, *([6, 6] if rank == 4 else []), seed=9)
    labels = {"labels": np.arange(count) % CLASSES} if labelled else {}
    np.savez(folder / "data.npz", x=x, **labels)
    return DataSpec(str(folder / "data.npz"))


def moments(model: ir.Model, criterion: Fisher | Taylor, spec: DataSpec) -> Gradients:
    stats = collect(open_model(model), criterion, Settings(data=spec), lambda _: None)
    assert stats.gradients is not None
    return stats.gradients


def per_sample(subject: Subject, criterion: Fisher | Taylor = Fisher()) -> PerSample:  # noqa: B008 - frozen
    view = torch_view(subject.model).eval().requires_grad_(False)
    return PerSample(subject, GatedView(subject, view), criterion, DEVICE)


def test_gradients_equal_finite_differences() -> None:
    subject = open_model(residual())
    x, labels = normal(3, 3, 6, 6, seed=9), np.array([0, 3, 4])
    found = per_sample(subject)({"x": x}, labels)
    gated = GatedView(subject, torch_view(subject.model).eval().double())
    feeds, step = {"x": torch.as_tensor(x).double()}, 1e-5

    def loss(gates: torch.Tensor) -> torch.Tensor:
        logs = gated(feeds, gates)["y"].log_softmax(1)
        return -logs[torch.arange(3), torch.as_tensor(labels)]

    one = torch.ones(1, gated.number_of_groups, dtype=torch.float64)
    with torch.no_grad():
        for group in range(gated.number_of_groups):
            move = torch.zeros_like(one)
            move[0, group] = step
            want = (loss(one + move) - loss(one - move)) / (2 * step)
            np.testing.assert_allclose(found[:, group], want.numpy(), rtol=1e-3, atol=1e-5)


def test_gradients_equal_those_of_the_weights_that_read_a_channel() -> None:
    """A gate scales the input slices of its consumers' weights: sum of w * dL/dw over these."""
    subject = open_model(residual())
    x, labels = normal(4, 3, 6, 6, seed=9), np.array([1, 1, 2, 0])
    found = per_sample(subject)({"x": x}, labels)
    view = torch_view(subject.model).eval()
    graph = subject.graph
    readers = [("b", 1), ("c", 1), ("d", 1)]
    for b in range(4):
        view.zero_grad()
        y = view({"x": torch.as_tensor(x[b : b + 1])})["y"]
        torch.nn.functional.cross_entropy(y, torch.as_tensor(labels[b : b + 1])).backward()
        want = np.zeros(graph.number_of_groups)
        for name, axis in readers:
            w = view.get_parameter(name)
            products = (w * w.grad).detach().numpy()
            sums = products.sum(tuple(k for k in range(products.ndim) if k != axis))
            np.add.at(want, graph.axes[name, axis], sums)
        np.testing.assert_allclose(found[b], want, rtol=1e-3, atol=1e-6)


def test_one_pass_equals_a_loop_over_samples() -> None:
    subject = open_model(residual())
    feeds, labels = {"x": normal(6, 3, 6, 6, seed=9)}, np.arange(6) % CLASSES
    source = per_sample(subject)
    together = source(feeds, labels)
    assert source.together
    source.together = False
    np.testing.assert_allclose(source(feeds, labels), together, rtol=1e-3, atol=1e-6)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


@pytest.mark.parametrize("ends", ["", "Softmax", "LogSoftmax"])
def test_scores_of_a_linear_net_are_those_of_the_formula(tmp_path: Path, ends: str) -> None:
    """d (-log p_t) / d gate_j = (p - e_t) . D_j h_j."""
    model, spec = linear(ends), data(tmp_path)
    x, labels = np.load(spec.path)["x"], np.load(spec.path)["labels"]
    c, d = (model.graph.initializers[n].const_value.numpy().astype(float) for n in "cd")
    h = x @ c.T
    error = softmax(h @ d.T) - np.eye(CLASSES)[labels]
    gradients = (error @ d) * h
    graph = open_model(model).graph
    order = graph.axes["d", 1]
    stats = collect(open_model(model), Fisher(batch=4), Settings(data=spec), lambda _: None)
    assert stats.samples == 9
    for criterion, want in (
        (Fisher(), (gradients**2).mean(0) / 2),
        (Taylor(), abs(gradients).mean(0)),
        (Taylor(statistic="mean"), abs(gradients.mean(0))),
    ):
        scores = criterion(model, graph, stats)
        np.testing.assert_allclose(scores[order], want, rtol=1e-4, atol=1e-7)


def test_predictions_stand_in_for_labels(tmp_path: Path) -> None:
    model, spec = linear(), data(tmp_path)
    x = np.load(spec.path)["x"]
    c, d = (model.graph.initializers[n].const_value.numpy() for n in "cd")
    own = moments(model, Taylor(labels="self"), spec)
    np.savez(tmp_path / "own.npz", x=x, labels=(x @ c.T @ d.T).argmax(1))
    told = moments(model, Taylor(labels="data"), replace(spec, path=str(tmp_path / "own.npz")))
    np.testing.assert_allclose(own.mean, told.mean, rtol=1e-6)
    unlabelled = data(tmp_path, labelled=False)
    np.testing.assert_allclose(moments(model, Taylor(), unlabelled).mean, told.mean, rtol=1e-6)


@pytest.mark.parametrize("targets", ["sample", "sketch"])
def test_drawn_targets_give_the_fisher_information(tmp_path: Path, targets: str) -> None:
    model = linear()
    x = np.tile(normal(3, 3, seed=9) / 2, (2000, 1))
    np.savez(tmp_path / "many.npz", x=x)
    c, d = (model.graph.initializers[n].const_value.numpy().astype(float) for n in "cd")
    h = x[:3] @ c.T
    p = softmax(h @ d.T)
    each = [((p - np.eye(CLASSES)[y]) @ d * h) ** 2 * p[:, y : y + 1] for y in range(CLASSES)]
    want = np.sum(each, axis=0).mean(0)
    criterion = Fisher(samples=6000, batch=1000, targets=targets)
    found = moments(model, criterion, DataSpec(str(tmp_path / "many.npz")))
    assert found.mean is None  # their signs are random
    order = open_model(model).graph.axes["d", 1]
    np.testing.assert_allclose(found.mean_square[order], want, rtol=0.1)


def test_outputs_that_are_no_classes_are_held_by_their_distance(tmp_path: Path) -> None:
    """In a linear net, ||change of y||^2 / (2 ||y||^2) when channel j leaves: |D_j h_j|^2."""
    make = helper.make_node
    c, d = normal(7, 3, seed=1), normal(12, 7, seed=2)
    model = net(
        [
            make("Gemm", ["x", "c"], ["h"], "h", transB=1),
            make("Gemm", ["h", "d"], ["z"], "z", transB=1),
            make("Reshape", ["z", "shape"], ["y"], "y"),
        ],
        {"c": c, "d": d, "shape": np.array([-1, 3, 4])},
    )
    x = np.tile(normal(3, 3, seed=9), (2000, 1))
    np.savez(tmp_path / "many.npz", x=x, labels=np.zeros(6000, int))
    spec = DataSpec(str(tmp_path / "many.npz"))
    h = x[:3] @ c.T
    size = ((h @ d.T) ** 2).sum(1, keepdims=True)
    want = (h**2 * (d**2).sum(0) / size).mean(0) / 2
    criterion = Fisher(samples=6000, batch=1000)
    stats = collect(open_model(model), criterion, Settings(data=spec), lambda _: None)
    graph = open_model(model).graph
    scores = criterion(model, graph, stats)[graph.axes["d", 1]]
    np.testing.assert_allclose(scores, want, rtol=0.1)
    with pytest.raises(DataError, match="labels=data"):
        moments(model, Fisher(labels="data"), spec)
    with pytest.raises(UsageError, match="statistic=mean"):
        Taylor(statistic="mean")(model, graph, stats)


def test_samples_that_depend_on_each_other_are_taken_one_by_one() -> None:
    """The batch's mean is taken off: one pass would mix the gates of all samples."""
    make = helper.make_node
    model = net(
        [
            make("Gemm", ["x", "c"], ["h"], "h", transB=1),
            make("Gemm", ["h", "d"], ["z"], "z", transB=1),
            make("ReduceMean", ["z"], ["m"], "m", axes=[0]),
            make("Sub", ["z", "m"], ["y"], "y"),
        ],
        {"c": normal(7, 3, seed=1), "d": normal(CLASSES, 7, seed=2)},
    )
    source = per_sample(open_model(model))
    source({"x": normal(4, 3, seed=9)}, np.arange(4))
    assert source.together is False


def test_the_same_seed_gives_the_same_scores(tmp_path: Path) -> None:
    spec = data(tmp_path, rank=4)
    criterion = Fisher(labels="self")
    a, b = (moments(residual(), criterion, spec) for _ in range(2))
    np.testing.assert_array_equal(a.mean_square, b.mean_square)
    other = moments(residual(), replace(criterion, seed=1), spec)
    assert not np.array_equal(a.mean_square, other.mean_square)


def test_the_first_samples_are_used(tmp_path: Path) -> None:
    spec = data(tmp_path)
    stats = [
        collect(open_model(linear()), criterion, Settings(data=given), lambda _: None)
        for criterion, given in (
            (Fisher(samples=4), spec),
            (Fisher(), replace(spec, limit=4)),
            (Fisher(samples=7), replace(spec, limit=4)),
        )
    ]
    assert [found.samples for found in stats] == [4, 4, 4]


@pytest.mark.parametrize(
    ("labelled", "change", "message"),
    [
        (False, lambda labels: labels, "labels=data: the data has no labels"),
        (True, lambda labels: labels + 1, r"\.npz: labels lie in"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    tmp_path: Path, labelled: bool, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    spec = data(tmp_path, labelled=labelled)
    if labelled:
        stored = np.load(spec.path)
        np.savez(spec.path, x=stored["x"], labels=change(stored["labels"]))
    with pytest.raises(DataError, match=message):
        moments(linear(), Fisher(labels="data"), spec)


def test_an_overflow_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "large.npz", x=np.full((2, 3), 3e38, np.float32), labels=[0, 1])
    with pytest.raises(DataError, match="not finite on samples 0 to 1"):
        moments(linear(), Fisher(), DataSpec(str(tmp_path / "large.npz")))
