"""Evidence about kernels: from data, against other ways to compute it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.compiler.errors import DataError, UsageError
from prunec.passes.regroup.sites import Site, group_sites
from prunec.runtime.compile import Settings
from prunec.runtime.data import DataSpec
from prunec.runtime.kernel_scores import kernel_scores
from prunec.runtime.subject import Subject, open_model

pytest.importorskip("onnxruntime")
SAMPLES, CLASSES = 6, 3


def net() -> onnx.ModelProto:
    """A shared convolution, read twice, one of its own, and classes."""
    draw = np.random.default_rng(0)
    weights = {
        "a": draw.standard_normal((4, 4, 3, 3)),
        "b": draw.standard_normal((6, 4, 1, 1)),
        "c": draw.standard_normal((6, CLASSES)),
    }
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "a"], ["p"], "first", pads=[1, 1, 1, 1]),
        make("Relu", ["p"], ["q"], "relu"),
        make("Conv", ["q", "a"], ["r"], "second", pads=[1, 1, 1, 1]),
        make("Conv", ["r", "b"], ["s"], "third"),
        make("GlobalAveragePool", ["s"], ["t"], "pool"),
        make("Flatten", ["t"], ["u"], "flat"),
        make("MatMul", ["u", "c"], ["y"], "classes"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


@pytest.fixture
def given(tmp_path: Path) -> tuple[Subject, Sequence[Site], Settings]:
    subject = open_model(net())
    draw = np.random.default_rng(1)
    path = tmp_path / "data.npz"
    images = draw.standard_normal((SAMPLES, 4, 5, 5)).astype(np.float32)
    np.savez(path, x=images, label=draw.integers(0, CLASSES, SAMPLES))
    sites = group_sites(subject.model, subject.facts, subject.graph)
    assert [site.weight for site in sites] == ["a", "b"]
    return subject, sites, Settings(data=DataSpec(str(path)))


def scores(given: tuple[Subject, Sequence[Site], Settings], spec: str) -> dict[str, np.ndarray]:
    return kernel_scores(*given[:2], spec, given[2], lambda _: None)


def test_magnitude_needs_no_data(given: tuple[Subject, Sequence[Site], Settings]) -> None:
    found = kernel_scores(*given[:2], "magnitude", Settings(), lambda _: None)
    assert {name: score.shape for name, score in found.items()} == {"a": (4, 4), "b": (6, 4)}


@pytest.mark.parametrize("spec", ["activation", "taylor", "fisher"])
def test_others_say_that_they_need_data(
    given: tuple[Subject, Sequence[Site], Settings], spec: str
) -> None:
    with pytest.raises(UsageError, match=f"--group-score {spec} needs data"):
        kernel_scores(*given[:2], spec, Settings(), lambda _: None)


def test_activation_is_what_each_channel_adds_by_itself(
    given: tuple[Subject, Sequence[Site], Settings],
) -> None:
    """Zeroing all channels but one of what a 1x1 convolution reads leaves its energy."""
    from prunec.runtime.session import make_session

    found = scores(given, "activation")["b"]
    model = net()
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, None))
    assert given[2].data is not None
    x = np.load(given[2].data.path)["x"]
    import onnx_ir as ir

    session = make_session(ir.from_proto(model))
    (r,) = session.run({"x": x}, ["r"])
    b = numpy_helper.to_array(model.graph.initializer[1])[:, :, 0, 0]
    energy = np.square(b[:, :, None] * r.transpose(1, 0, 2, 3).reshape(4, -1)).mean(2)
    np.testing.assert_allclose(found, energy, rtol=1e-5)


def gradients(given: tuple[Subject, Sequence[Site], Settings]) -> dict[str, np.ndarray]:
    """Weight -> (samples, F, C, *K) gradients of each sample's cross entropy, by torch itself."""
    torch = pytest.importorskip("torch")
    assert given[2].data is not None
    data = np.load(given[2].data.path)
    w = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in net().graph.initializer}
    own = {n: w[n].requires_grad_() for n in "ab"}
    conv, out = torch.nn.functional.conv2d, {n: [] for n in own}
    for x, label in zip(torch.tensor(data["x"]), torch.tensor(data["label"]), strict=True):
        inner = conv(conv(x[None], own["a"], padding=1).relu(), own["a"], padding=1)
        y = conv(inner, own["b"]).mean((2, 3)) @ w["c"]
        loss = torch.nn.functional.cross_entropy(y, label[None])
        for name, g in zip(own, torch.autograd.grad(loss, list(own.values())), strict=True):
            out[name].append(g.numpy())
    return {name: np.stack(parts) for name, parts in out.items()}


def weights() -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in net().graph.initializer}


def test_taylor_is_a_mean_over_batches(
    given: tuple[Subject, Sequence[Site], Settings],
) -> None:
    expected = gradients(given)
    for batch in (1, 3, SAMPLES):
        found = scores(given, f"taylor{{batch={batch}}}")
        for name, g in expected.items():
            each = g.reshape(SAMPLES // batch, batch, *g.shape[1:]).mean(1)
            want = (np.abs(each).mean(0) * np.abs(weights()[name])).sum((2, 3))
            np.testing.assert_allclose(found[name], want, rtol=1e-4)


def test_fisher_is_the_mean_of_squares_of_single_samples(
    given: tuple[Subject, Sequence[Site], Settings],
) -> None:
    """Exactly with one sample a batch; in the mean over signs with more."""
    exact = {
        name: (np.square(g).mean(0) * np.square(weights()[name])).sum((2, 3)) / 2
        for name, g in gradients(given).items()
    }
    found = scores(given, "fisher{batch=1}")
    drawn = [scores(given, f"fisher{{batch={SAMPLES},seed={k}}}") for k in range(40)]
    for name, want in exact.items():
        np.testing.assert_allclose(found[name], want, rtol=1e-4)
        mean = np.mean([own[name] for own in drawn], axis=0)
        assert mean.sum() == pytest.approx(want.sum(), rel=0.2)


def test_scores_repeat(given: tuple[Subject, Sequence[Site], Settings]) -> None:
    pytest.importorskip("torch")
    for spec in ("activation{positions=4}", "fisher{targets=sketch,labels=self}"):
        first, second = scores(given, spec), scores(given, spec)
        assert all((first[name] == second[name]).all() for name in first)


def test_models_that_overflow_are_refused(
    given: tuple[Subject, Sequence[Site], Settings], tmp_path: Path
) -> None:
    path = tmp_path / "large.npz"
    np.savez(path, x=np.full((2, 4, 5, 5), 1e38, np.float32))
    settings = Settings(data=DataSpec(str(path)))
    with pytest.raises(DataError, match="not finite"):
        kernel_scores(*given[:2], "activation", settings, lambda _: None)
