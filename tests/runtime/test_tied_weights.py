"""A weight that one node reads as it is and another transposed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunec.passes.criteria.reconstruction import Reconstruction
from prunec.passes.options import Options
from prunec.passes.recovery.sites import find_sites
from prunec.runtime.compile import Settings, compile_model, plan_for
from prunec.runtime.data import DataSpec
from prunec.runtime.subject import Subject, open_model

pytest.importorskip("onnxruntime")


@pytest.fixture
def tied() -> Subject:
    """x (batch, 6) -> W (6, 8) -> Relu -> W' -> Relu -> out (6, 3)."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["code"], "encode"),
        helper.make_node("Relu", ["code"], ["fires"], "relu"),
        helper.make_node("Gemm", ["fires", "w"], ["back"], "decode", transB=1),
        helper.make_node("Gemm", ["back", "out"], ["y"], "last"),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tied",
        [info("x", TensorProto.FLOAT, ["batch", 6])],
        [info("y", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
            for name, shape in (("w", (6, 8)), ("out", (6, 3)))
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 9
    return open_model(proto)


def test_it_is_left_alone_and_said_so(tied: Subject) -> None:
    sites, notes = find_sites(tied.model, tied.facts)
    assert [site.weight.name for site in sites] == ["out"]
    assert {note.node for note in notes} == {"encode", "decode"}


def test_such_models_are_scored_and_recovered(tied: Subject, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(1).standard_normal((40, 6)).astype(np.float32))
    settings = Settings(data=DataSpec(str(path)))
    plan = plan_for(tied, "params=0.7", Options(Reconstruction(), align=1), settings)
    assert compile_model(tied, plan, settings).report.recovery is not None
