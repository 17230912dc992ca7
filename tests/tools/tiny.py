"""Small models for the command line, and a way to run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.tools.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    def complaint(self) -> str:
        """The one line on stderr; nothing on stdout, no traceback."""
        assert self.out == "", self.out
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("prunec: "), self.err
        assert "Traceback" not in self.err
        assert "internal error" not in self.err, self.err
        return self.err


def prunec(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    capsys.readouterr()
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return Outcome(code, captured.out, captured.err)


def files(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden files too."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model_of(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    *,
    shape: tuple[int | str, ...] = (1, 3, 6, 6),
    out: tuple[int | str | None, ...] = (None, None),
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(a, name) for name, a in weights.items()],
    )
    imports = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def two_convs(channels: int = 16, batch: int | str = "N") -> onnx.ModelProto:
    """Conv, Relu, Conv, global pool, Flatten, Gemm: two hyperedges."""
    node = helper.make_node
    return model_of(
        [
            node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], name="first"),
            node("Relu", ["c1"], ["r1"], name="relu"),
            node("Conv", ["r1", "w2"], ["c2"], name="second"),
            node("GlobalAveragePool", ["c2"], ["g"], name="pool"),
            node("Flatten", ["g"], ["f"], name="flat"),
            node("Gemm", ["f", "w3", "b3"], ["y"], transB=1, name="head"),
        ],
        {
            "w1": array(channels, 3, 3, 3, seed=1),
            "b1": array(channels, seed=2),
            "w2": array(channels, channels, 3, 3, seed=3),
            "w3": array(10, channels, seed=4),
            "b3": array(10, seed=5),
        },
        shape=(batch, 3, 6, 6),
        out=(batch, 10),
    )


def without_channels() -> onnx.ModelProto:
    """Nothing but a Relu."""
    return model_of([helper.make_node("Relu", ["x"], ["y"])], {}, out=(1, 3, 6, 6))


def unknown_domain() -> onnx.ModelProto:
    """two_convs with an operator of nobody's between the convolutions."""
    model = two_convs()
    model.graph.node[1].CopyFrom(
        helper.make_node("Mystery", ["c1"], ["r1"], domain="org.nobody", name="riddle")
    )
    model.opset_import.append(helper.make_opsetid("org.nobody", 1))
    model.graph.value_info.append(
        helper.make_tensor_value_info("r1", TensorProto.FLOAT, ["N", 16, 6, 6])
    )
    return model


def mixed() -> onnx.ModelProto:
    """Conv, Mix (an operator that nobody knows, nor its shape), Conv."""
    node = helper.make_node
    return model_of(
        [
            node("Conv", ["x", "a"], ["u"], name="first"),
            node("Mix", ["u", "m"], ["v"], domain="example", name="mix"),
            node("Conv", ["v", "b"], ["y"], name="last"),
        ],
        {"a": array(8, 3, 1, 1), "m": array(8, 8), "b": array(2, 8, 1, 1)},
        shape=("N", 3, 6, 6),
        out=("N", 2, 6, 6),
        domains=("example",),
    )


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path
