"""Small networks and data that can be learned in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prunec.frontends.onnx import load
from prunec.runtime.chunks import Chunk
from prunec.runtime.inputs import model_inputs
from prunec.runtime.training.indexed import ArrayStore, Indexed
from prunec.runtime.training.losses import Objective
from prunec.runtime.training.settings import TrainSettings

CLASSES = 4
CPU = TrainSettings(epochs=2, batch=16, device="cpu", threads=1)


def net(
    channels: int = 8,
    *,
    norm: bool = True,
    softmax: bool = False,
    batch: int | str = "N",
    classes: int = CLASSES,
    seed: int = 0,
    name: str = "x",
) -> onnx.ModelProto:
    """Conv, (BatchNormalization,) Relu, global pool, Flatten, Gemm (, Softmax); 4 x 4 images."""
    rng = np.random.default_rng(seed)
    node = helper.make_node
    weights = {
        "w": rng.standard_normal((channels, 3, 3, 3)) * 0.3,
        "b": rng.standard_normal(channels) * 0.1,
        "fc": rng.standard_normal((classes, channels)) * 0.3,
        "fb": np.zeros(classes),
    }
    nodes = [node("Conv", [name, "w", "b"], ["c"], pads=[1, 1, 1, 1], name="conv")]
    if norm:
        weights |= {"g": np.ones(channels), "s": np.zeros(channels)}
        weights |= {"m": np.zeros(channels), "v": np.ones(channels)}
        nodes.append(node("BatchNormalization", ["c", "g", "s", "m", "v"], ["n"], name="norm"))
    nodes += [
        node("Relu", ["n" if norm else "c"], ["r"], name="relu"),
        node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        node("Flatten", ["p"], ["f"], name="flat"),
        node("Gemm", ["f", "fc", "fb"], ["z" if softmax else "y"], transB=1, name="head"),
    ]
    nodes += [node("Softmax", ["z"], ["y"], axis=1, name="softmax")] if softmax else []
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (batch, 3, 4, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (batch, classes))],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"author": "somebody"})
    return model


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def images(samples: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, (samples, 3, 4, 4), brighter in one colour or dark in all: four classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, samples)
    x = rng.standard_normal((samples, 3, 4, 4)).astype(np.float32)
    for k in range(3):
        x[labels == k, k] += 1.5
    return x, labels


def arrays(path: Path, samples: int = 96, *, labels: bool = True, seed: int = 0) -> Path:
    """An .npz of `images`."""
    x, y = images(samples, seed)
    np.savez(path, x=x, **({"labels": y} if labels else {}))
    return path


def indexed(samples: int = 96, batch: int = 16, *, seed: int = 0) -> Indexed:
    """`images` as training data."""
    x, y = images(samples, seed)
    inputs = model_inputs(load(net()))
    return Indexed(ArrayStore(Chunk({"x": x}, y, "memory")), inputs, np.arange(samples), batch)


def by_labels() -> Objective:
    """Cross entropy with the labels."""
    return Objective(outputs=[("y", "y")], labels=True)


def flat(parts: list[list[int]]) -> list[int]:
    """The numbers of all parts."""
    return [number for part in parts for number in part]
