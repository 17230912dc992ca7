"""What the kept channels still say is found: the outputs are the dense ones again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from doubled import HALF, Net, error, recovered, samples

pytest.importorskip("onnxruntime")
Build = Callable[[], tuple[Net, onnx.ModelProto]]


def conv() -> tuple[Net, onnx.ModelProto]:
    net = Net()
    a = net.twice("x", "a", 3)
    net.reader("b.w", 5, 2 * HALF, 3, 3)
    net.add("Conv", [a, "b.w", net.store("b.b", net.draw(5))], "y", pads=[1] * 4)
    return net, net.model("y", ("n", 5, 6, 6))


def strided_groups() -> tuple[Net, onnx.ModelProto]:
    """Two groups, in which every channel of a comes twice."""
    net = Net()
    w, b = net.draw(2, 3, 3, 3), net.draw(2)
    net.store("a.w", np.concatenate([w, w / 2, w, w / 2]))
    net.store("a.b", np.concatenate([b, b / 2, b, b / 2]))
    net.add("Conv", ["x", "a.w", "a.b"], "a.y", pads=[1] * 4)
    a = net.add("Relu", ["a.y"], "a")
    net.reader("b.w", 4, HALF, 3, 3)
    net.add("Conv", [a, "b.w"], "y", group=2, strides=[2, 2], dilations=[2, 1])
    return net, net.model("y", ("n", 4, 1, 2))


def folded_norm() -> tuple[Net, onnx.ModelProto]:
    net = Net()
    a = net.twice("x", "a", 3)
    net.reader("b.w", 5, 2 * HALF, 3, 3)
    net.norm(net.add("Conv", [a, "b.w"], "b.y", auto_pad="SAME_UPPER"), "bn", 5)
    net.add("Relu", ["bn"], "y")
    return net, net.model("y", ("n", 5, 6, 6))


def depthwise_between() -> tuple[Net, onnx.ModelProto]:
    net = Net()
    a = net.twice("x", "a", 3)
    w = net.draw(HALF, 1, 3, 3)
    net.store("d.w", np.concatenate([w, w]))
    d = net.add("Conv", [a, "d.w"], "d", group=2 * HALF, pads=[1] * 4)
    net.reader("b.w", 5, 2 * HALF, 1, 1)
    net.add("Conv", [d, "b.w"], "y")
    return net, net.model("y", ("n", 5, 6, 6))


def transposed() -> tuple[Net, onnx.ModelProto]:
    net = Net()
    a = net.twice("x", "a", 3)
    net.reader("b.w", 2 * HALF, 5, 3, 3, axis=0)
    net.add("ConvTranspose", [a, "b.w"], "y", strides=[2, 2])
    return net, net.model("y", ("n", 5, 13, 13))


def one_dimension() -> tuple[Net, onnx.ModelProto]:
    net = Net((3, 20))
    a = net.twice("x", "a", 3, (3,))
    net.reader("b.w", 5, 2 * HALF, 3)
    net.add("Conv", [a, "b.w"], "y")
    return net, net.model("y", ("n", 5, 18))


def three_dimensions() -> tuple[Net, onnx.ModelProto]:
    net = Net((2, 5, 4, 4))
    a = net.twice("x", "a", 2, (3, 3, 3))
    net.reader("b.w", 5, 2 * HALF, 3, 1, 3)
    net.add("Conv", [a, "b.w"], "y")
    return net, net.model("y", ("n", 5, 3, 4, 2))


def pooled_gemm() -> tuple[Net, onnx.ModelProto]:
    net = Net()
    a = net.twice("x", "a", 3)
    flat = net.add("Flatten", [net.add("GlobalAveragePool", [a], "p")], "f")
    net.reader("b.w", 7, 2 * HALF)
    bias = net.store("b.b", net.draw(7))
    net.add("Gemm", [flat, "b.w", bias], "y", transB=1, alpha=0.5, beta=2.0)
    return net, net.model("y", ("n", 7))


def tokens() -> tuple[Net, onnx.ModelProto]:
    """Channels last, a matrix, a bias and a residual sum of what the projection does not change."""
    net = Net()
    a = net.twice("x", "a", 3)
    t = net.add("Transpose", [a], "t", perm=[0, 2, 3, 1])
    net.reader("b.w", 2 * HALF, 3, axis=0)
    m = net.add("MatMul", [t, "b.w"], "m")
    branch = net.add("Add", [net.store("b.b", net.draw(3)), m], "branch")
    stream = net.add("Transpose", ["x"], "stream", perm=[0, 2, 3, 1])
    net.add("Add", [stream, branch], "y")
    return net, net.model("y", ("n", 6, 6, 3))


def turned_weight() -> tuple[Net, onnx.ModelProto]:
    """A weight behind a Transpose."""
    net = Net()
    a = net.twice("x", "a", 3)
    t = net.add("Transpose", [a], "t", perm=[0, 2, 3, 1])
    net.reader("b.w", 5, 2 * HALF)
    turned = net.add("Transpose", ["b.w"], "b.t", perm=[1, 0])
    net.add("MatMul", [t, turned], "y")
    return net, net.model("y", ("n", 6, 6, 5))


NETS: tuple[Build, ...] = (
    conv,
    strided_groups,
    folded_norm,
    depthwise_between,
    transposed,
    one_dimension,
    three_dimensions,
    pooled_gemm,
    tokens,
    turned_weight,
)


@pytest.mark.parametrize("build", NETS, ids=lambda build: build.__name__)
def test_the_dense_outputs_come_back(build: Build, tmp_path: Path) -> None:
    net, model = build()
    subject, sliced, out, report = recovered(
        model, samples(tmp_path, net), kept=2 if build is strided_groups else HALF
    )
    assert error(subject, sliced, net) > 0.02, "slicing alone must lose something"
    assert error(subject, out, net) < 1e-5
    assert report.repairs
    assert all(r.after <= r.before for r in report.repairs)
